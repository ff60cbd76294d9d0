//! Authorities made here and brought along, and what is refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::tls::leaf::{LeafCache, LeafError};
use crate::tls::request::RequestError;
use crate::tls::tests::{DAY, client, handshake, host, now};

/// Runs openssl, the other maker of authorities, in a folder.
fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(folder)
        .output()
        .expect("these tests need the openssl command");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {text}");
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// Takes an authority from files as openssl writes them and has it sign for a client.
fn check_imports(folder: &Path, key: &str) {
    let make = "req -x509 -new -days 30 -out root.pem -subj /DC=test/DC=corp/O=B\u{fc}cher/CN=root";
    openssl(folder, &format!("{make} -key {key}"));
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let authority = Authority::from_bytes(&bytes("root.pem"), &bytes(key));
    let authority = authority.unwrap_or_else(|error| panic!("{key}: {error}"));
    openssl(folder, "x509 -in root.pem -outform DER -out root.der");
    let again = Authority::from_bytes(&bytes("root.der"), authority.key_pem().as_bytes());
    assert_eq!(again.unwrap().sha256(), authority.sha256());
    let authority = Arc::new(authority);
    let leaves = LeafCache::new(Arc::clone(&authority), 1).unwrap();
    let leaf = leaves.leaf(&host("a.test"), now()).unwrap();
    assert_eq!(leaf.cert.len(), 1, "a root is not sent");
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from((*leaf).clone()));
    let server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    handshake(client(&authority, &[]), Arc::new(server), "a.test").succeeded();
}

#[test]
fn imports_every_kind_of_key() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(
        folder,
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa_pkcs8.pem",
    );
    openssl(
        folder,
        "rsa -in rsa_pkcs8.pem -traditional -out rsa_pkcs1.pem",
    );
    openssl(
        folder,
        "ecparam -name prime256v1 -genkey -out p256_sec1.pem",
    );
    openssl(
        folder,
        "pkcs8 -topk8 -nocrypt -in p256_sec1.pem -out p256_pkcs8.pem",
    );
    openssl(
        folder,
        "ecparam -name secp384r1 -genkey -noout -out p384_sec1.pem",
    );
    openssl(folder, "genpkey -algorithm ED25519 -out ed25519.pem");
    openssl(
        folder,
        "pkey -in rsa_pkcs8.pem -outform DER -out rsa_pkcs8.der",
    );
    openssl(
        folder,
        "rsa -in rsa_pkcs8.pem -traditional -outform DER -out rsa_pkcs1.der",
    );
    openssl(
        folder,
        "ec -in p256_sec1.pem -outform DER -out p256_sec1.der",
    );
    openssl(
        folder,
        "ecparam -name secp521r1 -genkey -noout -out p521_sec1.pem",
    );
    for key in [
        "rsa_pkcs8.pem",
        "rsa_pkcs1.pem",
        "p256_sec1.pem",
        "p256_pkcs8.pem",
        "p384_sec1.pem",
        "p521_sec1.pem",
        "ed25519.pem",
        "rsa_pkcs8.der",
        "rsa_pkcs1.der",
        "p256_sec1.der",
    ] {
        check_imports(folder, key);
    }
}

#[test]
fn an_intermediate_is_sent_with_its_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj /CN=root",
    );
    openssl(
        folder,
        "req -new -newkey rsa:2048 -nodes -keyout sub.key -out sub.csr -subj /CN=sub",
    );
    std::fs::write(
        folder.join("ca.cnf"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\n",
    )
    .unwrap();
    openssl(
        folder,
        "x509 -req -in sub.csr -CA root.pem -CAkey root.key -CAcreateserial -out sub.pem \
         -days 30 -extfile ca.cnf",
    );
    let chain = read(folder, "sub.pem") + &read(folder, "root.pem");
    let authority = Arc::new(Authority::from_pem(&chain, &read(folder, "sub.key")).unwrap());
    let leaves = LeafCache::new(authority, 1).unwrap();
    let leaf = leaves.leaf(&host("a.test"), now()).unwrap();
    assert_eq!(
        leaf.cert.len(),
        2,
        "the leaf and the intermediate, without the root"
    );
}

