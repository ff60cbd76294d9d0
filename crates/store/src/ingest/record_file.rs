//! The file that a writer writes to. It is opened when it can be: a process that begins while it cannot
//! records into the spool, and has it opened with one of the tries to write.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::limits::SPOOL_BUSY_TIMEOUT;
use crate::{StoreError, database, interrupted};

/// A file, open or not yet.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
    connection: OnceCell<Connection>,
    /// Why it was not open from the beginning.
    trouble: Option<StoreError>,
}

impl RecordFile {
    /// One that is open.
    pub(crate) fn opened(path: &Path, connection: Connection) -> Self {
        Self {
            path: path.to_owned(),
            connection: connection.into(),
            trouble: None,
        }
    }

    /// One that cannot be opened now.
    pub(crate) fn closed(path: &Path, trouble: StoreError) -> Self {
        Self {
            path: path.to_owned(),
            connection: OnceCell::new(),
            trouble: Some(trouble),
        }
    }

    /// Why it was not open from the beginning.
    pub(crate) fn trouble(&self) -> Option<&StoreError> {
        self.trouble.as_ref()
    }

    /// Its connection, if it is open.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.get()
    }

    /// Its connection; tries once to open it.
    pub(crate) fn open(&self) -> Result<&Connection, StoreError> {
        if let Some(connection) = self.connection.get() {
            return Ok(connection);
        }
        let opened = database::open_once(&self.path, SPOOL_BUSY_TIMEOUT)?;
        interrupted::mark_interrupted(&opened)?;
        Ok(self.connection.get_or_init(|| opened))
    }

    /// How long to wait for others that write, if it is open.
    pub(crate) fn wait_at_most(&self, patience: Duration) {
        let set = self
            .connection
            .get()
            .map(|open| open.busy_timeout(patience));
        if let Some(Err(error)) = set {
            tracing::warn!(%error, "the time to wait for others could not be set");
        }
    }
}
