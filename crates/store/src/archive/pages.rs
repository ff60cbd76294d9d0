//! A page of a list as both kinds of archives read it: the SQL, the cursor, and where it ends.

use rusqlite::types::Value;
use traffic::rules::filter::Words;

use crate::limits::PAGE_ROWS_MAX;
use crate::reader::select::{Conditions, Dialect, SIZE};
use crate::reader::{Cursor, Order, Page, Query, SortKey};
use crate::{FlowRow, StoreError};

/// One state of an archive that lists are read from.
pub(crate) trait Listed {
    const DIALECT: Dialect;

    /// Whether it has no names of sessions.
    fn is_nameless(&self) -> bool;

    /// How many flows match.
    fn count(&mut self, conditions: &Conditions) -> Result<u64, StoreError>;

    /// The flows that match, each with its number, which orders those that are equal. `order` is what
    /// follows the conditions.
    fn rows(
        &mut self,
        conditions: &Conditions,
        order: &str,
    ) -> Result<Vec<(FlowRow, i64)>, StoreError>;
}

/// Reads a page, of flows that have these words if there are any.
pub(crate) fn read_page<A: Listed>(
    archive: &mut A,
    query: &Query,
    words: Option<&Words>,
) -> Result<Page, StoreError> {
    let mut conditions = Conditions::new(A::DIALECT).nameless(archive.is_nameless());
    conditions.add_run(query.run);
    conditions.add_filter(query.filter.as_ref());
    if let Some(words) = words {
        conditions.add_words(words);
    }
    let total = match query.with_total {
        true => Some(archive.count(&conditions)?),
        false => None,
    };
    let (key, place) = match query.order.by {
        SortKey::Time => ("start_time", A::DIALECT.time()),
        SortKey::Duration => ("coalesce(duration_us, 0)", "?"),
        SortKey::Size => (SIZE, "?"),
    };
    let (direction, beyond) = match query.order.ascending {
        true => ("ASC", '>'),
        false => ("DESC", '<'),
    };
    if let Some(after) = query.after {
        if after.order != query.order {
            return Err(StoreError::BadCursor);
        }
        let values = [after.key, after.row].map(Value::from);
        conditions.add(&format!("({key}, number) {beyond} ({place}, ?)"), values);
    }
    let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
    // One more than asked for tells whether there is a next page.
    let order = format!(
        "ORDER BY {key} {direction}, number {direction} LIMIT {}",
        limit + 1
    );
    let mut found = archive.rows(&conditions, &order)?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    Ok(Page {
        next: last.map(|(row, number)| cursor(query.order, row, *number)),
        rows: found.into_iter().map(|(row, _)| row).collect(),
        total,
    })
}

/// The place behind a flow.
fn cursor(order: Order, row: &FlowRow, number: i64) -> Cursor {
    let key = match order.by {
        SortKey::Time => row.started_at.0,
        SortKey::Duration => row.ended_at.map_or(0, |at| at.micros_since(row.started_at)),
        SortKey::Size => {
            let bytes = |bytes: Option<u64>| bytes.unwrap_or(0);
            let size = bytes(row.request_bytes).saturating_add(bytes(row.response_bytes));
            i64::try_from(size).unwrap_or(i64::MAX)
        }
    };
    Cursor {
        order,
        key,
        row: number,
    }
}
