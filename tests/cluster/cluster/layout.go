package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"regexp"
)

const (
	// runRoot holds sockets and what a reboot may forget. Short, because a unix socket's path has at most 107 bytes.
	runRoot = "/run/kvs-cluster"
	// dataRoot holds images, volumes and etcd's data.
	dataRoot = "/var/lib/kvs-cluster"
	// nodeCount is how many nodes a cluster has: three, for spread, drains and the quorum to come.
	nodeCount = 3
	// podNetwork is every pod's address; node N has 10.244.N.0/24. It exists only inside the namespaces.
	podNetwork = "10.244.0.0/16"
	// serviceNetwork is every Service's address.
	serviceNetwork = "10.96.0.0/16"
	// kubernetesService is the API server's address inside pods.
	kubernetesService = "10.96.0.1"
)

// Layout says where everything of one cluster is.
type Layout struct {
	// Name is the cluster's: at most 8 lower-case letters and digits, because it is part of interface names.
	Name string
	// State is the folder that people look into: kubeconfig, audit log, logs.
	State string
	// Tools is the folder of the programs that the cluster runs.
	Tools string
	// subnet is the third of four parts of its addresses, 10.SUBNET.0.0/24.
	subnet int
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

func newLayout(name, state, tools string) (*Layout, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("--name %q: use at most 8 lower-case letters and digits", name)
	}
	if state == "" {
		return nil, errors.New("--state: name a folder")
	}
	state, err := filepath.Abs(state)
	if err != nil {
		return nil, err
	}
	if tools != "" {
		if tools, err = filepath.Abs(tools); err != nil {
			return nil, err
		}
	}
	return &Layout{Name: name, State: state, Tools: tools, subnet: subnetOf(name)}, nil
}

// subnetOf gives the two usual clusters fixed addresses and every other name one of 50.
func subnetOf(name string) int {
	switch name {
	case "up":
		return 201
	case "test":
		return 202
	}
	hash := fnv.New32a()
	hash.Write([]byte(name))
	return 203 + int(hash.Sum32()%50)
}

// Host is the address of the control plane, on the bridge that all nodes are joined to.
func (l *Layout) Host() string { return fmt.Sprintf("10.%d.0.1", l.subnet) }

// Outside is this machine's own address on that bridge.
func (l *Layout) Outside() string { return fmt.Sprintf("10.%d.0.254", l.subnet) }

// Run is the cluster's folder for sockets.
func (l *Layout) Run() string { return filepath.Join(runRoot, l.Name) }

// Data is the cluster's folder for images, volumes and etcd.
func (l *Layout) Data() string { return filepath.Join(dataRoot, l.Name) }

// PKI is the folder of certificates, keys and the components' kubeconfigs.
func (l *Layout) PKI() string { return filepath.Join(l.Data(), "pki") }

// Logs is the folder of the components' logs.
func (l *Layout) Logs() string { return filepath.Join(l.State, "logs") }

// Kubeconfig is the file for people and tests: cluster administrator.
func (l *Layout) Kubeconfig() string { return filepath.Join(l.State, "kubeconfig") }

// Server is the API server's address.
func (l *Layout) Server() string { return "https://" + l.Host() + ":6443" }

// Tool is the path of a program.
func (l *Layout) Tool(name string) string { return filepath.Join(l.Tools, name) }

// Netns is the name of the control plane's network namespace.
func (l *Layout) Netns() string { return "kvs-" + l.Name }

// Nodes are the cluster's nodes.
func (l *Layout) Nodes() []Node {
	nodes := make([]Node, 0, nodeCount)
	for number := 1; number <= nodeCount; number++ {
		nodes = append(nodes, Node{Layout: l, Number: number})
	}
	return nodes
}

// Node is one node of a cluster.
type Node struct {
	*Layout
	// Number is from 1.
	Number int
}

// NodeName is the name of the Node object.
func (n Node) NodeName() string { return fmt.Sprintf("node%d", n.Number) }

// Address is the node's address.
func (n Node) Address() string { return fmt.Sprintf("10.%d.0.%d", n.subnet, 10+n.Number) }

// PodCIDR are the addresses of the node's pods.
func (n Node) PodCIDR() string { return fmt.Sprintf("10.244.%d.0/24", n.Number) }

// NodeNetns is the name of the node's network namespace.
func (n Node) NodeNetns() string { return n.Netns() + "-" + n.NodeName() }

// NodeRun is the node's folder for sockets.
func (n Node) NodeRun() string { return filepath.Join(n.Run(), n.NodeName()) }

// NodeData is the node's folder for images, pods and volumes.
func (n Node) NodeData() string { return filepath.Join(n.Data(), n.NodeName()) }

// Socket is containerd's.
func (n Node) Socket() string { return filepath.Join(n.NodeRun(), "containerd.sock") }

// Cgroup is the path, below every hierarchy's root, that holds the node's pods.
func (n Node) Cgroup() string { return "/" + n.NodeNetns() }

func makeFolders(l *Layout) error {
	folders := []string{l.State, l.Logs(), l.Run(), l.PKI(), filepath.Join(l.Data(), "images")}
	for _, node := range l.Nodes() {
		folders = append(folders, node.NodeRun(),
			filepath.Join(node.NodeData(), "volumes"), filepath.Join(node.NodeData(), "cni"), filepath.Join(node.NodeData(), "loaded"))
	}
	for _, folder := range folders {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	return os.Chmod(l.PKI(), 0o700)
}
