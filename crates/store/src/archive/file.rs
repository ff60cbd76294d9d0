//! A SQLite file as an archive: on a disk of its own, or to copy a record to.

use std::path::{Path, PathBuf};

use crate::database::{KNOWN_SCHEMA, open_for_writing};
use crate::{
    Annotate, AnnotateError, Annotation, Annotator, Archive, ArchiveBatch, ArchiveStatus, Doomed,
    Importer, Migrated, Progress, Removal, Remover, SessionEditor, StoreError,
};

/// A SQLite file that takes the flows of others.
#[derive(Debug)]
pub(crate) struct FileArchive {
    path: PathBuf,
    importer: Importer,
    /// What opening it did.
    migrated: Migrated,
}

impl FileArchive {
    /// Opens the file, creating it where it is missing, and brings it up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let from = crate::database::schema_of(path)?;
        Ok(Self {
            path: path.to_owned(),
            importer: Importer::open(path)?,
            migrated: Migrated {
                from,
                to: KNOWN_SCHEMA,
            },
        })
    }
}

impl Archive for FileArchive {
    fn migrate(&mut self) -> Result<Migrated, StoreError> {
        let done = self.migrated.clone();
        self.migrated.from = self.migrated.to;
        Ok(done)
    }

    fn write(&mut self, batch: &ArchiveBatch) -> Result<(), StoreError> {
        self.importer.insert_batch(batch).map(drop)
    }

    fn plan_removal(&mut self, doomed: &Doomed<'_>) -> Result<Removal, StoreError> {
        Remover::open(&self.path)?.plan(*doomed)
    }

    fn remove(
        &mut self,
        doomed: &Doomed<'_>,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        Remover::open(&self.path)?.remove(*doomed, progress)
    }

    fn annotate(
        &mut self,
        uuid: &str,
        change: &Annotate,
    ) -> Result<Option<Annotation>, AnnotateError> {
        let mut annotator = Annotator::open(&self.path)?;
        match annotator.flow_of(uuid)? {
            Some(flow) => annotator.annotate(flow, change).map(Some),
            None => Ok(None),
        }
    }

    fn rename_session(&mut self, id: &str, name: &str) -> Result<bool, StoreError> {
        SessionEditor::open(&self.path)?.rename(id, name)
    }

    fn merge_sessions(&mut self, into: &str, other: &str) -> Result<bool, StoreError> {
        SessionEditor::open(&self.path)?.merge(into, other)
    }

    fn status(&mut self) -> Result<ArchiveStatus, StoreError> {
        let connection = open_for_writing(&self.path)?;
        let count = |sql| connection.query_row(sql, (), |row| row.get::<_, i64>(0));
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(ArchiveStatus {
            server: format!("SQLite {}", rusqlite::version()),
            schema: KNOWN_SCHEMA,
            known: KNOWN_SCHEMA,
            runs: number(count("SELECT count(*) FROM runs")?),
            flows: number(count("SELECT count(*) FROM flows")?),
            bytes: std::fs::metadata(&self.path).ok().map(|file| file.len()),
        })
    }
}
