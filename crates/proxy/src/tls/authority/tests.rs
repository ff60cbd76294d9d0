//! Authorities made here and brought along, and what is refused.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;

use super::*;
use crate::tls::leaf::LeafCache;
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
    let authority = Authority::from_pem(&read(folder, "root.pem"), &read(folder, key));
    let authority = Arc::new(authority.unwrap_or_else(|error| panic!("{key}: {error}")));
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
    for key in [
        "rsa_pkcs8.pem",
        "rsa_pkcs1.pem",
        "p256_sec1.pem",
        "p256_pkcs8.pem",
        "p384_sec1.pem",
        "ed25519.pem",
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
root.pem empty.pem: there is no private key in PEM form (-----BEGIN PRIVATE KEY-----)
root.pem root.pem: there is no private key in PEM form (-----BEGIN PRIVATE KEY-----)
empty.pem key.pem: there is no certificate in PEM form (-----BEGIN CERTIFICATE-----)
key.pem key.pem: there is no certificate in PEM form (-----BEGIN CERTIFICATE-----)
broken.pem key.pem: certificate 1 of the chain cannot be read
");
    for name in ["", &"a".repeat(65)] {
        let refused = Authority::generate(name, now()).unwrap_err();
        assert!(matches!(refused, AuthorityError::BadCommonName));
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
