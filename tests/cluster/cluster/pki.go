package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is how long the certificates of one run are valid: longer than any run.
const certificateLife = 30 * 24 * time.Hour

// authority signs every certificate of one run.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

// identity is who a certificate says that its holder is.
type identity struct {
	file   string
	user   string
	groups []string
	// hosts are the names and addresses under which it serves; none for a client.
	hosts []string
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "kvs-cluster"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(certificateLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

// issue returns certificate and key of an identity, both PEM.
func (a *authority) issue(who identity) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: who.user, Organization: who.groups},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(certificateLife),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, host := range who.hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, err
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// writeCertificates writes all certificates and kubeconfigs of one run.
func writeCertificates(l *Layout) error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	caKey, err := encodeKey(ca.key)
	if err != nil {
		return err
	}
	accountKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	account, err := encodeKey(accountKey)
	if err != nil {
		return err
	}
	files := map[string][]byte{"ca.crt": ca.pem, "ca.key": caKey, "account.key": account}
	identities := []identity{
		{file: "apiserver", user: "kube-apiserver", hosts: []string{"kubernetes", "kubernetes.default",
			"kubernetes.default.svc", "localhost", "127.0.0.1", kubernetesService, l.Host()}},
		{file: "kubelet-client", user: "kube-apiserver", groups: []string{"system:masters"}},
		{file: "admin", user: "admin", groups: []string{"system:masters"}},
		{file: "controller-manager", user: "system:kube-controller-manager"},
		{file: "scheduler", user: "system:kube-scheduler"},
		{file: "proxy", user: "system:kube-proxy"},
		{file: "coredns", user: "system:coredns"},
		{file: "provisioner", user: "system:volume-provisioner"},
	}
	for _, node := range l.Nodes() {
		identities = append(identities, identity{file: node.NodeName(), user: "system:node:" + node.NodeName(),
			groups: []string{"system:nodes"}, hosts: []string{node.NodeName(), node.Address()}})
	}
	for _, who := range identities {
		certificate, key, err := ca.issue(who)
		if err != nil {
			return err
		}
		files[who.file+".crt"], files[who.file+".key"] = certificate, key
		files[who.file+".kubeconfig"] = kubeconfig(l, ca.pem, who.user, certificate, key)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(l.PKI(), name), content, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(l.Kubeconfig(), files["admin.kubeconfig"], 0o600)
}

func kubeconfig(l *Layout, ca []byte, user string, certificate, key []byte) []byte {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: kvs-%[1]s
contexts:
- name: kvs-%[1]s
  context: {cluster: kvs-%[1]s, user: %[2]q}
clusters:
- name: kvs-%[1]s
  cluster:
    server: %[3]s
    certificate-authority-data: %[4]s
users:
- name: %[2]q
  user:
    client-certificate-data: %[5]s
    client-key-data: %[6]s
`, l.Name, user, l.Server(), encode(ca), encode(certificate), encode(key))
}
