package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// shell runs a command that takes no quoting and returns its output as the error's text when it fails.
func shell(command string) error {
	words := strings.Fields(command)
	output, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, bytes.TrimSpace(output))
	}
	return nil
}

// start runs a program inside a network namespace, in a session of its own, its output in a log file. It is found
// again by its namespace, so no list of processes can be out of date.
func start(l *Layout, ns, log, program string, args ...string) error {
	file, err := os.OpenFile(filepath.Join(l.Logs(), log+".log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer file.Close()
	arguments := append([]string{"--net=" + filepath.Join("/run/netns", ns), program}, args...)
	command := exec.Command("nsenter", arguments...)
	command.Stdout, command.Stderr = file, file
	command.Dir = l.Data()
	// A clean environment: nothing of the caller's, no secret and no KUBECONFIG, reaches a component.
	command.Env = []string{"PATH=" + l.Tools + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + l.Data()}
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	return command.Process.Release()
}

// processesIn are the processes in a network namespace.
func processesIn(ns string) []int {
	if _, err := os.Stat(filepath.Join("/run/netns", ns)); err != nil {
		return nil
	}
	output, err := exec.Command("ip", "netns", "pids", ns).Output()
	if err != nil {
		return nil
	}
	return numbers(output)
}

func numbers(text []byte) []int {
	var found []int
	for word := range strings.FieldsSeq(string(text)) {
		if number, err := strconv.Atoi(word); err == nil && number > 1 {
			found = append(found, number)
		}
	}
	return found
}

// endProcesses kills what `list` finds until it finds nothing. A test cluster's state is thrown away with it, so
// nobody is asked politely.
func endProcesses(list func() []int) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		pids := list()
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// waitFor polls a condition until it holds or the time is over.
func waitFor(what string, limit time.Duration, condition func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s not after %s: %w", what, limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
