package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// addons are the rights of the components beside the control plane and the class of the volumes.
const addons = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kvs-cluster-proxy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:kube-proxy"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kvs-cluster-dns}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kvs-cluster-dns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kvs-cluster-dns}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:coredns"}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kvs-cluster-volumes}
rules:
- {apiGroups: [""], resources: [persistentvolumes], verbs: [get, list, create, delete, patch]}
- {apiGroups: [""], resources: [persistentvolumeclaims], verbs: [get, list]}
- {apiGroups: [""], resources: [persistentvolumeclaims/status], verbs: [patch]}
- {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kvs-cluster-volumes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kvs-cluster-volumes}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:volume-provisioner"}]
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: local
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: ` + provisionerName + `
volumeBindingMode: WaitForFirstConsumer
allowVolumeExpansion: true
reclaimPolicy: Delete
`

// installAddons applies the add-ons and starts the provisioner of volumes.
func installAddons(l *Layout) error {
	command := exec.Command(l.Tool("kube"), "kubectl", "--kubeconfig="+l.Kubeconfig(), "apply", "-f", "-")
	command.Stdin = strings.NewReader(addons)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return start(l, l.Netns(), "provisioner", program, "provision",
		"--name="+l.Name, "--state="+l.State, "--tools="+l.Tools)
}

// clientFor is a client with the rights of one of the run's identities.
func clientFor(l *Layout, identity string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(l.PKI(), identity+".kubeconfig"))
	if err != nil {
		return nil, err
	}
	config.Timeout = 10 * time.Second
	return kubernetes.NewForConfig(config)
}

// waitForNodes waits until all nodes are Ready and pods can be created.
func waitForNodes(l *Layout) error {
	client, err := clientFor(l, "admin")
	if err != nil {
		return err
	}
	return waitFor("all nodes are Ready", 2*time.Minute, func() error { return nodesReady(client) })
}

func nodesReady(client *kubernetes.Clientset) error {
	ctx := context.Background()
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready < nodeCount {
		return fmt.Errorf("%d of %d nodes are Ready", ready, nodeCount)
	}
	_, err = client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
	return err
}

// healthy tells whether the cluster is up: the API server is ready, and so are all nodes.
func healthy(l *Layout) error {
	if err := apiReady(l); err != nil {
		return err
	}
	client, err := clientFor(l, "admin")
	if err != nil {
		return err
	}
	return nodesReady(client)
}
