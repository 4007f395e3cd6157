package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// provisionerName is what the storage class names.
	provisionerName = "kvs.aryavarth.io/loop"
	// selectedNode is where the scheduler says which node a claim's first pod goes to.
	selectedNode = "volume.kubernetes.io/selected-node"
	// provisionPause is the time between two looks: a claim waits half of it on average.
	provisionPause = 300 * time.Millisecond
	// content is the folder of a volume that pods see. It is inside the file system, so that there is nothing to see while
	// that is not mounted: kubelet would give a pod the empty folder below.
	content = "content"
)

// provision makes volumes until it is ended. A volume is an ext4 file system of the claimed size in a file of its own,
// mounted where its node's kubelet finds it: it can be full, it belongs to one node, and it can grow.
func provision(l *Layout) error {
	client, err := clientFor(l, "provisioner")
	if err != nil {
		return err
	}
	for {
		if err := provisionOnce(l, client); err != nil {
			slog.Error("a look at the claims failed", "error", err)
		}
		time.Sleep(provisionPause)
	}
}

func provisionOnce(l *Layout, client kubernetes.Interface) error {
	ctx := context.Background()
	claims, err := client.CoreV1().PersistentVolumeClaims("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	volumes, err := client.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ours := map[string]*corev1.PersistentVolume{}
	for place := range volumes.Items {
		volume := &volumes.Items[place]
		if volume.Annotations["pv.kubernetes.io/provisioned-by"] == provisionerName {
			ours[volume.Name] = volume
		}
	}
	for place := range claims.Items {
		claim := &claims.Items[place]
		if err := serve(ctx, l, client, claim, ours); err != nil {
			slog.Error("a claim could not be served", "claim", claim.Namespace+"/"+claim.Name, "error", err)
		}
	}
	for _, volume := range ours {
		if volume.Status.Phase == corev1.VolumeReleased && volume.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimDelete {
			if err := remove(ctx, l, client, volume); err != nil {
				slog.Error("a volume could not be removed", "volume", volume.Name, "error", err)
			}
		}
	}
	return nil
}

// serve makes the volume of a claim that waits for one, and grows the volume of a claim that wants more.
func serve(ctx context.Context, l *Layout, client kubernetes.Interface, claim *corev1.PersistentVolumeClaim, ours map[string]*corev1.PersistentVolume) error {
	if claim.DeletionTimestamp != nil {
		return nil
	}
	if claim.Spec.VolumeName == "" {
		name := "pv-" + string(claim.UID)
		node := claim.Annotations[selectedNode]
		_, exists := ours[name]
		if node == "" || exists || claim.Annotations["volume.kubernetes.io/storage-provisioner"] != provisionerName {
			return nil
		}
		return create(ctx, l, client, claim, name, node)
	}
	volume := ours[claim.Spec.VolumeName]
	wanted := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	has := claim.Status.Capacity[corev1.ResourceStorage]
	if volume == nil || claim.Status.Phase != corev1.ClaimBound || wanted.Cmp(has) <= 0 {
		return nil
	}
	return grow(ctx, l, client, claim, volume, wanted)
}

func backingFile(l *Layout, volume string) string {
	return filepath.Join(l.Data(), "images", volume+".img")
}

func mountPoint(l *Layout, node, volume string) string {
	return filepath.Join(l.Data(), node, "volumes", volume)
}

// create makes file, file system and mount, then the object, so that an object's volume always exists. Every step can
// be made again after an interruption.
func create(ctx context.Context, l *Layout, client kubernetes.Interface, claim *corev1.PersistentVolumeClaim, name, node string) error {
	class, err := client.StorageV1().StorageClasses().Get(ctx, *claim.Spec.StorageClassName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
	image, mount := backingFile(l, name), mountPoint(l, node, name)
	if mounted, err := mountsBelow(filepath.Dir(mount)); err != nil || !contains(mounted, mount) {
		if err := os.MkdirAll(mount, 0o755); err != nil {
			return err
		}
		if err := truncate(image, size.Value()); err != nil {
			return err
		}
		if err := shell("mkfs.ext4 -q -F -m 0 " + image); err != nil {
			return err
		}
		if err := mountVolume(image, mount); err != nil {
			return err
		}
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisionerName}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: size},
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: reclaimPolicy(class),
			VolumeMode:                    claim.Spec.VolumeMode,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: filepath.Join(mount, content)}},
			ClaimRef: &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}},
		},
	}
	_, err = client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	slog.Info("made a volume", "volume", name, "claim", claim.Namespace+"/"+claim.Name, "node", node, "size", size.String())
	return nil
}

func reclaimPolicy(class *storagev1.StorageClass) corev1.PersistentVolumeReclaimPolicy {
	if class != nil && class.ReclaimPolicy != nil {
		return *class.ReclaimPolicy
	}
	return corev1.PersistentVolumeReclaimDelete
}

// mountVolume mounts a volume's file system and makes sure of the folder that pods see, which has what every new ext4 has.
func mountVolume(image, mount string) error {
	if err := shell("mount -o loop " + image + " " + mount); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(mount, content, "lost+found"), 0o755)
}

