//! The authority's certificate, downloaded through the proxy and from the admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use crate::world::{Service, World};

/// What is answered to a request for this path: the head and the body.
fn ask(at: SocketAddr, method: &str, host: &str, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(at).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let body = answer.split_off(end + 4);
    (String::from_utf8(answer).unwrap().to_lowercase(), body)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// What a Python script prints that is given this on its standard input.
fn python(script: &str, input: &[u8]) -> String {
    let mut child = Command::new("python3")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    text(child.wait_with_output().unwrap().stdout)
}

#[test]
fn clients_of_the_proxy_get_the_page_and_the_files() {
    let world = World::new();
    let own = world.oriel(&["ca", "export", "--format", "chain"]).stdout;
    let service = world.serve(&["--admin", "127.0.0.1:0"]);
    let (head, page) = ask(service.proxy, "GET", "oriel.proxy", "http://oriel.proxy/");
    let page = text(page);
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    assert!(
        head.contains("content-security-policy: default-src 'none'"),
        "{head}"
    );
    assert!(!page.contains("<script") && !page.contains("PRIVATE"));
    let fingerprint = world.json(&["ca", "show", "--json"])["sha256"].clone();
    let shown = page.replace(':', "");
    assert!(shown.contains(fingerprint.as_str().unwrap()), "{page}");
    let admin = service.admin.unwrap();
    let admin_name = admin.to_string();
    for (path, media_type, name) in [
        ("/ca.pem", "application/x-pem-file", "oriel-ca.pem"),
        (
            "/ca.pem?chain=1",
            "application/x-pem-file",
            "oriel-ca-chain.pem",
        ),
        ("/ca.der", "application/x-x509-ca-cert", "oriel-ca.crt"),
        (
            "/ca.mobileconfig",
            "application/x-apple-aspen-config",
            "oriel-ca.mobileconfig",
        ),
    ] {
        let (head, body) = ask(service.proxy, "GET", "oriel.proxy", path);
        let (admin_head, admin_body) = ask(admin, "GET", &admin_name, path);
        assert_eq!(body, admin_body, "{path}");
        for head in [head, admin_head] {
            assert!(
                head.contains(&format!("content-type: {media_type}\r\n")),
                "{head}"
            );
            let saved = format!("content-disposition: attachment; filename=\"{name}\"\r\n");
            assert!(head.contains(&saved), "{head}");
        }
        match path {
            "/ca.der" => {
                let pem = python(
                    "import ssl,sys; print(ssl.DER_cert_to_PEM_cert(sys.stdin.buffer.read()),end='')",
                    &body,
                );
                assert_eq!(pem, own);
            }
            "/ca.mobileconfig" => {
                let pem = python(
                    "import plistlib,ssl,sys; p=plistlib.loads(sys.stdin.buffer.read())['PayloadContent'][0]; \
                     assert p['PayloadType']=='com.apple.security.root'; \
                     print(ssl.DER_cert_to_PEM_cert(p['PayloadContent']),end='')",
                    &body,
                );
                assert_eq!(pem, own);
            }
            _ => assert_eq!(text(body), own, "{path}"),
        }
    }
    for (method, path, status) in [("POST", "/ca.pem", "405"), ("GET", "/authority.pem", "404")] {
        let (head, body) = ask(service.proxy, method, "oriel.proxy", path);
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(!text(body).contains("BEGIN"));
    }
    let (head, body) = ask(admin, "GET", "oriel.proxy", "/ca.pem");
    assert!(head.starts_with("http/1.1 421"), "{head}");
    assert!(!text(body).contains("BEGIN"));
}

#[test]
fn what_is_downloaded_follows_the_authority_on_both_ports() {
    let world = World::new();
    let mut service = world.serve(&["--admin", "127.0.0.1:0"]);
    let admin = service.admin.unwrap();
    let files = |service: &Service| {
        let paths = ["/ca.pem", "/ca.pem?chain=1", "/ca.der", "/ca.mobileconfig"];
        paths.map(|path| {
            let (_head, ours) = ask(service.proxy, "GET", "oriel.proxy", path);
            let (_head, theirs) = ask(admin, "GET", &admin.to_string(), path);
            assert_eq!(ours, theirs, "{path}");
            ours
        })
    };
    let before = files(&service);
    world.done(&["ca", "rotate"]);
    service.wait_for("the certificate authority is another one");
    service.wait_for("took the configuration anew");
    let after = files(&service);
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before, after);
    }
    let own = world.done(&["ca", "export", "--format", "chain"]);
    assert_eq!(after[0], own.as_bytes());
}

#[test]
fn a_file_with_a_key_and_a_chain_gives_certificates_alone() {
    let world = World::new();
    let upper = ["--ca-cert", "upper.crt", "--ca-key", "upper.key"];
    let done = |arguments: &[&str]| {
        world.done(arguments);
    };
    done(
        &[
            &["ca", "init", "--path-length", "1", "--name", "upper"],
            &upper[..],
        ]
        .concat(),
    );
    done(&[
        "ca",
        "cross-sign",
        "--issuer-cert",
        "upper.crt",
        "--issuer-key",
        "upper.key",
        "-o",
        "chain.crt",
    ]);
    done(&["ca", "import", "chain.crt"]);
    let file = world.path(".local/share/oriel/ca/authority.pem");
    let file = std::fs::read_to_string(file).unwrap();
    assert!(file.contains("PRIVATE KEY"), "the test is for such a file");
    let service = world.serve(&["--admin", "off"]);
    let (_head, first) = ask(service.proxy, "GET", "oriel.proxy", "/ca.pem");
    let (_head, chain) = ask(service.proxy, "GET", "oriel.proxy", "/ca.pem?chain=1");
    let (first, chain) = (text(first), text(chain));
    assert_eq!(first.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(chain.matches("BEGIN CERTIFICATE").count() >= 2 && chain.starts_with(&first));
    assert!(!first.contains("PRIVATE") && !chain.contains("PRIVATE"));
}
