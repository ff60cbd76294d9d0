//! macOS and Windows, whose own commands do it. On macOS they are run, elsewhere they are told.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::change::Change;
use super::{Certificate, Store};

/// A system that does it by commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    Macos,
    Windows,
}

/// The commands for a store; `None` if the system has no such store. `file` has the certificate.
pub(crate) fn commands(
    platform: Platform,
    store: Store,
    file: &Path,
    certificate: &Certificate,
) -> Option<Change> {
    let file = file.display().to_string();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let sha256 = certificate.fingerprint().to_ascii_uppercase();
    Some(match (platform, store) {
        (Platform::Macos, Store::User | Store::System) => {
            let keychain = match store {
                Store::System => PathBuf::from("/Library/Keychains/System.keychain"),
                _ => certificate.home.join("Library/Keychains/login.keychain-db"),
            };
            let keychain = keychain.display().to_string();
            let mut install = vec!["security", "add-trusted-cert"];
            if store == Store::System {
                install.push("-d");
            }
            install.extend(["-r", "trustRoot", "-k", &keychain, &file]);
            Change::Command {
                install: words(&install),
                uninstall: words(&[
                    "security",
                    "delete-certificate",
                    "-t",
                    "-Z",
                    &sha256,
                    &keychain,
                ]),
            }
        }
        (Platform::Windows, Store::User) => Change::Command {
            install: words(&["certutil", "-user", "-addstore", "Root", &file]),
            uninstall: words(&[
                "certutil",
                "-user",
                "-delstore",
                "Root",
                &certificate.common_name,
            ]),
        },
        (Platform::Windows, Store::System) => Change::Command {
            install: words(&["certutil", "-addstore", "Root", &file]),
            uninstall: words(&["certutil", "-delstore", "Root", &certificate.common_name]),
        },
        (_, Store::Firefox | Store::Java) => return None,
    })
}
