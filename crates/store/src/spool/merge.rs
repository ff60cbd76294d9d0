//! Puts what is in the spool into the database, in the order in which it was written there. A flow that
//! is stored already stays as it is, so that doing it twice, after a crash in between, changes nothing.
//! Flows that are open in the spool and whose process has ended are interrupted.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::Spool;
use super::segment::{Next, SegmentReader};
use crate::limits::{RECORDS_FLOWS_MAX, SPOOL_BUSY_TIMEOUT};
use crate::reader::records;
use crate::shipper::read_gaps;
use crate::{ArchiveBatch, FlowState, Importer, Marker, StoreError, database, interrupted};

/// A merge that is under way.
#[derive(Debug)]
pub(crate) struct Merge<'s> {
    spool: &'s Spool,
    importer: Option<Importer>,
    waiting: VecDeque<PathBuf>,
    reader: Option<SegmentReader>,
    /// What was read and is not stored yet.
    content: Option<Vec<u8>>,
    flows: u64,
    /// Some of them were open.
    has_open: bool,
}

/// What a content brought.
#[derive(Debug, Default)]
struct Stored {
    flows: u64,
    has_open: bool,
}

impl<'s> Merge<'s> {
    /// Of all that is there now and that nobody else is at.
    pub(crate) fn new(spool: &'s Spool) -> Self {
        Self {
            spool,
            importer: None,
            waiting: spool.segments().into(),
            reader: None,
            content: None,
            flows: 0,
            has_open: false,
        }
    }

    /// Stores one content; answers whether there is more. After an error the same is tried again.
    pub(crate) fn step(&mut self) -> Result<bool, StoreError> {
        if self.content.is_none() && !self.read()? {
            if let Some(importer) = self.importer.as_ref().filter(|_| self.has_open) {
                importer.mark_interrupted()?;
            }
            if self.flows > 0 {
                tracing::info!(flows = self.flows, "stored what was in the spool");
            }
            return Ok(false);
        }
        let Some(content) = &self.content else {
            return Ok(true);
        };
        let importer = match &mut self.importer {
            Some(importer) => importer,
            place => {
                let opened = Importer::open_once(&self.spool.database, SPOOL_BUSY_TIMEOUT);
                place.insert(opened?)
            }
        };
        match store(content, importer) {
            Ok(stored) => {
                self.flows += stored.flows;
                self.has_open |= stored.has_open;
            }
            Err(error) if error.is_trouble_of_the_place() => return Err(error),
            Err(error @ StoreError::NewerSchema { .. }) => {
                tracing::error!(%error, "what a newer oriel left in the spool stays there");
                self.reader = None;
            }
            Err(error) => {
                tracing::error!(%error, "what is in the spool cannot be stored");
                self.set_aside();
            }
        }
        self.content = None;
        Ok(true)
    }

    /// Reads on, if need be in the next file; answers whether there is any.
    fn read(&mut self) -> Result<bool, StoreError> {
        let Some(reader) = &mut self.reader else {
            let Some(path) = self.waiting.pop_front() else {
                return Ok(false);
            };
            self.reader = SegmentReader::open(&path)
                .map_err(|source| StoreError::NotWritable { path, source })?;
            return Ok(true);
        };
        match reader.next() {
            Next::Content(content) => self.content = Some(content),
            Next::Damage => self.set_aside(),
            Next::End => {
                if let Some(Err(error)) = self.reader.take().map(SegmentReader::remove) {
                    tracing::warn!(%error, "a file of the spool that is merged stays");
                }
            }
        }
        Ok(true)
    }

    /// Leaves the file that is being read, and says so.
    fn set_aside(&mut self) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        let (bytes, path) = (reader.left(), reader.path().to_owned());
        match reader.set_aside() {
            Ok(aside) => tracing::error!(
                path = %aside.display(), bytes_left = bytes,
                "a file of the spool is damaged, or was not written to its end: what stood before \
                 is stored, the rest is not in the record and was set aside"
            ),
            Err(error) => tracing::error!(
                %error, path = %path.display(),
                "a file of the spool is damaged, and cannot be set aside"
            ),
        }
    }
}

/// Stores what was serialized.
fn store(content: &[u8], importer: &mut Importer) -> Result<Stored, StoreError> {
    let spooled = database::open_in_memory(Some(content)).map_err(not_storable)?;
    let runs = records::runs_after(&spooled, 0).map_err(not_storable)?;
    let mut batch = ArchiveBatch {
        runs: runs.into_iter().map(|(_, run)| run).collect(),
        gaps: read_gaps(&spooled, 0).map_err(not_storable)?,
        ..ArchiveBatch::default()
    };
    let mut marker = Marker::default();
    let mut stored = Stored::default();
    loop {
        let found = records::read(&spooled, marker, RECORDS_FLOWS_MAX).map_err(not_storable)?;
        if found.marker == marker && batch.is_empty() {
            break;
        }
        marker = found.marker;
        batch.flows = found.flows;
        stored.flows += u64::try_from(batch.flows.len()).unwrap_or(0);
        let states = batch.flows.iter().map(|flow| flow.detail.row.state);
        stored.has_open |= states.into_iter().any(|state| state == FlowState::Open);
        importer.complete(&batch)?;
        batch = ArchiveBatch::default();
    }
    if stored.has_open {
        for (uuid, process) in interrupted::processes(&spooled).map_err(not_storable)? {
            importer.note_process(&uuid, &process)?;
        }
    }
    Ok(stored)
}

/// Trouble with what is in memory is none of the place.
fn not_storable(error: StoreError) -> StoreError {
    match error.is_trouble_of_the_place() {
        true => StoreError::NotStorable {
            detail: error.to_string(),
        },
        false => error,
    }
}
