//! Searches in archives. The words beside a flow tell whether it has those that are looked for; where they
//! stand, and whether one after the other, its texts tell, which are read of a few flows at once.

use std::collections::HashMap;

use traffic::rules::filter::Words;

use super::phrase::Phrase;
use super::{Excerpt, Hit, Hits, Search, SearchCursor, excerpts};
use crate::limits::{ARCHIVE_SEARCH_AT_ONCE, SEARCH_READ_MAX};
use crate::reader::backend::Backend;
use crate::reader::{Cursor, Order, Page, Query};
use crate::{FlowRecord, FlowRow, StoreError};

/// An archive that has the words of its flows.
pub(crate) trait WordIndex {
    /// A page of the flows that have all these words, wherever in it.
    fn with_words(&self, query: &Query, words: &Words) -> Result<Page, StoreError>;

    /// These flows with everything, in any order. One may have been removed meanwhile.
    fn records_of(&self, rows: &[FlowRow]) -> Result<Vec<FlowRecord>, StoreError>;
}

/// Answers a search; `None` where flows have no words.
pub(crate) fn find(
    archive: &(impl Backend + WordIndex),
    search: &Search,
) -> Result<Option<Hits>, StoreError> {
    if !archive.has_texts()? {
        return Ok(None);
    }
    let phrase = Phrase::new(&search.words);
    let mut found = Hits {
        hits: Vec::new(),
        next: None,
    };
    if phrase.is_empty() {
        return Ok(Some(found));
    }
    let mut query = Query {
        filter: search.filter.clone(),
        run: search.run,
        ..Query::default()
    };
    query.after = search.after.map(|after| after.cursor(query.order));
    let mut read = 0;
    loop {
        // No more than are wanted, so that an answer ends where a page does.
        let missing = search.limit.max(1) - found.hits.len();
        query.limit = missing.min(ARCHIVE_SEARCH_AT_ONCE);
        let page = archive.with_words(&query, &search.words)?;
        read += page.rows.len();
        query.after = page.next;
        found.next = page.next.map(SearchCursor::of);
        found
            .hits
            .extend(hits_of(archive, page.rows, &phrase, search)?);
        let is_enough = found.hits.len() >= search.limit || read >= SEARCH_READ_MAX;
        if is_enough || found.next.is_none() {
            return Ok(Some(found));
        }
    }
}

/// Those of the flows that have the phrase.
fn hits_of(
    archive: &impl WordIndex,
    rows: Vec<FlowRow>,
    phrase: &Phrase,
    search: &Search,
) -> Result<Vec<Hit>, StoreError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut excerpts: HashMap<String, Vec<Excerpt>> = archive
        .records_of(&rows)?
        .into_iter()
        .map(|flow| {
            (
                flow.detail.row.uuid.clone(),
                excerpts(&flow, phrase, search),
            )
        })
        .collect();
    let hit = |row: FlowRow| {
        let excerpts = excerpts.remove(&row.uuid)?;
        (!excerpts.is_empty()).then_some(Hit { row, excerpts })
    };
    Ok(rows.into_iter().filter_map(hit).collect())
}

impl SearchCursor {
    fn of(cursor: Cursor) -> Self {
        Self {
            started: cursor.key,
            row: cursor.row,
        }
    }

    fn cursor(self, order: Order) -> Cursor {
        Cursor {
            order,
            key: self.started,
            row: self.row,
        }
    }
}
