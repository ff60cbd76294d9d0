//! macOS and Windows, whose own commands do it. On macOS they are run, elsewhere they are told.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Certificate, Store};

/// A system that does it by commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Platform {
    Macos,
    Windows,
}

/// The commands that do it and undo it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commands {
    pub(crate) install: Vec<String>,
    pub(crate) uninstall: Vec<String>,
}

/// A certificate in a keychain of macOS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keychain {
    /// [`Store::System`] or [`Store::User`].
    pub(super) store: Store,
    /// The home of the user whose keychain it is.
    pub(super) home: PathBuf,
    /// The certificate.
    pub(super) file: PathBuf,
    /// Its fingerprint, in lower case without colons.
    pub(super) sha256: String,
}

impl Keychain {
    pub(super) fn of(certificate: &Certificate, store: Store, file: &Path) -> Self {
        Self {
            store,
            home: certificate.home.clone(),
            file: file.to_owned(),
            sha256: certificate.fingerprint(),
        }
    }

    /// The command that adds it, trusted as a root.
    pub(super) fn install(&self) -> Vec<String> {
        let (keychain, file) = (self.path(), self.file.display().to_string());
        let mut command = vec!["security", "add-trusted-cert"];
        if self.store == Store::System {
            command.push("-d");
        }
        command.extend(["-r", "trustRoot", "-k", &keychain, &file]);
        words(&command)
    }

    /// The command that takes it out, with its trust.
    pub(super) fn uninstall(&self) -> Vec<String> {
        let (keychain, sha256) = (self.path(), self.sha256.to_ascii_uppercase());
        words(&[
            "security",
            "delete-certificate",
            "-t",
            "-Z",
            &sha256,
            &keychain,
        ])
    }

    fn path(&self) -> String {
        let path = match self.store {
            Store::System => PathBuf::from("/Library/Keychains/System.keychain"),
            Store::User | Store::Firefox | Store::Java => {
                self.home.join("Library/Keychains/login.keychain-db")
            }
        };
        path.display().to_string()
    }
}

/// The commands for a store; `None` if the system has no such store. `file` has the certificate.
pub(crate) fn commands(
    platform: Platform,
    store: Store,
    file: &Path,
    certificate: &Certificate,
) -> Option<Commands> {
    let name = file.display().to_string();
    let with_flag = |flag: &[&str], rest: &[&str]| words(&[&["certutil"], flag, rest].concat());
    let flag: &[&str] = match store {
        Store::User => &["-user"],
        Store::System => &[],
        Store::Firefox | Store::Java => return None,
    };
    Some(match platform {
        Platform::Macos => {
            let keychain = Keychain::of(certificate, store, file);
            Commands {
                install: keychain.install(),
                uninstall: keychain.uninstall(),
            }
        }
        Platform::Windows => Commands {
            install: with_flag(flag, &["-addstore", "Root", &name]),
            // By its thumbprint: others may have the same name.
            uninstall: with_flag(flag, &["-delstore", "Root", &certificate.thumbprint()]),
        },
    })
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
