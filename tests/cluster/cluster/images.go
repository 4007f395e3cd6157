package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// load imports image archives into every node; a node that has an archive's content already is left alone.
func load(l *Layout, archives []string) error {
	type archive struct{ path, digest string }
	var wanted []archive
	for _, path := range archives {
		digest, err := digestOf(path)
		if err != nil {
			return err
		}
		wanted = append(wanted, archive{path, digest})
	}
	failed := make([]error, nodeCount)
	var group sync.WaitGroup
	for place, node := range l.Nodes() {
		group.Go(func() {
			for _, archive := range wanted {
				if err := loadOne(node, archive.path, archive.digest); err != nil {
					failed[place] = fmt.Errorf("%s: importing %s: %w", node.NodeName(), archive.path, err)
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

func loadOne(node Node, path, digest string) error {
	mark := filepath.Join(node.NodeData(), "loaded", digest)
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	importArchive := func() error {
		output, err := exec.Command(node.Tool("ctr"), "--address", node.Socket(), "--namespace", "k8s.io",
			"images", "import", path).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	}
	if err := waitFor("containerd answers", 30*time.Second, importArchive); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

func digestOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