/// `openssl verify` as strict as it gets, of a leaf for a host.
fn verify(folder: &Path, authority: &Arc<Authority>, name: &str) -> Result<(), String> {
    let leaves = LeafCache::new(Arc::clone(authority), 1).unwrap();
    let leaf = leaves.leaf(&host(name), now()).unwrap();
    std::fs::write(folder.join("leaf.pem"), pem::certificates(&leaf.cert)).unwrap();
    let root = authority.chain().last().unwrap().clone();
    std::fs::write(folder.join("root.pem"), pem::certificates(&[root])).unwrap();
    let kind = match host(name) {
        Host::Name(_) => "-verify_hostname",
        Host::Ip(_) => "-verify_ip",
    };
    let name = host(name).to_string();
    let name = name.trim_matches(['[', ']']);
    let output = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            kind,
            name,
        ])
        .args(["-CAfile", "root.pem", "-untrusted", "leaf.pem", "leaf.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn every_kind_of_key_makes_an_authority_that_openssl_takes() {
    let folder = tempfile::tempdir().unwrap();
    for (key, name) in [
        (KeyKind::P256, "ECDSA P-256"),
        (KeyKind::P384, "ECDSA P-384"),
        (KeyKind::Rsa2048, "RSA 2048"),
        (KeyKind::Rsa3072, "RSA 3072"),
        (KeyKind::Rsa4096, "RSA 4096"),
    ] {
        let new = NewAuthority {
            organization: Some("O, \"A\" + B\u{fc}cher <o=x>; \\".to_owned()),
            key,
            days: 30,
            ..NewAuthority::named("\u{2603} odd, name = #1 ")
        };
        let made = Authority::create(&new, now()).unwrap();
        assert_eq!(made.key_kind(), name);
        assert_eq!(KeyKind::like(&made.key), key);
        assert_eq!(
            made.common_name().as_deref(),
            Some("\u{2603} odd, name = #1 ")
        );
        let again = Authority::from_pem(made.certificate_pem(), made.key_pem()).unwrap();
        assert_eq!(again.sha256(), made.sha256());
        std::fs::write(folder.path().join("key.pem"), made.key_pem()).unwrap();
        openssl(folder.path(), "pkey -in key.pem -check -noout");
        let made = Arc::new(made);
        for host in ["a.test", "b\u{fc}cher.example", "192.0.2.1", "2001:db8::1"] {
            verify(folder.path(), &made, host).unwrap();
        }
    }
}

#[test]
fn constraints_are_those_that_openssl_sees() {
    let folder = tempfile::tempdir().unwrap();
    let only = |hosts: &[&str]| {
        let new = NewAuthority {
            only: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            ..NewAuthority::named("constrained")
        };
        Arc::new(Authority::create(&new, now()).unwrap())
    };
    let names = only(&["api.openai.com", "localhost"]);
    let addresses = only(&["127.0.0.0/8", "::1"]);
    let both = only(&["a.test", "192.0.2.0/24"]);
    for (authority, host, permitted) in [
        (&names, "api.openai.com", true),
        (&names, "x.api.openai.com", true),
        (&names, "localhost", true),
        (&names, "openai.com", false),
        (&names, "127.0.0.1", false),
        (&names, "::1", false),
        (&addresses, "127.0.0.1", true),
        (&addresses, "::1", true),
        (&addresses, "::2", false),
        (&addresses, "localhost", false),
        (&both, "a.test", true),
        (&both, "192.0.2.9", true),
        (&both, "192.0.3.9", false),
        (&both, "::1", false),
    ] {
        assert_eq!(authority.permits(&self::host(host)), permitted, "{host}");
        if permitted {
            verify(folder.path(), authority, host).unwrap();
            continue;
        }
        let leaves = LeafCache::new(Arc::clone(authority), 1).unwrap();
        let refused = leaves.leaf(&self::host(host), now()).unwrap_err();
        assert!(matches!(refused, LeafError::NotPermitted { .. }));
        // Who minted it all the same would be refused.
        let mut lax =
            Authority::from_pem(authority.certificate_pem(), authority.key_pem()).unwrap();
        lax.constraints = Constraints::default();
        let said = verify(folder.path(), &Arc::new(lax), host).unwrap_err();
        assert!(
            said.contains("excluded subtree violation")
                || said.contains("permitted subtree violation"),
            "{host}: {said}"
        );
    }
    let text = names.constraints_text().unwrap();
    assert_eq!(text, "only api.openai.com, localhost; not 0.0.0.0/0, ::/0");
}

#[test]
fn constraints_about_subjects_leave_the_subject_empty() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    std::fs::write(
        path.join("req.cnf"),
        "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nO=Corp\nCN=root\n\
         [ext]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
         subjectKeyIdentifier=hash\nnameConstraints=critical,permitted;dirName:corp,\
         permitted;DNS:.corp.test\n[corp]\nO=Corp\n",
    )
    .unwrap();
    openssl(path, "ecparam -name prime256v1 -genkey -noout -out key.pem");
    openssl(
        path,
        "req -x509 -new -key key.pem -days 30 -config req.cnf -out own.pem",
    );
    let authority = Authority::from_pem(&read(path, "own.pem"), &read(path, "key.pem")).unwrap();
    assert_eq!(
        authority.constraints_text().as_deref(),
        Some("only .corp.test")
    );
    let authority = Arc::new(authority);
    verify(path, &authority, "a.corp.test").unwrap();
    assert!(!authority.permits(&host("corp.test")));
}

