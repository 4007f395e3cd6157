package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const cgroupRoot = "/sys/fs/cgroup"

// hasUnifiedCgroups tells whether the machine has cgroup v2 alone.
func hasUnifiedCgroups() bool {
	_, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers"))
	return err == nil
}

// hierarchies are the mount points under which a cgroup has to be made: one for v2, one per controller for v1.
func hierarchies() ([]string, error) {
	if hasUnifiedCgroups() {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		path := filepath.Join(cgroupRoot, entry.Name())
		if _, err := os.Stat(filepath.Join(path, "cgroup.procs")); err == nil && entry.IsDir() {
			found = append(found, path)
		}
	}
	return found, nil
}

// makeCgroups makes every node's cgroup in every hierarchy. A v1 cpuset is empty when it is made, and nothing can run
// in it until its processors and memory are named.
func makeCgroups(l *Layout) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	if hasUnifiedCgroups() {
		controllers := []byte("+cpu +cpuset +memory +pids +io")
		if err := os.WriteFile(filepath.Join(cgroupRoot, "cgroup.subtree_control"), controllers, 0o644); err != nil {
			return err
		}
	}
	for _, root := range roots {
		for _, node := range l.Nodes() {
			path := filepath.Join(root, node.Cgroup())
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
				if content, err := os.ReadFile(filepath.Join(root, name)); err == nil && len(bytes.TrimSpace(content)) > 0 {
					if err := os.WriteFile(filepath.Join(path, name), content, 0o644); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// walkCgroups shows every cgroup of the cluster, the deepest first.
func walkCgroups(l *Layout, visit func(path string)) {
	roots, err := hierarchies()
	if err != nil {
		return
	}
	for _, root := range roots {
		for _, node := range l.Nodes() {
			var paths []string
			_ = filepath.WalkDir(filepath.Join(root, node.Cgroup()), func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					paths = append(paths, path)
				}
				return nil
			})
			for _, path := range slices.Backward(paths) {
				visit(path)
			}
		}
	}
}

// processesInCgroups are the processes of all pods.
func processesInCgroups(l *Layout) []int {
	var found []int
	walkCgroups(l, func(path string) {
		if content, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err == nil {
			found = append(found, numbers(content)...)
		}
	})
	return found
}

// removeCgroups removes the cgroups, which must be empty of processes.
func removeCgroups(l *Layout) error {
	var failed error
	walkCgroups(l, func(path string) {
		if err := os.Remove(path); err != nil && failed == nil {
			failed = err
		}
	})
	return failed
}
