package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// auditPolicy records who changed or read what, without contents: what the proofs of silence and of least privilege
// are read from.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// startControlPlane starts etcd, the API server, the controller manager, the scheduler and CoreDNS.
func startControlPlane(l *Layout) error {
	pki := func(name string) string { return filepath.Join(l.PKI(), name) }
	ns, kube := l.Netns(), l.Tool("kube")
	policy := filepath.Join(l.Data(), "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o644); err != nil {
		return err
	}
	// Nothing of a test cluster has to survive the machine: etcd need not wait for the disk.
	if err := start(l, ns, "etcd", kube, "etcd",
		"--data-dir="+filepath.Join(l.Data(), "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380"); err != nil {
		return err
	}
	if err := start(l, ns, "kube-apiserver", kube, "kube-apiserver",
		"--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0", "--advertise-address="+l.Host(),
		"--secure-port=6443", "--service-cluster-ip-range="+serviceNetwork, "--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--client-ca-file="+pki("ca.crt"),
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"),
		"--kubelet-certificate-authority="+pki("ca.crt"),
		"--kubelet-client-certificate="+pki("kubelet-client.crt"), "--kubelet-client-key="+pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file="+pki("account.key"), "--service-account-signing-key-file="+pki("account.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--audit-policy-file="+policy, "--audit-log-path="+filepath.Join(l.State, "audit.log"),
		"--audit-log-maxsize=1000"); err != nil {
		return err
	}
	if err := waitFor("the API server is ready", time.Minute, func() error { return apiReady(l) }); err != nil {
		return err
	}
	controller := pki("controller-manager.kubeconfig")
	if err := start(l, ns, "kube-controller-manager", kube, "kube-controller-manager",
		"--kubeconfig="+controller, "--authentication-kubeconfig="+controller, "--authorization-kubeconfig="+controller,
		"--service-account-private-key-file="+pki("account.key"), "--root-ca-file="+pki("ca.crt"),
		"--use-service-account-credentials=true", "--cluster-signing-cert-file="+pki("ca.crt"),
		"--cluster-signing-key-file="+pki("ca.key"), "--leader-elect=false"); err != nil {
		return err
	}
	scheduler := pki("scheduler.kubeconfig")
	if err := start(l, ns, "kube-scheduler", kube, "kube-scheduler", "--kubeconfig="+scheduler,
		"--authentication-kubeconfig="+scheduler, "--authorization-kubeconfig="+scheduler,
		"--leader-elect=false"); err != nil {
		return err
	}
	return startDNS(l)
}

// startDNS starts CoreDNS beside the control plane, where every pod reaches it at the host's address.
func startDNS(l *Layout) error {
	corefile := filepath.Join(l.Data(), "Corefile")
	content := fmt.Sprintf(`.:53 {
    bind %s
    errors
    kubernetes cluster.local in-addr.arpa {
        kubeconfig %s
        endpoint_pod_names
    }
    cache 5
}
`, l.Host(), filepath.Join(l.PKI(), "coredns.kubeconfig"))
	if err := os.WriteFile(corefile, []byte(content), 0o644); err != nil {
		return err
	}
	return start(l, l.Netns(), "coredns", l.Tool("coredns"), "-conf", corefile)
}

// apiReady asks the API server whether it is ready.
func apiReady(l *Layout) error {
	roots := x509.NewCertPool()
	ca, err := os.ReadFile(filepath.Join(l.PKI(), "ca.crt"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(ca)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(l.PKI(), "admin.crt"), filepath.Join(l.PKI(), "admin.key"))
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{certificate}}}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.Server()+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
		return fmt.Errorf("readyz answers %s: %s", response.Status, body)
	}
	return nil
}
