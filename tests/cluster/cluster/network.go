package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// makeNetwork joins the control plane's namespace, every node's and this machine by one bridge.
//
// The bridge is inside the control plane's namespace, so nothing but one link is seen outside: no route beside that
// link's own, no forwarding, no firewall rule.
func makeNetwork(l *Layout) error {
	outside := outsideLink(l)
	commands := []string{
		"ip netns add " + l.Netns(),
		inNetns(l.Netns(), "ip link set lo up"),
		inNetns(l.Netns(), "ip link add br0 type bridge"),
		inNetns(l.Netns(), "ip addr add "+l.Host()+"/24 dev br0"),
		inNetns(l.Netns(), "ip link set br0 up"),
		fmt.Sprintf("ip link add %s type veth peer name outside netns %s", outside, l.Netns()),
		"ip addr add " + l.Outside() + "/24 dev " + outside,
		"ip link set " + outside + " up",
		inNetns(l.Netns(), "ip link set outside master br0 up"),
	}
	for _, node := range l.Nodes() {
		ns := node.NodeNetns()
		commands = append(commands,
			"ip netns add "+ns,
			inNetns(ns, "ip link set lo up"),
			fmt.Sprintf("ip -n %s link add %s type veth peer name eth0 netns %s", l.Netns(), node.NodeName(), ns),
			inNetns(l.Netns(), "ip link set "+node.NodeName()+" master br0 up"),
			inNetns(ns, "ip addr add "+node.Address()+"/24 dev eth0"),
			inNetns(ns, "ip link set eth0 up"),
			inNetns(ns, "ip route add default via "+l.Host()),
			inNetns(l.Netns(), "ip route add "+node.PodCIDR()+" via "+node.Address()),
		)
	}
	for _, node := range l.Nodes() {
		for _, other := range l.Nodes() {
			if other.Number != node.Number {
				commands = append(commands,
					inNetns(node.NodeNetns(), "ip route add "+other.PodCIDR()+" via "+other.Address()))
			}
		}
	}
	for _, command := range commands {
		if err := shell(command); err != nil {
			return err
		}
	}
	for _, ns := range namespaces(l) {
		if err := forward(ns); err != nil {
			return err
		}
	}
	return nil
}

// forward lets a namespace pass packets on, and show bridged ones to its firewall where the kernel can do that.
func forward(ns string) error {
	if err := shell(inNetns(ns, "sysctl -qw net.ipv4.ip_forward=1")); err != nil {
		return err
	}
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil {
		return shell(inNetns(ns, "sysctl -qw net.bridge.bridge-nf-call-iptables=1"))
	}
	return nil
}

// namespaces are the names of the cluster's network namespaces.
func namespaces(l *Layout) []string {
	names := []string{l.Netns()}
	for _, node := range l.Nodes() {
		names = append(names, node.NodeNetns())
	}
	return names
}

func outsideLink(l *Layout) string { return "kvs-" + l.Name }

// inNetns is a command that runs inside a namespace. Not by `ip netns exec`, which mounts /sys anew and so hides the
// cgroups from what it starts.
func inNetns(ns, command string) string {
	return "nsenter --net=" + filepath.Join("/run/netns", ns) + " " + command
}

// setLink takes the link of a node down or up: the node is cut off from everybody else, or joined again.
func setLink(l *Layout, name string, up bool) error {
	for _, node := range l.Nodes() {
		if node.NodeName() == name {
			state := map[bool]string{true: "up", false: "down"}[up]
			return shell(inNetns(l.Netns(), "ip link set "+name+" "+state))
		}
	}
	return fmt.Errorf("no node %q", name)
}

// removeNetwork deletes the namespaces, and with them links, routes and firewall rules.
func removeNetwork(l *Layout) error {
	for _, ns := range namespaces(l) {
		if _, err := os.Stat(filepath.Join("/run/netns", ns)); err == nil {
			if err := shell("ip netns del " + ns); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(filepath.Join("/sys/class/net", outsideLink(l))); err == nil {
		// The kernel takes it away with its other end, a moment after the namespace is gone.
		if err := shell("ip link del " + outsideLink(l)); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
			return err
		}
	}
	return nil
}
