//! What can go wrong with an embedded proxy.

use std::path::PathBuf;
use std::{fmt, io};

use crate::accept::{BindError, ReloadError};
use crate::tls::authority::AuthorityError;

/// Why an embedded proxy could not be built, started, changed or stopped. The list is closed.
#[derive(Debug, thiserror::Error)]
pub enum MitmError {
    /// Fields of the configuration are wrong.
    #[error(transparent)]
    InvalidConfig(#[from] InvalidConfig),
    /// The authority cannot be read, made or used.
    #[error("no certificate authority")]
    Authority(#[from] AuthorityError),
    /// The authority that was made cannot be written.
    #[error("cannot write the certificate authority to {}", path.display())]
    WriteAuthority {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Of the certificate and the key, one is there and the other is not.
    #[error(
        "{} is there and {} is not: an authority is both",
        present.display(),
        missing.display()
    )]
    HalfAuthority {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// The proxy cannot listen, or cannot be set up.
    #[error("cannot start")]
    Start(#[from] BindError),
    /// The new configuration changes what cannot change while the proxy runs; the old one stays.
    #[error("{} cannot change while the proxy runs", fields.join(", "))]
    Fixed {
        /// The fields.
        fields: Vec<&'static str>,
    },
    /// The new configuration cannot be set up; the old one stays.
    #[error("cannot take the configuration")]
    Reload(#[source] ReloadError),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// Not everything ended in the time given, and what was left was cut.
    #[error(
        "cut {connections_cut} connections and {callbacks_cut} callbacks that had not ended in time"
    )]
    TimedOut {
        /// Client connections that were cut.
        connections_cut: usize,
        /// Connection ids of which the handler was not told everything. Their closes were told.
        callbacks_cut: usize,
    },
}

/// The fields of a configuration that are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    /// All of them, at least one.
    pub fields: Vec<InvalidField>,
}

/// One field, what is wrong with it, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// For example `upstream.timeout_ms`.
    pub field: String,
    /// What is wrong, in words.
    pub problem: String,
    /// What to do about it, in words.
    pub fix: String,
}

impl InvalidField {
    pub(super) fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        }
    }
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, wrong) in self.fields.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            let InvalidField {
                field,
                problem,
                fix,
            } = wrong;
            write!(out, "{between}{field}: {problem} ({fix})")?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidConfig {}
