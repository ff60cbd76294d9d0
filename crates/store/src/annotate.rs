//! What people say about flows: tags and a note. It stands beside a flow and never changes what was
//! captured.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::database;
use crate::limits::{NOTE_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX};
use crate::reader::{flow_of_uuid, row_of};
use crate::{FlowRef, FlowRow, StoreError};

/// Writes what people say about flows. Others may write to the same database meanwhile.
#[derive(Debug)]
pub struct Annotator {
    connection: Connection,
}

/// What is said about a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    /// Its tags, sorted.
    pub tags: Vec<String>,
    /// The note.
    pub note: Option<String>,
}

/// A change of what is said about a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotate {
    /// Tags that it gets.
    pub add_tags: Vec<String>,
    /// Tags that it loses.
    pub remove_tags: Vec<String>,
    /// Its new note; an empty one takes the note away.
    pub note: Option<String>,
}

/// Why something cannot be said about a flow.
#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    /// This is no tag.
    #[error(
        "{tag:?} is no tag: it needs 1 to {TAG_BYTES_MAX} bytes, without spaces, commas, quotes and asterisks"
    )]
    NotATag {
        /// What was given.
        tag: String,
    },
    /// The flow would have too many tags.
    #[error("a flow has at most {TAGS_MAX} tags")]
    TooManyTags,
    /// The note is too long.
    #[error("a note has at most {NOTE_BYTES_MAX} bytes")]
    NoteTooLong,
    /// The store failed, or there is no such flow.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Annotator {
    /// Opens an existing database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = database::open_existing(path)?;
        Ok(Self { connection })
    }

    /// The flow with this UUID; `None` if it is not there.
    pub fn flow_of(&self, uuid: &str) -> Result<Option<FlowRef>, StoreError> {
        flow_of_uuid(&self.connection, uuid)
    }

    /// Says of the flow with this UUID what is said elsewhere, in the place of what was said here. Answers
    /// whether it is there.
    pub fn replace(&mut self, uuid: &str, annotation: &Annotation) -> Result<bool, StoreError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(flow) = flow_of_uuid(&transaction, uuid)? else {
            return Ok(false);
        };
        let row = row_of(&transaction, flow)?;
        store(&transaction, row, annotation)?;
        transaction.commit()?;
        Ok(true)
    }

    /// Changes what is said about a flow, and answers what is said now. Followers see it as a change
    /// of the flow.
    pub fn annotate(
        &mut self,
        flow: FlowRef,
        change: &Annotate,
    ) -> Result<Annotation, AnnotateError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(StoreError::from)?;
        let row = row_of(&transaction, flow)?;
        let mut annotation = read(&transaction, row)?;
        annotation.apply(change)?;
        store(&transaction, row, &annotation)?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(annotation)
    }
}

impl Annotation {
    /// What a flow of elsewhere brings along.
    pub(crate) fn of(row: &FlowRow) -> Self {
        Self {
            tags: row.tags.clone(),
            note: row.note.clone(),
        }
    }

    /// Changes it; what is not allowed changes nothing that is stored.
    pub(crate) fn apply(&mut self, change: &Annotate) -> Result<(), AnnotateError> {
        for tag in &change.add_tags {
            if !is_tag(tag) {
                return Err(AnnotateError::NotATag { tag: tag.clone() });
            }
            self.tags.push(tag.clone());
        }
        self.tags.retain(|tag| !change.remove_tags.contains(tag));
        self.tags.sort_unstable();
        self.tags.dedup();
        if self.tags.len() > TAGS_MAX {
            return Err(AnnotateError::TooManyTags);
        }
        if let Some(note) = &change.note {
            if note.len() > NOTE_BYTES_MAX {
                return Err(AnnotateError::NoteTooLong);
            }
            self.note = Some(note.clone()).filter(|note| !note.is_empty());
        }
        Ok(())
    }
}

/// Whether a filter can ask for it as it stands.
fn is_tag(tag: &str) -> bool {
    let odd = |letter: char| {
        letter.is_whitespace() || letter.is_control() || matches!(letter, ',' | '"' | '*' | '/')
    };
    !tag.is_empty() && tag.len() <= TAG_BYTES_MAX && !tag.contains(odd)
}

fn read(connection: &Connection, row: i64) -> Result<Annotation, StoreError> {
    let found: Option<(String, Option<String>)> = connection
        .prepare_cached("SELECT tags, note FROM annotations WHERE flow = ?1")?
        .query_row([row], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(match found {
        Some((tags, note)) => Annotation {
            tags: parse_tags(&tags)?,
            note,
        },
        None => Annotation::default(),
    })
}

/// Stores it, and has followers and archives look at the flow again.
fn store(connection: &Connection, row: i64, annotation: &Annotation) -> Result<(), StoreError> {
    write(connection, row, annotation)?;
    connection.execute("INSERT INTO flow_changes (flow) VALUES (?1)", [row])?;
    Ok(())
}

/// Stores it in the place of what was said before.
pub(crate) fn write(
    connection: &Connection,
    row: i64,
    annotation: &Annotation,
) -> Result<(), StoreError> {
    match *annotation == Annotation::default() {
        true => {
            connection
                .prepare_cached("DELETE FROM annotations WHERE flow = ?1")?
                .execute([row])?;
        }
        false => {
            let tags = serde_json::to_string(&annotation.tags).expect("texts are JSON");
            connection
                .prepare_cached(
                    "INSERT INTO annotations (flow, tags, note) VALUES (?1, ?2, ?3)
                     ON CONFLICT (flow) DO UPDATE SET tags = excluded.tags, note = excluded.note",
                )?
                .execute((row, tags, &annotation.note))?;
        }
    }
    Ok(())
}

/// The tags of a row.
pub(crate) fn parse_tags(json: &str) -> Result<Vec<String>, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Damaged {
        detail: format!("the tags of a flow are no list: {error}"),
    })
}
