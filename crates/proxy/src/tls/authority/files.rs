//! Files of certificates and keys: how they are read, and which are not.

use std::io::Read;
use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::AuthorityError;
use crate::tls::certificate::parse;

/// A file of certificates or of a key is some kilobytes; this guards against a wrong path.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the certificates of a file: PEM, or one in DER.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    certificates_in(&read_file(path, |_| Ok(()))?)
}

/// Reads the file of a key. One that others than its owner can read is refused.
pub fn read_key(path: &Path) -> Result<Vec<u8>, AuthorityError> {
    read_file(path, |file| refuse_exposed(file, path))
}

/// The certificates in bytes: PEM, or one in DER.
pub(super) fn certificates_in(
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let in_pem: Vec<_> = CertificateDer::pem_slice_iter(bytes)
        .enumerate()
        .map(|(index, certificate)| {
            let position = index + 1;
            certificate.map_err(|_error| AuthorityError::BadCertificate { position })
        })
        .collect::<Result<_, _>>()?;
    if !in_pem.is_empty() {
        return Ok(in_pem);
    }
    let der = CertificateDer::from(bytes.to_vec());
    match parse(&der) {
        Some(_) => Ok(vec![der]),
        None => Err(AuthorityError::NoCertificate),
    }
}

pub(in crate::tls) fn read_file(
    path: &Path,
    check: impl FnOnce(&std::fs::File) -> Result<(), AuthorityError>,
) -> Result<Vec<u8>, AuthorityError> {
    let failed = |source| AuthorityError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    check(&file)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}

/// Looks at the file that is open, not at the path: the path may lead elsewhere by now.
#[cfg(unix)]
pub(in crate::tls) fn refuse_exposed(
    file: &std::fs::File,
    path: &Path,
) -> Result<(), AuthorityError> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata().map_err(|source| AuthorityError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(AuthorityError::KeyExposed { path, mode });
    }
    Ok(())
}

#[cfg(not(unix))]
pub(in crate::tls) fn refuse_exposed(
    _file: &std::fs::File,
    _path: &Path,
) -> Result<(), AuthorityError> {
    Ok(())
}
