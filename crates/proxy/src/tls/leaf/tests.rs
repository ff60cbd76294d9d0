//! Leaves before strict verifiers of other makers, and the cache.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;

use super::*;
use crate::tls::authority::NewAuthority;
use crate::tls::certificate;
use crate::tls::client_side::ClientAlpn;
use crate::tls::key::KeyKind;
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
    must_succeed_for("all", output);
}

fn must_succeed_for(name: &str, output: &Output) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}");
}

/// An authority with each kind of key.
fn authorities() -> Vec<Arc<Authority>> {
    let kinds = [
        KeyKind::P256,
        KeyKind::P384,
        KeyKind::Rsa2048,
        KeyKind::Rsa3072,
        KeyKind::Rsa4096,
    ];
    let made = kinds.map(|key| {
        let new = NewAuthority {
            key,
            ..NewAuthority::named("oriel test authority")
        };
        Arc::new(Authority::create(&new, now()).unwrap())
    });
    made.to_vec()
}

/// What clients ask for, in the spelling that they send: names of every kind, the longest there is,
/// and addresses.
fn names() -> [String; 7] {
    [
        "api.openai.com",
        "my_host.test",
        "xn--bcher-kva.example",
        "localhost",
        "127.0.0.1",
        "::1",
        &long_name(),
    ]
    .map(str::to_owned)
}

#[test]
fn openssl_verifies_strictly() {
    let folder = tempfile::tempdir().unwrap();
    let (root, chain) = (
        folder.path().join("root.pem"),
        folder.path().join("leaf.pem"),
    );
    for authority in authorities() {
        let leaves = LeafCache::new(authority, 8).unwrap();
        std::fs::write(&root, leaves.authority.certificate_pem()).unwrap();
        for name in names() {
            let host = host(&name);
            let leaf = leaves.leaf(&host, now()).unwrap();
            std::fs::write(&chain, pem::certificates(&leaf.cert)).unwrap();
            let check = match host {
                Host::Name(_) => "-verify_hostname",
                Host::Ip(_) => "-verify_ip",
            };
            let output = Command::new("openssl")
                .args(["verify", "-x509_strict", "-purpose", "sslserver"])
                .args([check, &name, "-CAfile"])
                .args([&root, &chain])
                .output()
                .expect("these tests need the openssl command");
            must_succeed(&output);
        }
    }
}

/// Whether a program is here and works. On a desk some may be missing; `.ci/run` installs them, and
/// nothing is left out where it has run.
fn is_here(program: &str, version: &str) -> bool {
    let here = works(program, version);
    let may_be_missing = std::env::var_os("CI").is_none();
    assert!(
        here || may_be_missing,
        "there is no {program} here, which .ci/run installs"
    );
    if !here {
        eprintln!("skipped: there is no {program} here");
    }
    here
}

fn works(program: &str, version: &str) -> bool {
    let output = Command::new(program).arg(version).output();
    output.is_ok_and(|output| output.status.success())
}

/// A Python of this version, of the system's or one that pyenv has built; no Debian has all of them.
fn python(version: &str) -> Option<String> {
    let name = format!("python{version}");
    if works(&name, "--version") {
        return Some(name);
    }
    let home = std::env::home_dir()?;
    let built = std::fs::read_dir(home.join(".pyenv/versions")).ok()?;
    let mut paths = built.filter_map(|entry| {
        entry
            .ok()?
            .path()
            .join("bin/python")
            .to_str()
            .map(str::to_owned)
    });
    paths.find(|path| path.contains(&format!("/{version}.")))
}

