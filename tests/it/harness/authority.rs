//! A certificate authority, and what it certifies.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

/// The authority. Its files are gone when it is dropped.
pub(crate) struct Authority(TempDir);

// === impl Authority ===

impl Authority {
    /// A new one, which has certified this machine's loopback address, and a client.
    pub(crate) fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        authority.make(&["-subj", "/CN=authority"], "ca");
        let ca = [authority.path("ca.pem"), authority.path("ca.key")];
        let signed =
            ["-CA", &ca[0], "-CAkey", &ca[1], "-addext", "basicConstraints=critical,CA:FALSE"];
        let server = ["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"];
        authority.make(&[&signed[..], &server].concat(), "server");
        authority.make(&[&signed[..], &["-subj", "/CN=client"]].concat(), "client");
        authority
    }

    /// One of its files: `ca`, `server` and `client` with `.pem` and `.key`.
    pub(crate) fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn make(&self, options: &[&str], name: &str) {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        command.args(["-nodes", "-days", "2"]).args(options);
        command.arg("-keyout").arg(self.file(&format!("{name}.key")));
        command.arg("-out").arg(self.file(&format!("{name}.pem")));
        let made = command.output().expect("openssl can't be started: scripts/test installs it");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}
