//! The authority of an embedded proxy: read from the two files named, or made there.

use std::fs;
use std::path::Path;

use super::config::TlsConfig;
use super::error::MitmError;
use crate::clock;
use crate::new_file::write_new;
use crate::tls::authority::Authority;

/// The name of an authority that is made here.
const COMMON_NAME: &str = "oriel embedded authority";

/// Reads the authority; makes it first if neither of its files is there.
pub(super) fn load_or_make(tls: &TlsConfig) -> Result<Authority, MitmError> {
    let (certificate, key) = (&tls.ca_cert_path, &tls.ca_key_path);
    match (certificate.exists(), key.exists()) {
        (true, true) => {}
        (false, false) => make(certificate, key)?,
        (true, false) => return Err(half(certificate, key)),
        (false, true) => return Err(half(key, certificate)),
    }
    Ok(Authority::load(certificate, key)?)
}

fn make(certificate: &Path, key: &Path) -> Result<(), MitmError> {
    let authority = Authority::generate(COMMON_NAME, clock::now())?;
    for path in [certificate, key] {
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            let made = builder.recursive(true).create(folder);
            made.map_err(|source| unwritable(folder, source))?;
        }
    }
    let write = |path: &Path, text: &str, mode| {
        write_new(path, text, mode).map_err(|source| unwritable(path, source))
    };
    // The key's file holds both, so that of two processes that make it at the same moment each
    // ends with the certificate of the key that is there.
    let both = format!("{}{}", authority.key_pem(), authority.certificate_pem());
    write(key, &both, 0o600)?;
    let authority = Authority::load(key, key)?;
    write(certificate, authority.certificate_pem(), 0o644)
}

fn unwritable(path: &Path, source: std::io::Error) -> MitmError {
    let path = path.to_owned();
    MitmError::WriteAuthority { path, source }
}

fn half(present: &Path, missing: &Path) -> MitmError {
    MitmError::HalfAuthority {
        present: present.to_owned(),
        missing: missing.to_owned(),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tls::authority::AuthorityError;

    #[test]
    fn is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let tls = TlsConfig {
            ca_cert_path: folder.path().join("new/ca.pem"),
            ca_key_path: folder.path().join("new/key.pem"),
            ..TlsConfig::default()
        };
        let made = load_or_make(&tls).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&tls.ca_key_path), 0o600);
        assert_eq!(mode(&folder.path().join("new")), 0o700);
        assert_eq!(load_or_make(&tls).unwrap().sha256(), made.sha256());

        fs::set_permissions(&tls.ca_key_path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_make(&tls).unwrap_err();
        assert!(
            matches!(
                &error,
                MitmError::Authority(AuthorityError::KeyExposed { .. })
            ),
            "{error}"
        );
        fs::remove_file(&tls.ca_key_path).unwrap();
        let error = load_or_make(&tls).unwrap_err();
        assert!(matches!(&error, MitmError::HalfAuthority { .. }), "{error}");
    }
}
