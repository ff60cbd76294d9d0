//! What Linux systems trust: a folder for certificates of the administrator (the anchors), and what
//! the system's own tool makes of it, one file of all certificates and a folder with links by
//! OpenSSL's hash.
//!
//! On this machine the anchor is put in place and the tool is run. In a folder nothing is run: what
//! the tool would make is changed directly, and the anchor has the tool make the same when it runs
//! inside later.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::change::Change;
use super::root::Root;
use super::{Certificate, appended};

/// A family of systems that do it in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Family {
    RedHat,
    Suse,
    Arch,
    Debian,
}

/// How one family of systems does it.
struct Layout {
    family: Family,
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
        family: Family::RedHat,
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
        family: Family::Suse,
        anchors: "/etc/pki/trust/anchors",
        bundles: &[
            "/var/lib/ca-certificates/ca-bundle.pem",
            "/etc/ssl/ca-bundle.pem",
        ],
        hashed: &["/etc/ssl/certs"],
        tool: &["update-ca-certificates"],
    },
    Layout {
        family: Family::Arch,
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
        family: Family::Debian,
        anchors: "/usr/local/share/ca-certificates",
        bundles: &["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"],
        hashed: &["/etc/ssl/certs"],
        tool: &["update-ca-certificates"],
    },
];

/// Where a tool of the system lies; the search path is not asked, as root runs it.
const TOOL_FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

impl Family {
    fn layout(self) -> &'static Layout {
        let [red_hat, suse, arch, debian] = &LAYOUTS;
        match self {
            Self::RedHat => red_hat,
            Self::Suse => suse,
            Self::Arch => arch,
            Self::Debian => debian,
        }
    }

    /// The one whose tool writes this file; for entries of journals that do not name it.
    pub(super) fn of_bundle(bundle: &str) -> Option<Self> {
        let mut layouts = LAYOUTS.iter();
        let found = layouts.find(|layout| layout.bundles.first() == Some(&bundle));
        found.map(|layout| layout.family)
    }

    /// The file that the tool writes.
    pub(super) fn bundle(self) -> &'static str {
        self.layout().bundles.first().copied().unwrap_or_default()
    }

    /// The folders where the tool makes links to anchors, and links by hash to those.
    pub(super) fn hashed(self) -> &'static [&'static str] {
        self.layout().hashed
    }

    /// The tool of this machine; by its name alone if it is in none of the usual folders.
    pub(super) fn command(self) -> Vec<String> {
        let mut command: Vec<String> = Vec::new();
        for word in self.layout().tool {
            command.push((*word).to_owned());
        }
        if let (Some(tool), Some(program)) = (tool(self.layout()), command.first_mut()) {
            *program = tool.display().to_string();
        }
        command
    }
}

/// Whether this is a folder of anchors, or one above it.
pub(super) fn leads_to_anchors(folder: &Path) -> bool {
    LAYOUTS
        .iter()
        .any(|layout| Path::new(layout.anchors).starts_with(folder))
}

/// Whether this is the anchor of a certificate of this name.
pub(super) fn is_anchor(path: &Path, name: &str) -> bool {
    anchors(name).any(|anchor| anchor == path)
}

/// Where the anchor of a certificate of this name may be.
pub(super) fn anchors(name: &str) -> impl Iterator<Item = PathBuf> {
    let file_name = format!("{name}.crt");
    LAYOUTS
        .iter()
        .map(move |layout| Path::new(layout.anchors).join(&file_name))
}

/// Whether this is a file of all certificates.
pub(super) fn is_bundle(path: &Path) -> bool {
    let mut bundles = LAYOUTS.iter().flat_map(|layout| layout.bundles);
    bundles.any(|bundle| Path::new(bundle) == path)
}

/// Whether this is a link to the anchor of a certificate of this name, or one by hash to that.
pub(super) fn is_link(path: &Path, to: &Path, name: &str) -> bool {
    let (Some(folder), Some(file_name)) = (path.parent(), path.file_name()) else {
        return false;
    };
    let mut folders = LAYOUTS.iter().flat_map(|layout| layout.hashed);
    let own = PathBuf::from(format!("{name}.pem"));
    let by_hash = file_name.to_str().is_some_and(is_hash);
    folders.any(|hashed| Path::new(hashed) == folder)
        && match file_name == own.as_os_str() {
            true => is_anchor(to, name),
            false => by_hash && to == own,
        }
}

/// What is to be changed; `None` if this is no system that is known.
pub(super) fn plan(root: &Root, certificate: &Certificate) -> Option<Vec<Change>> {
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
    match tool(layout).filter(|_| *root == Root::Machine) {
        Some(_) => changes.push(Change::Refresh {
            family: layout.family,
            pem: certificate.pem.clone(),
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

/// The program of a layout on this machine.
fn tool(layout: &Layout) -> Option<PathBuf> {
    let program = layout.tool.first()?;
    let mut paths = TOOL_FOLDERS
        .map(|folder| Path::new(folder).join(program))
        .into_iter();
    paths.find(|path| path.exists())
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
            name: certificate.name(),
            pem: certificate.pem.clone(),
            ends_line: appended::ends_line(&before),
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

/// Whether a folder has links by hash.
fn has_hashes(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .into_iter()
        .any(|entry| entry.file_name().to_str().is_some_and(is_hash))
}

/// Whether a link has such a name: eight hexadecimal digits, a dot and a number.
fn is_hash(name: &str) -> bool {
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
