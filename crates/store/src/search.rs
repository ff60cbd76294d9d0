//! Full text of flows: URLs, bodies and messages as people read them.
//!
//! The index is a file of its own beside the record (`oriel.search.db` for `oriel.db`): filling it never
//! keeps the writer of the record waiting, and who removes it loses nothing, since it is made anew from the
//! record. It is contentless: it holds which flows have a word, not the text. So a phrase is looked for in
//! two steps: the index names the flows that have its words, and their texts are read. An archive has the
//! words beside each flow, and is searched in the same two steps ([`archive`]).

pub(crate) mod archive;
mod index;
mod indexer;
mod phrase;
mod text;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use traffic::rules::filter::{Filter, Words};

pub use self::index::TextIndex;
pub(crate) use self::index::{attach, attach_once};
pub use self::indexer::TextIndexer;
use self::phrase::{Phrase, excerpt};
pub(crate) use self::phrase::{Wanted, matching, wanted};
pub use self::text::is_binary;
use self::text::text_of;
pub(crate) use self::text::{words_of_flow, words_of_url};
use crate::limits::{SEARCH_CANDIDATES_MAX, SEARCH_READ_MAX};
use crate::reader::page::parse_places;
use crate::reader::records::Whole;
use crate::reader::select::Conditions;
use crate::{FlowRecord, FlowRow, RunId, StoreError};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Search {
    /// These words, one after the other, letters in either case.
    pub words: Words,
    /// Only there; nothing stands for everywhere.
    pub parts: Vec<TextPart>,
    /// Only flows that match.
    pub filter: Option<Filter>,
    /// Only flows of this run.
    pub run: Option<RunId>,
    /// How many at most.
    pub limit: usize,
    /// Characters shown before and behind what was found.
    pub context: usize,
    /// Go on behind this flow, of an earlier answer to the same question.
    pub after: Option<SearchCursor>,
}

/// Where texts of a flow stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextPart {
    /// The URL.
    Url,
    /// The body of the request, or what the client of a WebSocket sent.
    Request,
    /// The body of the response, or what the upstream of a WebSocket sent.
    Response,
}

/// Where a search goes on. Its text form is opaque and starts with `s_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchCursor {
    /// When the flow started; 0 where rows lie in the order of time.
    started: i64,
    row: i64,
}

/// What was found, the newest first.
#[derive(Clone, Debug)]
pub struct Hits {
    /// The flows.
    pub hits: Vec<Hit>,
    /// Where to go on; `None` at the end. There may be more behind it even if fewer were found than
    /// were asked for: then enough was looked at for one answer.
    pub next: Option<SearchCursor>,
}

/// A flow that has the words.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The flow.
    pub row: FlowRow,
    /// The first place in each part.
    pub excerpts: Vec<Excerpt>,
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// Where it stands.
    pub part: TextPart,
    /// What stands before.
    pub before: String,
    /// What was looked for, as it stands there.
    pub found: String,
    /// What stands behind.
    pub behind: String,
}

impl TextPart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Url, Self::Request, Self::Response];

    /// The stable name, which is that of its column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

impl Search {
    fn wanted_parts(&self) -> &[TextPart] {
        match self.parts.as_slice() {
            [] => &TextPart::ALL,
            parts => parts,
        }
    }
}

/// Answers a search in a file. The index is attached.
pub(crate) fn find(connection: &Connection, search: &Search) -> Result<Hits, StoreError> {
    let phrase = Phrase::new(&search.words);
    let Some(mut matching) = matching(&search.words) else {
        return Ok(Hits {
            hits: Vec::new(),
            next: None,
        });
    };
    if !search.parts.is_empty() {
        let parts: Vec<&str> = search.parts.iter().map(|part| part.as_str()).collect();
        matching = format!("{{{}}} : ({matching})", parts.join(" "));
    }
    let mut conditions = Conditions::default();
    conditions.add_run(search.run);
    conditions.add_filter(search.filter.as_ref());
    let sql = format!(
        "SELECT * FROM flows_shown WHERE id = ? AND {}",
        conditions.sql()
    );
    let mut whole = Whole::new(connection);
    let mut flow = connection.prepare_cached(&sql)?;
    let mut candidates = connection.prepare_cached(
        "SELECT rowid FROM texts WHERE texts MATCH ?1 AND rowid < ?2 ORDER BY rowid DESC",
    )?;
    let before = search.after.map_or(i64::MAX, |after| after.row);
    let mut candidates = candidates.query((&matching, before))?;
    let mut hits = Vec::new();
    let (mut looked_at, mut read) = (0, 0);
    while let Some(candidate) = candidates.next()? {
        let id: i64 = candidate.get(0)?;
        looked_at += 1;
        let values = std::iter::once(Value::from(id)).chain(conditions.values().iter().cloned());
        if let Some(row) = flow.query(params_from_iter(values))?.next()? {
            read += 1;
            let flow = whole.read(row)?;
            let excerpts = excerpts(&flow, &phrase, search);
            // Of one word the index knows enough.
            if phrase.is_one_word() || !excerpts.is_empty() {
                let row = flow.detail.row;
                hits.push(Hit { row, excerpts });
            }
        }
        let is_enough = hits.len() >= search.limit.max(1);
        if is_enough || looked_at >= SEARCH_CANDIDATES_MAX || read >= SEARCH_READ_MAX {
            return Ok(Hits {
                hits,
                next: Some(SearchCursor {
                    started: 0,
                    row: id,
                }),
            });
        }
    }
    Ok(Hits { hits, next: None })
}

/// What surrounds the phrase in the texts of a flow.
fn excerpts(flow: &FlowRecord, phrase: &Phrase, search: &Search) -> Vec<Excerpt> {
    let parts = search.wanted_parts().iter();
    parts
        .filter_map(|part| excerpt(&text_of(flow, *part), phrase, *part, search.context))
        .collect()
}

impl std::fmt::Display for SearchCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s_{:x}-{:x}", self.started, self.row)
    }
}

impl std::str::FromStr for SearchCursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let places = text.strip_prefix("s_").and_then(parse_places);
        let (started, row) = places.ok_or(StoreError::BadCursor)?;
        Ok(Self { started, row })
    }
}
