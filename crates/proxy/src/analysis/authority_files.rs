//! The certificate authority of a runner: made once, and found again at every start.

use std::path::Path;

use traffic::Timestamp;

use super::RunError;
use crate::new_file::write_new;
use crate::tls::authority::Authority;

/// Loads the authority whose certificate is, or is to be, at this path. Its key stands beside it in
/// a file of the same name with the ending `key`, mode 0600, and the certificate in that file too:
/// so a key never exists without it, and the certificate's own file (mode 0644) can be made again.
pub(super) fn load_or_make(certificate: &Path, now: Timestamp) -> Result<Authority, RunError> {
    let key = certificate.with_extension("key");
    if key == certificate {
        let path = certificate.to_owned();
        return Err(RunError::CaCertPath { path });
    }
    if !key.exists() {
        if certificate.exists() {
            return Err(RunError::CaKeyMissing { path: key });
        }
        let authority = Authority::generate("oriel-proxy", now)?;
        let both = format!("{}{}", authority.key_pem(), authority.certificate_pem());
        write(&key, &both, 0o600)?;
    }
    if !certificate.exists() {
        // The key's file holds both; another process may have made it a moment ago.
        let authority = Authority::load(&key, &key)?;
        write(certificate, authority.certificate_pem(), 0o644)?;
    }
    let authority = Authority::load(certificate, &key)?;
    if authority.not_after() <= now {
        let path = certificate.to_owned();
        return Err(RunError::CaExpired { path });
    }
    Ok(authority)
}

fn write(path: &Path, content: &str, mode: u32) -> Result<(), RunError> {
    write_new(path, content, mode).map_err(|source| RunError::CaWrite {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// 2026-01-01.
    const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

    #[test]
    fn an_authority_is_made_once_and_its_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mitm-ca.crt");
        let made = load_or_make(&path, NOW).unwrap();
        let found = load_or_make(&path, NOW).unwrap();
        assert_eq!(made.sha256(), found.sha256());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path.with_extension("key")), 0o600);
        assert_eq!(mode(&path) & 0o600, 0o600);
        let shown = fs::read_to_string(&path).unwrap();
        assert!(!shown.contains("PRIVATE"), "{shown}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);

        // The certificate can be made again, the key cannot.
        fs::remove_file(&path).unwrap();
        let again = load_or_make(&path, NOW).unwrap();
        assert_eq!(made.sha256(), again.sha256());
        fs::remove_file(path.with_extension("key")).unwrap();
        let missing = load_or_make(&path, NOW).unwrap_err();
        assert!(
            matches!(missing, RunError::CaKeyMissing { .. }),
            "{missing}"
        );
    }

    #[test]
    fn what_cannot_serve_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        load_or_make(&path, NOW).unwrap();
        let later = Timestamp(NOW.0 + 366 * 86_400 * 1_000_000);
        let expired = load_or_make(&path, later).unwrap_err();
        assert!(matches!(expired, RunError::CaExpired { .. }), "{expired}");
        let same = load_or_make(&path.with_extension("key"), NOW).unwrap_err();
        assert!(matches!(same, RunError::CaCertPath { .. }), "{same}");
        let nowhere = load_or_make(&folder.path().join("none/ca.crt"), NOW).unwrap_err();
        assert!(matches!(nowhere, RunError::CaWrite { .. }), "{nowhere}");
    }
}
