//! Certificates of a test's own authority, and a redis-server that speaks TLS with them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::redis::{RedisServer, free_port};

/// An authority with its folder of PEM files.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        // Two authorities, or an authority and what it signed, must not share a name.
        params.distinguished_name.push(DnType::CommonName, format!("authority {}", rand::random::<u32>()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { folder, issuer }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names, and its key.
    pub fn sign(&self, file: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, file);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |end: &str| self.folder.path().join(format!("{file}.{end}"));
        std::fs::write(path("pem"), cert.pem()).expect("written");
        std::fs::write(path("key"), key.serialize_pem()).expect("written");
        (path("pem"), path("key"))
    }
}

/// A server that speaks TLS on a port of its own, beside the plain one that the test itself uses.
pub struct TlsServer {
    pub server: RedisServer,
    pub tls_port: u16,
}

impl TlsServer {
    /// None, loudly, where the redis-server of this machine was built without TLS.
    pub fn start(authority: &Authority, names: &[&str], wants_client: bool) -> Option<Self> {
        if !speaks_tls() {
            eprintln!("SKIPPED: redis-server on this machine was built without TLS (redis-server --tls-port)");
            return None;
        }
        let (cert, key) = authority.sign("server", names);
        let text = |path: &Path| path.display().to_string();
        let tls_port = free_port();
        let server = RedisServer::with(&[
            "--appendonly",
            "yes",
            "--tls-port",
            &tls_port.to_string(),
            "--tls-cert-file",
            &text(&cert),
            "--tls-key-file",
            &text(&key),
            "--tls-ca-cert-file",
            &text(&authority.ca_file()),
            "--tls-auth-clients",
            if wants_client { "yes" } else { "no" },
        ]);
        Some(Self { server, tls_port })
    }

    pub fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}/", self.tls_port)
    }
}

/// Whether this machine's redis-server knows the option at all. With every port off it ends at once.
fn speaks_tls() -> bool {
    let ended = std::process::Command::new("redis-server").args(["--port", "0", "--tls-port", "0"]).output();
    let ended = ended.expect("redis-server, which make test installs");
    !String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).contains("Bad directive")
}