#[test]
fn a_successor_may_sign_what_the_one_before_it_may() {
    let new = NewAuthority {
        organization: Some("Org".to_owned()),
        key: KeyKind::P384,
        path_length: 3,
        only: vec!["a.test".parse().unwrap()],
        ..NewAuthority::named("first")
    };
    let first = Authority::create(&new, now()).unwrap();
    let second = first.successor("second", 9, now()).unwrap();
    assert_eq!(second.subject(), "CN=second,O=Org");
    assert_eq!(second.key_kind(), "ECDSA P-384");
    assert_eq!(second.constraints_text(), first.constraints_text());
    assert_eq!(second.links()[0].path_length, Some(3));
    let lifetime = second.not_after().micros_since(second.not_before());
    assert_eq!(lifetime / DAY, 9);
    assert_ne!(second.key_id(), first.key_id());
}

#[test]
fn openssl_signs_our_request_and_we_sign_its() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).unwrap();
    let root = NewAuthority {
        key: KeyKind::Rsa2048,
        path_length: 1,
        ..NewAuthority::named("root")
    };
    let root = Authority::create(&root, now()).unwrap();
    write("root.crt", root.certificate_pem());
    write("root.key", root.key_pem());

    let own = Authority::generate("own", now()).unwrap();
    write("own.csr", &own.request(None).unwrap());
    openssl(path, "req -in own.csr -verify -noout");
    write(
        "ca.cnf",
        "basicConstraints=CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n",
    );
    openssl(
        path,
        "x509 -req -in own.csr -CA root.crt -CAkey root.key -CAcreateserial -out own.crt -days 9 \
         -extfile ca.cnf",
    );
    let chain = read(path, "own.crt") + root.certificate_pem();
    let crossed = Authority::from_pem(&chain, own.key_pem()).unwrap();
    assert_eq!(crossed.check_chain(now()), []);
    // openssl wrote no key identifier, so the leaf names the key by that of the certificate that
    // the authority signed itself: who trusts either of them takes it.
    assert_eq!(crossed.key_id(), own.key_id());

    openssl(path, "genrsa -out their.key 2048");
    openssl(
        path,
        "req -new -key their.key -out their.csr -subj /DC=test/CN=AI_Proxy",
    );
    openssl(path, "req -in their.csr -outform DER -out their.der");
    for file in ["their.csr", "their.der"] {
        let request = CertificateRequest::from_bytes(&std::fs::read(path.join(file)).unwrap());
        let request = request.unwrap();
        assert_eq!(request.subject(), "CN=AI_Proxy,DC=test");
        let terms = CrossSigning {
            days: 9_999,
            path_length: 0,
            only: vec!["a.test".parse().unwrap()],
        };
        let refused = root.cross_sign(&request, &terms, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::BadLifetime));
        let terms = CrossSigning {
            days: 3_650,
            ..terms
        };
        let signed = root.cross_sign(&request, &terms, now()).unwrap();
        let chain = pem::certificates(&[signed]) + root.certificate_pem();
        let theirs = Authority::from_pem(&chain, &read(path, "their.key")).unwrap();
        assert_eq!(
            theirs.not_after(),
            Timestamp(root.not_after().0 / 1_000_000 * 1_000_000)
        );
        assert_eq!(theirs.links()[0].path_length, Some(0));
        let theirs = Arc::new(theirs);
        verify(path, &theirs, "a.test").unwrap();
        assert!(!theirs.permits(&host("b.test")));
    }
    let own_request = CertificateRequest::from_bytes(root.request(Some("x")).unwrap().as_bytes());
    let terms = CrossSigning {
        days: 1,
        path_length: 0,
        only: Vec::new(),
    };
    let refused = root
        .cross_sign(&own_request.unwrap(), &terms, now())
        .unwrap_err();
    assert!(matches!(refused, AuthorityError::OwnRequest { .. }));
    let mut broken = std::fs::read(path.join("their.der")).unwrap();
    *broken.last_mut().unwrap() ^= 1;
    let refused = CertificateRequest::from_bytes(&broken).unwrap_err();
    assert_eq!(refused, RequestError::BadSignature);
    let refused = CertificateRequest::from_bytes(root.certificate_pem().as_bytes()).unwrap_err();
    assert_eq!(refused, RequestError::NotARequest);
}

#[test]
fn makes_one_that_comes_back() {
    let made = Authority::generate("oriel test authority", now()).unwrap();
    assert_eq!(made.subject(), "CN=oriel test authority");
    let lifetime = made.not_after().micros_since(made.not_before());
    assert!(lifetime / DAY == 365 && made.not_before() < now());
    let again = Authority::from_pem(made.certificate_pem(), made.key_pem()).unwrap();
    assert_eq!(again.sha256(), made.sha256());
    assert_eq!(again.certificate_pem(), made.certificate_pem());
    assert!(!format!("{made:?}").contains("PRIVATE"));
}

