//! What Linux systems trust: a folder for certificates of the administrator (the anchors), and what
//! the system's own tool makes of it, one file of all certificates and a folder with links by
//! OpenSSL's hash.
//!
//! On this machine the anchor is put in place and the tool is run. In a folder nothing is run: what
//! the tool would make is changed directly, and the anchor has the tool make the same when it runs
//! inside later.

use std::path::{Path, PathBuf};

use super::change::Change;
use super::root::Root;
use super::{Certificate, appended};
use crate::environment::Environment;

/// How one family of systems does it.
struct Layout {
    anchors: &'static str,
    /// The files of all certificates, the one that the tool writes first.
    bundles: &'static [&'static str],
    /// Folders with links by hash.
    hashed: &'static [&'static str],
    tool: &'static [&'static str],
}

/// Red Hat and Fedora, SUSE, Arch, then Debian and Alpine, whose folder others have as well. Their
/// tools: update-ca-trust(8), update-ca-certificates(8).
const LAYOUTS: [Layout; 4] = [
    Layout {
        anchors: "/etc/pki/ca-trust/source/anchors",
        bundles: &[
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/cert.pem",
            "/etc/ssl/cert.pem",
        ],
        hashed: &[
            "/etc/pki/ca-trust/extracted/pem/directory-hash",
            "/etc/ssl/certs",
        ],
        tool: &["update-ca-trust", "extract"],
    },
    Layout {
        anchors: "/etc/pki/trust/anchors",
        bundles: &[
            "/var/lib/ca-certificates/ca-bundle.pem",
            "/etc/ssl/ca-bundle.pem",
        ],
        hashed: &["/etc/ssl/certs"],
        tool: &["update-ca-certificates"],
    },
    Layout {
        anchors: "/etc/ca-certificates/trust-source/anchors",
        bundles: &[
            "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/cert.pem",
        ],
        hashed: &["/etc/ca-certificates/extracted/cadir", "/etc/ssl/certs"],
        tool: &["update-ca-trust"],
    },
    Layout {
        anchors: "/usr/local/share/ca-certificates",
        bundles: &["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"],
        hashed: &["/etc/ssl/certs"],
        tool: &["update-ca-certificates"],
    },
];

/// What is to be changed; `None` if this is no system that is known.
pub(super) fn plan(
    root: &Root,
    certificate: &Certificate,
    environment: &Environment,
) -> Option<Vec<Change>> {
    let is_there = |path: &str| {
        root.resolve(Path::new(path))
            .is_ok_and(|path| path.exists())
    };
    // An image without the tool has no folder of anchors, and often the file all the same.
    let layout = LAYOUTS
        .iter()
        .find(|layout| is_there(layout.anchors))
        .or_else(|| {
            let has_bundle = |layout: &&Layout| layout.bundles.iter().any(|path| is_there(path));
            LAYOUTS.iter().find(has_bundle)
        })?;
    let file_name = format!("{}.crt", certificate.name());
    let anchor = Path::new(layout.anchors).join(file_name);
    let mut changes = missing_folders(root, Path::new(layout.anchors));
    changes.push(Change::File {
        path: anchor.clone(),
        pem: certificate.pem.clone(),
    });
    match tool(root, layout, environment) {
        Some(command) => changes.push(Change::Refresh {
            command,
            bundle: layout.bundles.first()?.into(),
            pem: certificate.pem.clone(),
            linked: layout.hashed.iter().map(PathBuf::from).collect(),
            name: link_name(certificate),
        }),
        None => {
            changes.extend(bundles(root, layout, certificate));
            changes.extend(links(root, layout, &anchor, certificate));
        }
    }
    Some(changes)
}

/// The folders on the way to this one that are not there, from above.
pub(super) fn missing_folders(root: &Root, folder: &Path) -> Vec<Change> {
    let is_missing = |path: &&Path| root.resolve(path).is_ok_and(|path| !path.exists());
    let missing = folder.ancestors().take_while(is_missing);
    let mut missing: Vec<_> = missing
        .map(|path| Change::Folder {
            path: path.to_owned(),
        })
        .collect();
    missing.reverse();
    missing
}

/// The tool of this machine.
fn tool(root: &Root, layout: &Layout, environment: &Environment) -> Option<Vec<String>> {
    let (program, arguments) = layout.tool.split_first()?;
    if *root != Root::Machine {
        return None;
    }
    let paths = ["/usr/sbin", "/usr/bin", "/sbin"].map(|folder| Path::new(folder).join(program));
    let standard = || paths.into_iter().find(|path| path.exists());
    let program = environment.find_program(program).or_else(standard)?;
    let program = program.display().to_string();
    let arguments = arguments.iter().map(|word| (*word).to_owned());
    Some(std::iter::once(program).chain(arguments).collect())
}

/// The certificate at the end of each file, which may go by several names.
fn bundles(root: &Root, layout: &Layout, certificate: &Certificate) -> Vec<Change> {
    let mut seen = Vec::new();
    let mut changes = Vec::new();
    for path in layout.bundles {
        let Ok(real) = root.resolve(Path::new(path)) else {
            continue;
        };
        if seen.contains(&real) {
            continue;
        }
        let Ok(before) = std::fs::read(&real) else {
            continue;
        };
        seen.push(real);
        changes.push(Change::Append {
            path: path.into(),
            text: appended::text(&before, &certificate.name(), &certificate.pem),
            pem: certificate.pem.clone(),
        });
    }
    changes
}

/// In each folder with links by hash a link to the anchor, and one by hash to that.
fn links(root: &Root, layout: &Layout, anchor: &Path, certificate: &Certificate) -> Vec<Change> {
    let mut seen = Vec::new();
    let mut changes = Vec::new();
    for folder in layout.hashed.iter().map(PathBuf::from) {
        let Ok(real) = root.resolve(&folder) else {
            continue;
        };
        if seen.contains(&real) || !has_hashes(&real) {
            continue;
        }
        let Some(hash) = certificate.hash else {
            continue;
        };
        let name = link_name(certificate);
        let numbered = (0..).map(|number| format!("{hash:08x}.{number}"));
        // Another certificate of the same name has the same hash, and another number.
        let by_hash = numbered.into_iter().find(|by_hash| {
            let found = std::fs::read_link(real.join(by_hash));
            found.map_or_else(|_| !real.join(by_hash).exists(), |to| to == name)
        });
        changes.push(Change::Link {
            path: folder.join(&name),
            to: anchor.to_owned(),
        });
        changes.extend(by_hash.map(|by_hash| Change::Link {
            path: folder.join(by_hash),
            to: name,
        }));
        seen.push(real);
    }
    changes
}

/// What Debian's tool calls its link to the anchor.
fn link_name(certificate: &Certificate) -> PathBuf {
    format!("{}.pem", certificate.name()).into()
}

/// Whether a folder has links by hash: eight hexadecimal digits, a dot and a number.
fn has_hashes(folder: &Path) -> bool {
    let is_hash = |name: &str| {
        name.split_once('.').is_some_and(|(hash, number)| {
            hash.len() == 8
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .into_iter()
        .any(|entry| entry.file_name().to_str().is_some_and(is_hash))
}
