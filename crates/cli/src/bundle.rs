//! The files that make a child trust our certificates: our certificate alone for variables that
//! add to the roots, and a bundle with the system's roots for variables that replace them.

use std::path::{Path, PathBuf};

use crate::authority::{make_private_folder, replace};
use crate::child_env::{ADDING, REPLACING};
use crate::environment::Environment;

/// Where the files are.
#[derive(Clone, Debug)]
pub(crate) struct TrustFiles {
    /// The system's roots, whatever was configured before, and our certificate.
    pub(crate) bundle: PathBuf,
    /// Our certificate, and what the adding variables named before.
    pub(crate) addition: PathBuf,
}

/// Mode of the file with our certificate: who sees it knows what is trusted here. The folder is closed
/// to others anyway.
const ADDITION_MODE: u32 = 0o600;
/// Mode of the file with the system's roots, which everybody knows.
const BUNDLE_MODE: u32 = 0o644;

/// Writes both files into a folder of ours.
pub(crate) fn write(
    folder: &Path,
    certificate_pem: &str,
    environment: &Environment,
) -> std::io::Result<TrustFiles> {
    make_private_folder(folder)?;
    let files = TrustFiles::in_folder(folder);
    let configured = configured(environment, REPLACING, folder);
    let roots = system_roots(environment);
    let bundle = concatenate(&[&roots, &configured, certificate_pem]);
    replace(&files.bundle, bundle.as_bytes(), BUNDLE_MODE)?;
    let added = concatenate(&[&configured_additions(environment, folder), certificate_pem]);
    replace(&files.addition, added.as_bytes(), ADDITION_MODE)?;
    Ok(files)
}

/// Adds certificates to the files that are in a folder already, for shells that were pointed at them
/// before there were these certificates.
pub(crate) fn add(folder: &Path, certificate_pem: &str) -> std::io::Result<()> {
    let TrustFiles { bundle, addition } = TrustFiles::in_folder(folder);
    for (path, mode) in [(bundle, BUNDLE_MODE), (addition, ADDITION_MODE)] {
        if path.exists() {
            let text = concatenate(&[&std::fs::read_to_string(&path)?, certificate_pem]);
            replace(&path, text.as_bytes(), mode)?;
        }
    }
    Ok(())
}

impl TrustFiles {
    fn in_folder(folder: &Path) -> Self {
        Self {
            bundle: folder.join("bundle.pem"),
            addition: folder.join("ca.pem"),
        }
    }
}

/// Where systems keep the roots they trust in one file, the most common first.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// The roots that the system trusts, as PEM; empty where it has none. One file is read where there
/// is one, as that takes a thirtieth of the time of a folder; a folder of one's own is honoured.
pub(crate) fn system_roots(environment: &Environment) -> String {
    let bundle = SYSTEM_BUNDLES
        .iter()
        .filter(|_| !environment.is_set("SSL_CERT_DIR"))
        .find_map(|path| std::fs::read_to_string(path).ok());
    bundle.unwrap_or_else(native_roots)
}

/// The roots by the way of each platform, which reads folders and key stores too.
fn native_roots() -> String {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(%error, "some of the system's roots could not be read");
    }
    proxy::tls::pem::certificates(&loaded.certs)
}

fn configured_additions(environment: &Environment, own: &Path) -> String {
    configured(environment, ADDING, own)
}

/// The content of the files that the variables name, each file once. A file of a run around this
/// one is not among them: it holds the roots again.
fn configured(environment: &Environment, names: &[&str], own: &Path) -> String {
    let mut paths: Vec<PathBuf> = Vec::new();
    for path in names.iter().filter_map(|name| environment.path(name)) {
        if !paths.contains(&path) && !path.starts_with(own) {
            paths.push(path);
        }
    }
    let texts: Vec<String> = paths
        .iter()
        .filter_map(|path| match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read a configured bundle");
                None
            }
        })
        .collect();
    concatenate(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Puts PEM texts behind each other, with a line end between them where one lacks it.
pub(crate) fn concatenate(texts: &[&str]) -> String {
    let mut whole = String::with_capacity(texts.iter().map(|text| text.len() + 1).sum());
    for text in texts {
        whole.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            whole.push('\n');
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_what_was_configured_and_ours() {
        let folder = tempfile::tempdir().unwrap();
        let corporate = folder.path().join("corp.pem");
        std::fs::write(&corporate, "CORP").unwrap();
        let environment = Environment::of(&[
            ("CURL_CA_BUNDLE", corporate.to_str().unwrap()),
            ("AWS_CA_BUNDLE", corporate.to_str().unwrap()),
            ("REQUESTS_CA_BUNDLE", "/nowhere/at/all.pem"),
        ]);
        let own = folder.path().join("run");
        let files = write(&own, "OURS\n", &environment).unwrap();
        let bundle = std::fs::read_to_string(files.bundle).unwrap();
        assert!(bundle.ends_with("CORP\nOURS\n"), "{bundle}");
        assert_eq!(bundle.matches("CORP").count(), 1);
        assert_eq!(std::fs::read_to_string(&files.addition).unwrap(), "OURS\n");
        add(&own, "NEW\n").unwrap();
        let added = std::fs::read_to_string(files.addition).unwrap();
        assert_eq!(added, "OURS\nNEW\n");
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        add(&folder.path().join("empty"), "NEW\n").unwrap();
        assert!(!folder.path().join("empty/ca.pem").exists());
    }
}
