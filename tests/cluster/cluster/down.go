package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// down takes away everything of the cluster, whatever state it is in. The order matters: who starts processes ends
// before those that it started, and a mount is free only when nobody uses it.
func down(l *Layout) error {
	all := func() []int {
		var pids []int
		for _, ns := range slices.Backward(namespaces(l)) {
			pids = append(pids, processesIn(ns)...)
		}
		return append(pids, processesInCgroups(l)...)
	}
	sockets := shimSockets(l)
	if err := endProcesses(all); err != nil {
		return err
	}
	for _, socket := range sockets {
		_ = os.Remove(socket)
	}
	steps := []func(*Layout) error{unmountAll, removeNetwork, removeCgroups, removeNetworkCache, removeFolders}
	for _, step := range steps {
		// What a process held is given back a moment after its end.
		if err := waitFor("taking it away", 10*time.Second, func() error { return step(l) }); err != nil {
			return err
		}
	}
	return nil
}

// shimSockets are the sockets of the cluster's container shims, which containerd keeps in one folder for the whole
// machine. The kernel lists a socket in the network namespace of its process, so these are ours and nobody else's.
func shimSockets(l *Layout) []string {
	var found []string
	for _, node := range l.Nodes() {
		pids := processesIn(node.NodeNetns())
		if len(pids) == 0 {
			continue
		}
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pids[0]))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			words := strings.Fields(line)
			if path := words[len(words)-1]; strings.HasPrefix(path, "/run/containerd/s/") {
				found = append(found, path)
			}
		}
	}
	return found
}

// unmountAll unmounts everything below the cluster's folders, the last mount first. A loop device goes with its mount.
func unmountAll(l *Layout) error {
	for {
		mounts, err := mountsBelow(l.Run(), l.Data())
		if err != nil || len(mounts) == 0 {
			return err
		}
		for _, mount := range slices.Backward(mounts) {
			if err := syscall.Unmount(mount, 0); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
				return fmt.Errorf("unmounting %s: %w", mount, err)
			}
		}
	}
}

func mountsBelow(folders ...string) ([]string, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		path := strings.ReplaceAll(words[4], `\040`, " ")
		for _, folder := range folders {
			if path == folder || strings.HasPrefix(path, folder+"/") {
				found = append(found, path)
			}
		}
	}
	return found, lines.Err()
}

// removeNetworkCache removes what the container network plugins remember of the cluster's pods outside its folders.
func removeNetworkCache(l *Layout) error {
	const cache = "/var/lib/cni/results"
	entries, err := os.ReadDir(cache)
	if err != nil {
		return nil // There is no cache.
	}
	for _, entry := range entries {
		path := filepath.Join(cache, entry.Name())
		content, err := os.ReadFile(path)
		if err == nil && bytes.Contains(content, []byte(l.Run()+"/")) {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func removeFolders(l *Layout) error {
	for _, path := range []string{l.Run(), l.Data(), l.Kubeconfig()} {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	// Gone when this was the last cluster.
	_ = os.Remove(dataRoot)
	return nil
}
