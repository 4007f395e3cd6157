// Program cluster runs a real Kubernetes on one machine: etcd, API server, controller manager, scheduler, CoreDNS and
// three nodes with kubelet, containerd and kube-proxy, each node in a network namespace of its own.
//
// What must hold: a cluster touches nothing outside its own namespaces, folders and cgroups; `up` on a healthy cluster
// does nothing; `down` leaves nothing behind, whatever state it finds; two clusters of different names don't meet.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const usage = `cluster: a real Kubernetes on one machine
  cluster up     --name NAME --state DIR --tools DIR           start it; three Ready nodes
  cluster down   --name NAME --state DIR                       take it all away
  cluster status --name NAME --state DIR                       exit 0 when it is up and healthy
  cluster load   --name NAME --state DIR --tools DIR FILE...   import image archives into every node
  cluster cut    --name NAME --state DIR NODE                  take a node's network link down
  cluster heal   --name NAME --state DIR NODE                  and up again
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("name a verb")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	name := flags.String("name", "up", "name of the cluster")
	state := flags.String("state", "", "folder for kubeconfig, audit log and logs")
	tools := flags.String("tools", "", "folder of the programs that the cluster runs")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	layout, err := newLayout(*name, *state, *tools)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("network namespaces, mounts and cgroups need root: run this with sudo")
	}
	switch args[0] {
	case "up":
		return locked(layout, func() error { return up(layout) })
	case "down":
		return locked(layout, func() error { return down(layout) })
	case "status":
		return healthy(layout)
	case "load":
		return locked(layout, func() error { return load(layout, flags.Args()) })
	case "cut", "heal":
		if flags.NArg() != 1 {
			return fmt.Errorf("%s: name one node", args[0])
		}
		return setLink(layout, flags.Arg(0), args[0] == "heal")
	case "provision":
		return provision(layout)
	default:
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("unknown verb %q", args[0])
	}
}

// up starts the cluster, unless it runs and is healthy. What an interrupted run left is taken away first.
func up(l *Layout) error {
	if err := healthy(l); err == nil {
		fmt.Println("the cluster is up already")
		return nil
	}
	if err := down(l); err != nil {
		return fmt.Errorf("taking away what an earlier run left: %w", err)
	}
	steps := []struct {
		title string
		run   func(*Layout) error
	}{
		{"folders", makeFolders},
		{"certificates", writeCertificates},
		{"network", makeNetwork},
		{"cgroups", makeCgroups},
		{"control plane", startControlPlane},
		{"nodes", startNodes},
		{"add-ons", installAddons},
		{"nodes are ready", waitForNodes},
	}
	for _, step := range steps {
		fmt.Println(step.title)
		if err := step.run(l); err != nil {
			return fmt.Errorf("%s: %w (logs: %s)", step.title, err, l.Logs())
		}
	}
	return nil
}

// locked runs f while no other process changes the same cluster.
func locked(l *Layout, f func() error) error {
	if err := os.MkdirAll(runRoot, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(runRoot, l.Name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return f()
}
