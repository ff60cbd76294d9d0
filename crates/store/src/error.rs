//! What can go wrong with the store, one variant per thing the caller may do differently.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database yet.
    #[error("no database at {}", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The folder or the file cannot be created, read or written.
    #[error("cannot open {}", path.display())]
    NotWritable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process keeps the database locked.
    #[error("the database is locked by another process")]
    Locked,
    /// The file was written by a newer oriel.
    #[error("the database has schema {found}, this program knows up to {known}")]
    NewerSchema {
        /// Schema of the file.
        found: u32,
        /// Newest schema this program knows.
        known: u32,
    },
    /// The file is no database of oriel, is damaged, or its schema is not what its number says.
    #[error("the database is damaged: {detail}")]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The disk, or the quota, is full.
    #[error("the disk is full")]
    DiskFull,
    /// What waits beside the database takes as much as it may.
    #[error("the spool is full")]
    SpoolFull,
    /// No such run or flow.
    #[error(transparent)]
    UnknownId(#[from] crate::UnknownId),
    /// A cursor that this store did not give out, or one of another order.
    #[error("the page cursor is not valid here")]
    BadCursor,
    /// Words were asked for where texts are not indexed.
    #[error("the texts of flows are not indexed here")]
    NoTexts,
    /// An archive was to be cut to a size.
    #[error("only the file of a machine is cut to sizes, an archive is not")]
    NoSizes,
    /// A deadline passed before everything was durable.
    #[error("not everything could be stored in time")]
    Deadline,
    /// An archive cannot be reached, or cannot take anything at present; a later try may succeed.
    #[error("{place} cannot be used now")]
    Unavailable {
        /// Its URL, without the password.
        place: String,
        /// What it, or the way there, said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A URL is not one of an archive, or of one that cannot be used.
    #[error("{place} cannot be used: {detail}")]
    BadUrl {
        /// The URL, without the password.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A database refuses this content, and will again.
    #[error("this cannot be stored: {detail}")]
    NotStorable {
        /// What it said.
        detail: String,
    },
    /// Reading or writing failed in another way.
    #[error("reading or writing the database failed")]
    Io {
        /// What the system or SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// The error with its causes, in one line.
    #[must_use]
    pub fn in_one_line(&self) -> String {
        in_one_line(self)
    }

    /// Whether a later try may succeed although nothing about the data changed.
    pub(crate) fn is_trouble_of_the_place(&self) -> bool {
        match self {
            Self::Locked
            | Self::DiskFull
            | Self::SpoolFull
            | Self::NotWritable { .. }
            | Self::Damaged { .. }
            | Self::Unavailable { .. } => true,
            Self::Io { source } => source
                .downcast_ref::<rusqlite::Error>()
                .and_then(rusqlite::Error::sqlite_error_code)
                .is_some_and(|code| {
                    matches!(
                        code,
                        ErrorCode::SystemIoFailure
                            | ErrorCode::OutOfMemory
                            | ErrorCode::ReadOnly
                            | ErrorCode::CannotOpen
                            | ErrorCode::FileLockingProtocolFailed
                            | ErrorCode::PermissionDenied
                    )
                }),
            _ => false,
        }
    }

    /// Whether a flow could not be read for what is stored of it, so that a later try fails as well.
    pub(crate) fn is_of_what_is_stored(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::UnknownId(_) => true,
            // A value that is none of its column; all that SQLite itself reports has a code.
            Self::Io { source } => source
                .downcast_ref::<rusqlite::Error>()
                .is_some_and(|error| error.sqlite_error_code().is_none()),
            _ => false,
        }
    }

    /// Whether a file that could not be opened or written may be so by itself later, with nothing that
    /// a person does to it or to what was asked for.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Locked | Self::DiskFull => true,
            Self::Io { source } => source
                .downcast_ref::<rusqlite::Error>()
                .and_then(rusqlite::Error::sqlite_error_code)
                .is_some_and(|code| code == ErrorCode::SystemIoFailure),
            _ => false,
        }
    }

    /// Names the file in what went wrong when it was opened.
    pub(crate) fn at(self, path: &Path) -> Self {
        match self {
            Self::Io { source } => match source.downcast::<rusqlite::Error>() {
                Ok(error) => Self::opening(path, *error),
                Err(source) => Self::Io { source },
            },
            Self::Damaged { detail } => Self::Damaged {
                detail: format!("{}: {detail}", path.display()),
            },
            other => other,
        }
    }

    pub(crate) fn opening(path: &Path, error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::NotWritable {
                    path: path.to_owned(),
                    source: std::io::Error::other(error),
                }
            }
            _ => error.into(),
        }
    }
}

/// An error with its causes.
pub(crate) fn in_one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.replace(['\n', '\r'], " ")
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged {
                detail: error.to_string(),
            },
            _ => Self::Io {
                source: Box::new(error),
            },
        }
    }
}
