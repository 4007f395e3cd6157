//! An authority of a test, and the certificates that it signs.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

/// Signs certificates for one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these DNS names or IP addresses; a name with a colon and a slash is a URI.
    pub fn identity(&self, names: &[&str]) -> Identity {
        let (uris, hosts): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains(":/"));
        let mut params = CertificateParams::new(hosts.into_iter().map(str::to_owned).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.extend(uris.into_iter().map(|uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The identity of a server on this machine.
    pub fn server(&self) -> Identity {
        self.identity(&["localhost", "127.0.0.1"])
    }
}

/// The files of a server's TLS, in a folder of the test.
pub struct Files {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

impl Files {
    pub fn write(folder: &Path, authority: &Authority, identity: &Identity) -> Self {
        let files = Self { cert: folder.join("cert.pem"), key: folder.join("key.pem"), ca: folder.join("ca.pem") };
        std::fs::write(&files.ca, authority.pem()).unwrap();
        files.replace(identity);
        files
    }

    /// Puts another pair in their place, each by a rename, one after the other.
    pub fn replace(&self, identity: &Identity) {
        for (path, text) in [(&self.cert, &identity.certificate), (&self.key, &identity.key)] {
            let new = path.with_extension("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, path).unwrap();
        }
    }

    /// The flags of a server without client certificates.
    pub fn flags(&self) -> Vec<String> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec!["--tls-cert".into(), text(&self.cert), "--tls-key".into(), text(&self.key)]
    }

    /// The flags of a server that asks for client certificates of the same authority.
    pub fn mutual_flags(&self, mode: &str) -> Vec<String> {
        let mut flags = self.flags();
        let more = ["--tls-client-ca", self.ca.to_str().unwrap(), "--tls-client-certificates", mode];
        flags.extend(more.map(str::to_owned));
        flags
    }
}
