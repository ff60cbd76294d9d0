//! One page of a list, with a cursor that stays right while rows are added.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use traffic::rules::filter::{Expression, Filter};

use super::row::{ROW_COLUMNS, read_row};
use super::select::Conditions;
use crate::limits::PAGE_ROWS_MAX;
use crate::{FlowRow, RunId, StoreError};

/// Which flows, in which order, how many.
#[derive(Clone, Debug)]
pub struct Query {
    /// Only flows that match.
    pub filter: Option<Filter>,
    /// Only flows of this run.
    pub run: Option<RunId>,
    /// The order.
    pub order: Order,
    /// How many at most; [`crate::limits::PAGE_ROWS_MAX`] is the bound.
    pub limit: usize,
    /// Go on after this place; it is of use with the same filter, run and order only.
    pub after: Option<Cursor>,
    /// Also count all flows that match.
    pub with_total: bool,
}

/// The order of a list. Flows that are equal in it come in the order of being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// By what.
    pub by: SortKey,
    /// The smallest (oldest) first.
    pub ascending: bool,
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SortKey {
    /// When the flow started.
    Time,
    /// How long it took; an open flow counts as zero.
    Duration,
    /// Bytes of both bodies, or of the tunnel; what is not known counts as zero.
    Size,
}

/// A place in a list. Its text form is opaque and starts with `c_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) order: Order,
    pub(crate) key: i64,
    pub(crate) row: i64,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The flows.
    pub rows: Vec<FlowRow>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
    /// How many flows match in all, where that was asked for.
    pub total: Option<u64>,
}

impl Default for Query {
    /// The fifty newest flows.
    fn default() -> Self {
        Self {
            filter: None,
            run: None,
            order: Order {
                by: SortKey::Time,
                ascending: false,
            },
            limit: 50,
            after: None,
            with_total: false,
        }
    }
}

impl SortKey {
    fn sql(self) -> &'static str {
        match self {
            Self::Time => "start_time",
            Self::Duration => "coalesce(duration_us, 0)",
            Self::Size => super::select::SIZE,
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Time => 't',
            Self::Duration => 'd',
            Self::Size => 's',
        }
    }
}

/// Reads a page.
pub(super) fn read(connection: &Connection, query: &Query) -> Result<Page, StoreError> {
    let mut conditions = Conditions::default();
    conditions.add_run(query.run);
    conditions.add_filter(query.filter.as_ref());
    let total = match query.with_total {
        true => Some(count(connection, query, &conditions)?),
        false => None,
    };
    let key = query.order.by.sql();
    let (direction, beyond) = match query.order.ascending {
        true => ("ASC", '>'),
        false => ("DESC", '<'),
    };
    if let Some(after) = query.after {
        if after.order != query.order {
            return Err(StoreError::BadCursor);
        }
        match query.order.by {
            // Rows lie in the order of time.
            SortKey::Time => conditions.add(&format!("id {beyond} ?"), [Value::from(after.row)]),
            SortKey::Duration | SortKey::Size => {
                let place = [Value::from(after.key), Value::from(after.row)];
                conditions.add(&format!("({key}, id) {beyond} (?, ?)"), place);
            }
        }
    }
    let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
    // One more than asked for tells whether there is a next page.
    let sql = format!(
        "SELECT {ROW_COLUMNS}, {key} AS sort_key FROM flows_shown WHERE {} ORDER BY {} LIMIT {}",
        conditions.sql(),
        match query.order.by {
            SortKey::Time => format!("id {direction}"),
            SortKey::Duration | SortKey::Size => format!("{key} {direction}, id {direction}"),
        },
        limit + 1,
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(conditions.values()))?;
    let mut rows = Vec::new();
    let mut last = None;
    while let Some(row) = found.next()? {
        if rows.len() == limit {
            return Ok(Page {
                rows,
                next: last,
                total,
            });
        }
        rows.push(read_row(row)?);
        last = Some(Cursor {
            order: query.order,
            key: row.get("sort_key")?,
            row: row.get("id")?,
        });
    }
    Ok(Page {
        rows,
        next: None,
        total,
    })
}

fn count(
    connection: &Connection,
    query: &Query,
    conditions: &Conditions,
) -> Result<u64, StoreError> {
    let filter = query.filter.as_ref().map(Filter::expression);
    let is_filtered = filter.is_some_and(|filter| *filter != Expression::All(Vec::new()));
    // The view looks at the place of each flow, which only a filter needs.
    let rows = if is_filtered { "flows_shown" } else { "flows" };
    let sql = format!("SELECT count(*) FROM {rows} WHERE {}", conditions.sql());
    let mut statement = connection.prepare_cached(&sql)?;
    let count: i64 =
        statement.query_row(params_from_iter(conditions.values()), |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.order.ascending { 'a' } else { 'd' };
        let by = self.order.by.letter();
        write!(f, "c_{by}{direction}{:x}-{:x}", self.key, self.row)
    }
}

impl FromStr for Cursor {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        parse_cursor(text).ok_or(StoreError::BadCursor)
    }
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let mut letters = text.strip_prefix("c_")?.chars();
    let by = match letters.next()? {
        't' => SortKey::Time,
        'd' => SortKey::Duration,
        's' => SortKey::Size,
        _ => return None,
    };
    let ascending = match letters.next()? {
        'a' => true,
        'd' => false,
        _ => return None,
    };
    let (key, row) = parse_places(letters.as_str())?;
    Some(Cursor {
        order: Order { by, ascending },
        key,
        row,
    })
}

/// Two numbers as cursors have them, each as its two's complement, which a plain reader of numbers does not
/// take.
pub(crate) fn parse_places(text: &str) -> Option<(i64, i64)> {
    let number = |digits: &str| {
        let bits = u64::from_str_radix(digits, 16).ok()?;
        Some(i64::from_ne_bytes(bits.to_ne_bytes()))
    };
    let (first, second) = text.split_once('-')?;
    Some((number(first)?, number(second)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_what_it_writes() {
        for key in [0, 1, -1, i64::MAX, i64::MIN] {
            for by in [SortKey::Time, SortKey::Duration, SortKey::Size] {
                let cursor = Cursor {
                    order: Order {
                        by,
                        ascending: key > 0,
                    },
                    key,
                    row: 7,
                };
                assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
            }
        }
    }

    #[test]
    fn other_texts_are_no_cursor() {
        for text in [
            "", "c_", "c_ta", "c_xa1-1", "c_tx1-1", "c_ta1", "c_ta-", "c_ta1-ü",
        ] {
            assert!(matches!(text.parse::<Cursor>(), Err(StoreError::BadCursor)));
        }
    }
}
