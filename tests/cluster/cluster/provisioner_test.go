package main

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

// A pod keeps the volume that is to grow under it, its successor gets no volume until that has grown, and then it gets
// all that was in it. A file system that grows while it is mounted is the shorter way to the same end.
func TestASuccessorGetsAVolumeThatHasGrownAndNoneBefore(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test mounts file systems, which needs root")
	}
	l := &Layout{Name: "gotest"}
	clean := func() {
		if err := unmountAll(l); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(l.Data())
		_ = os.Remove(dataRoot)
	}
	clean()
	t.Cleanup(clean)
	try := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	try(os.MkdirAll(filepath.Join(l.Data(), "images"), 0o755))

	ctx, class := context.Background(), "local"
	client := fake.NewClientset(&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: class}})
	claims := client.CoreV1().PersistentVolumeClaims("shop")
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", Namespace: "shop", UID: "1"}}
	claim.Spec.StorageClassName = &class
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("16Mi")}
	claim, err := claims.Create(ctx, claim, metav1.CreateOptions{})
	try(err)
	try(create(ctx, l, client, claim, "pv-1", "node1"))
	volume, err := client.CoreV1().PersistentVolumes().Get(ctx, "pv-1", metav1.GetOptions{})
	try(err)

	// As kubelet does for a pod.
	place := filepath.Join(l.Data(), "node1", "kubelet", "pods", "uid", "volumes", "kubernetes.io~local-volume", "pv-1")
	try(os.MkdirAll(place, 0o755))
	bind := func() error { return syscall.Mount(volume.Spec.Local.Path, place, "", syscall.MS_BIND, "") }
	file := filepath.Join(place, "acknowledged")
	kept := func() {
		t.Helper()
		if text, err := os.ReadFile(file); err != nil || string(text) != "kept" {
			t.Fatalf("the pod sees %q, %v", text, err)
		}
	}
	try(bind())
	try(os.WriteFile(file, []byte("kept"), 0o600))

	wanted := resource.MustParse("32Mi")
	look := func() bool {
		t.Helper()
		claim, err := claims.Get(ctx, "data", metav1.GetOptions{})
		try(err)
		try(grow(ctx, l, client, claim, volume, wanted))
		claim, err = claims.Get(ctx, "data", metav1.GetOptions{})
		try(err)
		return wanted.Equal(claim.Status.Capacity[corev1.ResourceStorage])
	}
	if look() {
		t.Log("this machine's root may grow a mounted file system")
		kept()
		return
	}
	kept()
	if look() {
		t.Fatal("it grew under the pod at the second look")
	}
	try(syscall.Unmount(place, 0))
	if err := bind(); err == nil {
		t.Fatal("a successor got the volume before it had grown")
	}
	// The kernel gives a loop device back a moment later.
	for looks := 0; !look(); looks++ {
		if looks == 50 {
			t.Fatal("nobody has the volume, and it did not grow")
		}
		time.Sleep(100 * time.Millisecond)
	}
	try(bind())
	kept()
	var size syscall.Statfs_t
	try(syscall.Statfs(place, &size))
	if bytes := int64(size.Blocks) * size.Bsize; bytes < 24<<20 {
		t.Fatalf("the file system has %d bytes", bytes)
	}
}