// grow makes the file system larger, then says so in volume and claim, as a driver would. Where root may not grow a mounted
// one (no CAP_SYS_RESOURCE), it has the rule of a class that grows offline: the pod that uses the volume keeps it, no other
// one gets it, and when that pod is gone it grows. Between two pods there is no time to hit upon.
func grow(ctx context.Context, l *Layout, client kubernetes.Interface, claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume, size resource.Quantity) error {
	image, mount := backingFile(l, volume.Name), filepath.Dir(volume.Spec.Local.Path)
	if err := truncate(image, size.Value()); err != nil {
		return err
	}
	mounted, err := mountsBelow(dataRoot)
	if err != nil {
		return err
	}
	if contains(mounted, mount) {
		if inUse(mounted, volume.Name, mount) {
			cause := growMounted(image)
			if cause == nil {
				return grown(ctx, client, claim, volume, size)
			}
			if err := resizeLater(ctx, client, claim, cause); err != nil {
				return err
			}
		}
		// A pod that has the volume has a mount of its own, and from now on no other pod gets one.
		if err := shell("umount " + mount); err != nil {
			return err
		}
		if mounted, err = mountsBelow(dataRoot); err != nil {
			return err
		}
	}
	if inUse(mounted, volume.Name, mount) {
		return nil
	}
	// A container that is being made has a copy of every mount for a moment, which nobody sees but the loop device.
	if device, err := loopDevice(image); err != nil || device != "" {
		return err
	}
	if err := errors.Join(shell("e2fsck -f -p "+image), shell("resize2fs "+image), mountVolume(image, mount)); err != nil {
		return err
	}
	return grown(ctx, client, claim, volume, size)
}

// growMounted makes a mounted file system as large as its file.
func growMounted(image string) error {
	device, err := loopDevice(image)
	if err != nil || device == "" {
		return fmt.Errorf("no loop device of %s: %w", image, err)
	}
	if err := shell("losetup --set-capacity " + device); err != nil {
		return err
	}
	return shell("resize2fs " + device)
}

// loopDevice is the device of a volume's file; there is none when the file system is mounted nowhere.
func loopDevice(image string) (string, error) {
	output, err := exec.Command("losetup", "--noheadings", "--output", "NAME", "--associated", image).Output()
	return strings.TrimSpace(string(output)), err
}

// grown says in volume and claim that the file system has its new size.
func grown(ctx context.Context, client kubernetes.Interface, claim *corev1.PersistentVolumeClaim, volume *corev1.PersistentVolume, size resource.Quantity) error {
	capacity := map[string]any{"capacity": map[string]any{"storage": size.String()}}
	if err := patch(map[string]any{"spec": capacity}, func(body []byte) error {
		_, err := client.CoreV1().PersistentVolumes().Patch(ctx, volume.Name, types.MergePatchType, body, metav1.PatchOptions{})
		return err
	}); err != nil {
		return err
	}
	capacity["conditions"] = []any{}
	return patch(map[string]any{"status": capacity}, func(body []byte) error {
		_, err := client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
		return err
	})
}

// inUse tells whether a pod has the volume: kubelet mounts it at a second place, under its name.
func inUse(mounted []string, volume, mount string) bool {
	for _, path := range mounted {
		if path != mount && strings.HasSuffix(path, "/"+volume) {
			return true
		}
	}
	return false
}

// resizeLater says in the claim that the file system grows when its volume is not in use.
func resizeLater(ctx context.Context, client kubernetes.Interface, claim *corev1.PersistentVolumeClaim, cause error) error {
	for _, condition := range claim.Status.Conditions {
		if condition.Type == corev1.PersistentVolumeClaimFileSystemResizePending {
			return nil
		}
	}
	slog.Warn("the file system grows when no pod uses it", "claim", claim.Namespace+"/"+claim.Name, "error", cause)
	conditions := []any{map[string]any{"type": string(corev1.PersistentVolumeClaimFileSystemResizePending), "status": "True",
		"lastTransitionTime": metav1.Now().UTC().Format(time.RFC3339),
		"message":            "waiting for the pod to be deleted, to grow the file system"}}
	return patch(map[string]any{"status": map[string]any{"conditions": conditions}}, func(body []byte) error {
		_, err := client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, body, metav1.PatchOptions{}, "status")
		return err
	})
}

func patch(content map[string]any, send func([]byte) error) error {
	body, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return send(body)
}

// remove takes a released volume away, the object last.
func remove(ctx context.Context, l *Layout, client kubernetes.Interface, volume *corev1.PersistentVolume) error {
	mount := filepath.Dir(volume.Spec.Local.Path)
	if mounted, err := mountsBelow(filepath.Dir(mount)); err == nil && contains(mounted, mount) {
		if err := shell("umount " + mount); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(mount); err != nil {
		return err
	}
	if err := os.Remove(backingFile(l, volume.Name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	err := client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func truncate(path string, bytes int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	return file.Truncate(bytes)
}

func contains(list []string, wanted string) bool {
	for _, one := range list {
		if one == wanted {
			return true
		}
	}
	return false
}