/// Has a client of another maker shake hands with us on loopback, for all these names, and for the
/// first of them under authorities of every kind. It gets the port, the name and the file of the root
/// as arguments, and says something of which the first five octets are these.
fn check_client(command: &[&str], names: &[String], says: &[u8; 5]) {
    let (program, arguments) = command.split_first().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    for (index, authority) in authorities().into_iter().enumerate() {
        std::fs::write(&root, authority.certificate_pem()).unwrap();
        let side = client_side(&authority);
        let count = if index == 0 { names.len() } else { 1 };
        for name in &names[..count] {
            let config = side.server_config(&host(name), ClientAlpn::Http11);
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port().to_string();
            let server = thread::spawn(move || greet(&listener, config));
            let output = Command::new(program)
                .args(arguments)
                .args([&port, name])
                .arg(&root)
                .output()
                .unwrap();
            must_succeed_for(name, &output);
            assert_eq!(&server.join().unwrap().unwrap(), says, "{program} {name}");
        }
    }
}

/// Reads five octets, and answers with five.
fn greet(listener: &TcpListener, config: Arc<rustls::ServerConfig>) -> std::io::Result<[u8; 5]> {
    let (mut stream, _) = listener.accept()?;
    let mut tls = rustls::ServerConnection::new(config).unwrap();
    {
        let mut tls = rustls::Stream::new(&mut tls, &mut stream);
        let mut request = [0; 5];
        tls.read_exact(&mut request)?;
        tls.write_all(b"world")?;
        tls.conn.send_close_notify();
        // The client may be gone.
        let _told = tls.flush();
        Ok(request)
    }
}

#[test]
fn python_verifies_strictly() {
    // Strict is the default from Python 3.13 on, which has more to say.
    const CLIENT: &str = "
import socket, ssl, sys
port, name, root = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
context.verify_flags |= ssl.VERIFY_X509_STRICT
tls = context.wrap_socket(socket.create_connection(('127.0.0.1', int(port))), server_hostname=name)
tls.sendall(b'hello')
assert tls.recv(5) == b'world'
";
    if is_here("python3", "--version") {
        check_client(&["python3", "-c", CLIENT], &names(), b"hello");
    }
    match python("3.13") {
        Some(python) => check_client(&[&python, "-c", CLIENT], &names(), b"hello"),
        None => eprintln!("skipped: there is no Python 3.13 here"),
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
    if !is_here("node", "--version") {
        return;
    }
    // It compares an address with the one it is connected to.
    let names = names().into_iter().filter(|name| name != "::1");
    check_client(
        &["node", "-e", CLIENT],
        &names.collect::<Vec<_>>(),
        b"hello",
    );
}

#[test]
fn curl_verifies() {
    const CLIENT: &str = "
case $2 in
*:*) host=[$2] ;;
*) host=$2 ;;
esac
exec curl -sS --http0.9 --noproxy '*' --connect-to \"::127.0.0.1:$1\" --cacert \"$3\" \
    \"https://$host:$1/\"
";
    if is_here("curl", "--version") {
        check_client(&["sh", "-c", CLIENT, "sh"], &names(), b"GET /");
    }
}

#[test]
fn gnutls_verifies() {
    const CLIENT: &str = "
printf hello | exec gnutls-cli --verify-hostname \"$2\" --sni-hostname \"$2\" --x509cafile \"$3\" \
    -p \"$1\" 127.0.0.1
";
    if is_here("gnutls-cli", "--version") {
        // It would name an address in the ClientHello, which is none to be named.
        check_client(&["sh", "-c", CLIENT, "sh"], &names_of_hosts(), b"hello");
    }
}

/// Those that are no addresses.
fn names_of_hosts() -> Vec<String> {
    let is_name = |name: &String| matches!(host(name), Host::Name(_));
    names().into_iter().filter(is_name).collect()
}

#[test]
fn curl_built_with_gnutls_verifies() {
    // Debian's git is; what it gets is no repository, so that it fails after it has asked.
    const LINKED: &str = "ldd \"$(git --exec-path)/git-remote-http\" | grep -q libcurl-gnutls";
    const CLIENT: &str = "
GIT_SSL_CAINFO=$3 git -c \"http.curloptResolve=$2:$1:127.0.0.1\" -c http.proxy= \
    ls-remote \"https://$2:$1/canary.git\" || true
";
    let linked = Command::new("sh").args(["-c", LINKED]).status();
    if !linked.is_ok_and(|status| status.success()) {
        eprintln!("skipped: git has no curl built with GnuTLS here");
        return;
    }
    check_client(&["sh", "-c", CLIENT, "sh"], &names_of_hosts(), b"GET /");
}

