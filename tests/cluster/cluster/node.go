package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// pluginFolder is where Debian's package puts the container network plugins.
const pluginFolder = "/usr/lib/cni"

// pauseImage is what every pod's first container runs; it is imported into every node, there is no registry.
const pauseImage = "localhost/pause:1"

// startNodes starts containerd, kubelet and kube-proxy of every node.
func startNodes(l *Layout) error {
	for _, node := range l.Nodes() {
		if err := startContainerd(node); err != nil {
			return err
		}
	}
	if err := load(l, []string{l.Tool("pause.tar")}); err != nil {
		return err
	}
	for _, node := range l.Nodes() {
		if err := startKubelet(node); err != nil {
			return err
		}
		if err := start(l, node.NodeNetns(), node.NodeName()+"-kube-proxy", l.Tool("kube"), "kube-proxy",
			"--kubeconfig="+filepath.Join(l.PKI(), "proxy.kubeconfig"), "--hostname-override="+node.NodeName(),
			"--cluster-cidr="+podNetwork, "--proxy-mode=iptables",
			// Only the first network namespace may size the table of connections.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s",
			"--conntrack-tcp-timeout-close-wait=0s"); err != nil {
			return err
		}
	}
	return nil
}

func startContainerd(node Node) error {
	if err := writeNetworkConfig(node); err != nil {
		return err
	}
	config := filepath.Join(node.NodeData(), "containerd.toml")
	content := fmt.Sprintf(`version = 3
root = %[1]q
state = %[2]q
[grpc]
address = %[3]q
# Its socket has one place on the whole machine: of containerds that start together, the later ones would find it taken.
[plugins.'io.containerd.nri.v1.nri']
disable = true
[plugins.'io.containerd.cri.v1.images']
snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = %[4]q
[plugins.'io.containerd.cri.v1.runtime']
# The machine may not let a process lower its own score for the out-of-memory killer.
restrict_oom_score_adj = true
# Below our own folder, so that no pod's namespace is seen outside.
netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = [%[5]q]
conf_dir = %[6]q
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
BinaryName = %[7]q
`, filepath.Join(node.NodeData(), "containerd"), filepath.Join(node.NodeRun(), "containerd"), node.Socket(),
		pauseImage, pluginFolder, filepath.Join(node.NodeData(), "net.d"), node.Tool("runc"))
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		return err
	}
	return start(node.Layout, node.NodeNetns(), node.NodeName()+"-containerd", node.Tool("containerd"), "--config", config)
}

// writeNetworkConfig gives the node's pods a bridge and addresses of the node's own range.
func writeNetworkConfig(node Node) error {
	folder := filepath.Join(node.NodeData(), "net.d")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	content := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`, filepath.Join(node.NodeData(), "cni"), node.PodCIDR())
	return os.WriteFile(filepath.Join(folder, "10-pods.conflist"), []byte(content), 0o644)
}

func startKubelet(node Node) error {
	config := filepath.Join(node.NodeData(), "kubelet.yaml")
	pki := func(name string) string { return filepath.Join(node.PKI(), name) }
	content := fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: %[1]s
containerRuntimeEndpoint: unix://%[2]s
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[3]s}
authorization: {mode: Webhook}
clusterDNS: [%[4]s]
clusterDomain: cluster.local
address: %[5]s
tlsCertFile: %[6]s
tlsPrivateKeyFile: %[7]s
podLogsDir: %[8]s
resolvConf: ""
nodeStatusUpdateFrequency: 2s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi}
`, node.Cgroup(), node.Socket(), pki("ca.crt"), node.Host(), node.Address(),
		pki(node.NodeName()+".crt"), pki(node.NodeName()+".key"), filepath.Join(node.NodeData(), "logs"))
	if err := os.WriteFile(config, []byte(content), 0o644); err != nil {
		return err
	}
	return start(node.Layout, node.NodeNetns(), node.NodeName()+"-kubelet", node.Tool("kube"), "kubelet",
		"--config="+config, "--kubeconfig="+pki(node.NodeName()+".kubeconfig"),
		"--hostname-override="+node.NodeName(), "--node-ip="+node.Address(),
		"--root-dir="+filepath.Join(node.NodeData(), "kubelet"))
}
