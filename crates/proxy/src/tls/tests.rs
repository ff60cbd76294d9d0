//! Certificates of ours before strict verifiers, and handshakes with both sides in memory.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use traffic::{Host, Timestamp};

use super::authority::Authority;
use super::leaf::LeafCache;

/// The verifiers of other programs ask the real clock, so these tests do too.
fn now() -> Timestamp {
    let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp(since_epoch.as_micros().try_into().unwrap())
}

fn authority() -> Arc<Authority> {
    Arc::new(Authority::generate("oriel test authority", now()).unwrap())
}

fn leaf_pem(leaves: &LeafCache, host: &str) -> String {
    let leaf = leaves.leaf(&Host::parse(host).unwrap(), now()).unwrap();
    leaf.cert
        .iter()
        .map(super::authority::certificate_to_pem)
        .collect()
}

fn run(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Verifies as strictly as OpenSSL can.
fn openssl_verify(folder: &Path, authority: &str, chain: &str, host: &str) {
    let root = folder.join("root.pem");
    let leaf = folder.join("leaf.pem");
    std::fs::write(&root, authority).unwrap();
    std::fs::write(&leaf, chain).unwrap();
    let name = match Host::parse(host).unwrap() {
        Host::Name(_) => "-verify_hostname",
        Host::Ip(_) => "-verify_ip",
    };
    let output = run(Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver"])
        .args([name, host, "-CAfile"])
        .arg(&root)
        .arg("-untrusted")
        .arg(&leaf)
        .arg(&leaf));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{host}: {text}");
}

fn long_name() -> String {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name.len(), 253, "the longest there is");
    name
}

#[test]
fn openssl_takes_leaves_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let leaves = LeafCache::new(Arc::clone(&authority), 8).unwrap();
    for host in ["api.openai.com", "127.0.0.1", "::1", &long_name()] {
        let chain = leaf_pem(&leaves, host);
        openssl_verify(folder.path(), authority.certificate_pem(), &chain, host);
    }
}