#[test]
fn go_verifies() {
    const CLIENT: &str = r#"
package main

import ("crypto/tls"; "crypto/x509"; "io"; "os")

func main() {
    root, err := os.ReadFile(os.Args[3])
    if err != nil { panic(err) }
    roots := x509.NewCertPool()
    roots.AppendCertsFromPEM(root)
    config := &tls.Config{RootCAs: roots, ServerName: os.Args[2]}
    conn, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], config)
    if err != nil { panic(err) }
    conn.Write([]byte("hello"))
    answer := make([]byte, 5)
    if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "world" { panic(err) }
}
"#;
    if !is_here("go", "version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(path.join("client.go"), CLIENT).unwrap();
    let built = Command::new("go")
        .args(["build", "-o", "client", "client.go"])
        .envs([("GOCACHE", path), ("GOPATH", path)])
        .env("GO111MODULE", "off")
        .current_dir(path)
        .output();
    must_succeed(&built.unwrap());
    let client = path.join("client");
    check_client(&[client.to_str().unwrap()], &names(), b"hello");
}

#[test]
fn rustls_verifies() {
    for authority in authorities() {
        let side = client_side(&authority);
        let root = authority.certificate_der().clone();
        let config = testbed::authority::client_config(&[root], &[]);
        for name in names() {
            let server = side.server_config(&host(&name), ClientAlpn::Http11);
            let name = name.try_into().unwrap();
            let mut client = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
            let mut server = rustls::ServerConnection::new(server).unwrap();
            while client.is_handshaking() || server.is_handshaking() {
                let mut flight = Vec::new();
                client.write_tls(&mut flight).unwrap();
                server.read_tls(&mut flight.as_slice()).unwrap();
                server.process_new_packets().unwrap();
                flight.clear();
                server.write_tls(&mut flight).unwrap();
                client.read_tls(&mut flight.as_slice()).unwrap();
                client.process_new_packets().unwrap();
            }
        }
    }
}

#[test]
fn java_verifies() {
    const CLIENT: &str = r#"
import java.io.*; import java.security.*; import java.security.cert.*; import javax.net.ssl.*;
class Client {
  public static void main(String[] arguments) throws Exception {
    KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
    roots.load(null);
    roots.setCertificateEntry("root", CertificateFactory.getInstance("X.509")
        .generateCertificate(new FileInputStream(arguments[2])));
    TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    int port = Integer.parseInt(arguments[0]);
    SSLSocket tls = (SSLSocket) context.getSocketFactory()
        .createSocket(new java.net.Socket("127.0.0.1", port), arguments[1], port, true);
    SSLParameters parameters = tls.getSSLParameters();
    parameters.setEndpointIdentificationAlgorithm("HTTPS");
    tls.setSSLParameters(parameters);
    tls.getOutputStream().write("hello".getBytes());
    if (!new String(tls.getInputStream().readNBytes(5)).equals("world")) System.exit(1);
  }
}
"#;
    if !is_here("javac", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Client.java"), CLIENT).unwrap();
    let compiled = Command::new("javac")
        .arg("Client.java")
        .current_dir(folder.path())
        .output();
    must_succeed(&compiled.unwrap());
    let classes = folder.path().to_str().unwrap();
    // It says no name that has no dot or an underscore, and such a connection is not opened.
    let is_said = |name: &String| !matches!(name.as_str(), "localhost" | "my_host.test");
    let names: Vec<_> = names().into_iter().filter(is_said).collect();
    check_client(&["java", "-cp", classes, "Client"], &names, b"hello");
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