#[test]
fn the_pem_is_what_openssl_writes() {
    let folder = tempfile::tempdir().unwrap();
    let made = Authority::generate("a", now()).unwrap();
    std::fs::write(folder.path().join("in.pem"), made.certificate_pem()).unwrap();
    openssl(folder.path(), "x509 -in in.pem -out out.pem");
    assert_eq!(read(folder.path(), "out.pem"), made.certificate_pem());
}

#[test]
fn refuses_what_cannot_sign() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out root.pem -subj /CN=root",
    );
    openssl(
        folder,
        "req -x509 -key key.pem -out leaf.pem -subj /CN=leaf -addext basicConstraints=CA:FALSE",
    );
    openssl(
        folder,
        "req -x509 -key key.pem -out usage.pem -subj /CN=usage -addext keyUsage=digitalSignature",
    );
    openssl(
        folder,
        "pkcs8 -topk8 -in key.pem -out locked.pem -passout pass:secret",
    );
    openssl(
        folder,
        "rsa -in key.pem -traditional -aes128 -out old_locked.pem -passout pass:secret",
    );
    let other = Authority::generate("other", now()).unwrap();
    std::fs::write(folder.join("other.pem"), other.key_pem()).unwrap();
    std::fs::write(folder.join("empty.pem"), "").unwrap();
    let cut = read(folder, "root.pem").replace('M', "N");
    std::fs::write(folder.join("broken.pem"), cut).unwrap();

    let refused = |certificate: &str, key: &str| {
        let made = Authority::from_pem(&read(folder, certificate), &read(folder, key));
        format!("{certificate} {key}: {}", made.unwrap_err())
    };
    let refused = [
        refused("leaf.pem", "key.pem"),
        refused("usage.pem", "key.pem"),
        refused("root.pem", "other.pem"),
        refused("root.pem", "locked.pem"),
        refused("root.pem", "old_locked.pem"),
        refused("root.pem", "empty.pem"),
        refused("root.pem", "root.pem"),
        refused("empty.pem", "key.pem"),
        refused("key.pem", "key.pem"),
        refused("broken.pem", "key.pem"),
    ]
    .join("\n");
    insta::assert_snapshot!(refused, @r"
leaf.pem key.pem: CN=leaf is not an authority: its basic constraints do not say CA:TRUE
usage.pem key.pem: CN=usage is not an authority: its key usage does not allow signing certificates (keyCertSign)
root.pem other.pem: the key does not belong to the certificate of CN=root
root.pem locked.pem: the key is encrypted; decrypt it first: openssl pkey -in KEY -out DECRYPTED
root.pem old_locked.pem: the key is encrypted; decrypt it first: openssl pkey -in KEY -out DECRYPTED
root.pem empty.pem: there is no private key in it, neither PEM (-----BEGIN PRIVATE KEY-----) nor DER
root.pem root.pem: there is no private key in it, neither PEM (-----BEGIN PRIVATE KEY-----) nor DER
empty.pem key.pem: there is no certificate in it, neither PEM (-----BEGIN CERTIFICATE-----) nor DER
key.pem key.pem: there is no certificate in it, neither PEM (-----BEGIN CERTIFICATE-----) nor DER
broken.pem key.pem: certificate 1 of the chain cannot be read
");
    for name in ["", &"a".repeat(65)] {
        let refused = Authority::generate(name, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::BadCommonName));
        let new = NewAuthority {
            organization: Some(name.to_owned()),
            ..NewAuthority::named("a")
        };
        let refused = Authority::create(&new, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::BadOrganization));
    }
    for days in [0, 3_651] {
        let new = NewAuthority {
            days,
            ..NewAuthority::named("a")
        };
        let refused = Authority::create(&new, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::BadLifetime));
    }
}

#[test]
fn refuses_a_key_that_others_can_read() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        folder.path().join("root.pem"),
        folder.path().join("key.pem"),
    );
    let made = Authority::generate("a", now()).unwrap();
    std::fs::write(&certificate, made.certificate_pem()).unwrap();
    std::fs::write(&key, made.key_pem()).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        std::fs::set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let refused = Authority::load(&certificate, &key).unwrap_err().to_string();
        let expected = format!(
            "the key {path} can be read by others (mode {mode:o}); run: chmod 600 '{path}'",
            path = key.display()
        );
        assert_eq!(refused, expected);
    }
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(
        Authority::load(&certificate, &key).unwrap().sha256(),
        made.sha256()
    );
    let missing = Authority::load(&certificate, &folder.path().join("no.pem"));
    assert!(matches!(missing, Err(AuthorityError::Read { .. })));
}
