//! What can go wrong with the store, one variant per thing the caller may do differently.

use std::path::PathBuf;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no database yet.
    #[error("no database at {}", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The folder or the file cannot be written.
    #[error("cannot write to {}", path.display())]
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
    /// The file is no SQLite database, is damaged, or its schema is not what its number says.
    #[error("the database is damaged: {detail}")]
    Damaged {
        /// What was found.
        detail: String,
    },
    /// The disk, or the quota, is full.
    #[error("the disk is full")]
    DiskFull,
    /// No such run or flow.
    #[error(transparent)]
    UnknownId(#[from] crate::UnknownId),
    /// A cursor that this store did not give out, or one of another order.
    #[error("the page cursor is not valid here")]
    BadCursor,
    /// A deadline passed before everything was durable.
    #[error("not everything could be stored in time")]
    Deadline,
    /// Reading or writing failed in another way.
    #[error("reading or writing the database failed")]
    Io {
        /// What the system or SQLite said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
