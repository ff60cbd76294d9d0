//! Leaves before strict verifiers of other makers, and the cache.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use super::*;
use crate::tls::certificate;
use crate::tls::client_side::ClientAlpn;
use crate::tls::pem;
use crate::tls::tests::{authority, client_side, days_from_now, host, now};

fn cache(leaves_max: usize) -> LeafCache {
    LeafCache::new(authority(), leaves_max).unwrap()
}

fn long_name() -> String {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    assert_eq!(name.len(), 253, "the longest there is");
    name
}

fn must_succeed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

#[test]
fn openssl_verifies_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let (root, chain) = (
        folder.path().join("root.pem"),
        folder.path().join("leaf.pem"),
    );
    let leaves = cache(8);
    std::fs::write(&root, leaves.authority.certificate_pem()).unwrap();
    for name in [
        "api.openai.com",
        "my_host.test",
        "127.0.0.1",
        "::1",
        &long_name(),
    ] {
        let host = host(name);
        let leaf = leaves.leaf(&host, now()).unwrap();
        std::fs::write(&chain, pem::certificates(&leaf.cert)).unwrap();
        let check = match host {
            Host::Name(_) => "-verify_hostname",
            Host::Ip(_) => "-verify_ip",
        };
        let output = Command::new("openssl")
            .args([
                "verify",
                "-x509_strict",
                "-purpose",
                "sslserver",
                check,
                name,
            ])
            .arg("-CAfile")
            .args([&root, &chain])
            .output()
            .expect("these tests need the openssl command");
        must_succeed(&output);
    }
}

/// Has a client of another maker shake hands with us on loopback. It gets the port, the name and
/// the file of the root as arguments.
fn check_client(program: &str, arguments: &[&str], name: &str, folder: &Path) {
    if Command::new(program).arg("--version").output().is_err() {
        eprintln!("skipped: there is no {program} here");
        return;
    }
    let authority = authority();
    let root = folder.join("root.pem");
    std::fs::write(&root, authority.certificate_pem()).unwrap();
    let config = client_side(&authority).server_config(&host(name), ClientAlpn::Http11);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(config).unwrap();
        let mut tls = rustls::Stream::new(&mut tls, &mut stream);
        let mut request = [0; 5];
        tls.read_exact(&mut request)?;
        tls.write_all(b"world")?;
        std::io::Result::Ok(request)
    });
    let output = Command::new(program)
        .args(arguments)
        .args([&port.to_string(), name])
        .arg(&root)
        .output()
        .unwrap();
    must_succeed(&output);
    assert_eq!(&server.join().unwrap().unwrap(), b"hello");
}

#[test]
fn python_verifies_strictly() {
    // Strict is the default from Python 3.13 on.
    const CLIENT: &str = "
import socket, ssl, sys
port, name, root = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
context.verify_flags |= ssl.VERIFY_X509_STRICT
tls = context.wrap_socket(socket.create_connection(('127.0.0.1', int(port))), server_hostname=name)
tls.sendall(b'hello')
assert tls.recv(5) == b'world'
";
    let folder = tempfile::tempdir().unwrap();
    for name in ["api.openai.com", "127.0.0.1", &long_name()] {
        check_client("python3", &["-c", CLIENT], name, folder.path());
    }
}

#[test]
fn node_verifies() {
    const CLIENT: &str = "
const [port, name, root] = process.argv.slice(1);
const ca = require('fs').readFileSync(root);
const servername = require('net').isIP(name) ? '' : name;
const tls = require('tls').connect({ host: '127.0.0.1', port, servername, ca });
tls.on('secureConnect', () => tls.write('hello'));
tls.on('data', () => tls.end());
";
    let folder = tempfile::tempdir().unwrap();
    for name in ["api.openai.com", "127.0.0.1", &long_name()] {
        check_client("node", &["-e", CLIENT], name, folder.path());
    }
}

#[test]
fn says_what_verifiers_want() {
    let leaves = cache(8);
    let leaf = |text: &str| leaves.leaf(&host(text), now()).unwrap();
    let (one, two) = (leaf("a.test"), leaf("b.test"));
    let (one, two) = (&one.cert[0], &two.cert[0]);
    let (one, two) = (
        certificate::parse(one).unwrap(),
        certificate::parse(two).unwrap(),
    );
    assert_ne!(one.raw_serial(), two.raw_serial());
    assert_eq!(one.raw_serial().len(), 16);
    let validity = one.validity();
    let days = (validity.not_after.timestamp() - validity.not_before.timestamp()) / 86_400;
    assert_eq!(days, 199);
    let usage = one.extended_key_usage().unwrap().unwrap();
    assert!(usage.value.server_auth && !usage.value.client_auth);
    let alt_name = one.subject_alternative_name().unwrap().unwrap();
    assert!(!alt_name.critical);

    let long = leaf(&long_name());
    let long = certificate::parse(&long.cert[0]).unwrap();
    assert_eq!(long.subject().iter().count(), 0);
    assert!(long.subject_alternative_name().unwrap().unwrap().critical);
}

#[test]
fn one_name_is_minted_once() {
    let leaves = cache(8);
    let certified = thread::scope(|scope| {
        let ask = || leaves.leaf(&host("a.test"), now()).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert!(
        certified
            .iter()
            .all(|other| Arc::ptr_eq(other, &certified[0]))
    );
}

#[test]
fn the_name_longest_not_asked_for_makes_room() {
    let leaves = cache(2);
    let leaf = |text: &str| leaves.leaf(&host(text), now()).unwrap();
    let (a, b) = (leaf("a.test"), leaf("b.test"));
    assert!(Arc::ptr_eq(&leaf("a.test"), &a));
    leaf("c.test");
    assert!(Arc::ptr_eq(&leaf("a.test"), &a));
    assert!(!Arc::ptr_eq(&leaf("b.test"), &b));
    assert_eq!(leaves.slots.lock().by_host.len(), 2);
}

#[test]
fn a_leaf_is_renewed_when_its_time_is_over() {
    let leaves = cache(8);
    let at = |days: i64| leaves.leaf(&host("a.test"), days_from_now(days)).unwrap();
    let first = at(0);
    assert!(Arc::ptr_eq(&at(196), &first), "two days are left");
    let second = at(198);
    assert!(!Arc::ptr_eq(&second, &first), "hours are left");
    // The authority ends after 365 days, and so does this leaf.
    let third = at(364);
    let not_after = certificate::facts(&third.cert).unwrap().not_after;
    let authority_not_after = leaves.authority.not_after().0 / 1_000_000 * 1_000_000;
    assert_eq!(not_after.0, authority_not_after);
    // There is nothing longer to be had.
    assert!(Arc::ptr_eq(&at(364), &third));
    let expired = leaves
        .leaf(&host("a.test"), days_from_now(366))
        .unwrap_err();
    assert!(
        matches!(expired, LeafError::AuthorityExpired { .. }),
        "{expired}"
    );
    // A clock that was wrong and is set back.
    let earlier = at(-30);
    assert!(!Arc::ptr_eq(&earlier, &third));
    assert!(Arc::ptr_eq(&at(-30), &earlier));
}
