//! Removes flows, or their bodies alone, and what then nothing refers to: what is old, or what somebody
//! chose.
//!
//! It works beside the writer of this or another process, in small transactions with pauses between
//! them, so that nobody waits long. It can end after any of them: what is left refers to nothing that
//! is gone. Flows that are open or that somebody marked stay, and so do those that an archive does not
//! have yet, unless who chooses them says otherwise.

mod chosen;
mod live;
mod sweep;

use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use traffic::Timestamp;

pub use self::chosen::{Choice, Chosen};
use self::live::Live;
use crate::limits::{REMOVAL_PAUSE, REMOVAL_ROWS_MAX};
use crate::reader::select;
use crate::row_number::first_row_at;
use crate::{StoreError, database};

/// What is to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Flows that started from then on; `None`: all.
    pub flows_since: Option<Timestamp>,
    /// Bodies of flows that started from then on.
    pub bodies_since: Option<Timestamp>,
    /// Of the flows that every archive has, those that started from then on.
    pub archived_since: Option<Timestamp>,
    /// Bytes that what is stored may take. Of more, the oldest bodies go first, then the oldest flows.
    pub bytes_max: Option<u64>,
    /// Of flows with these tags, those that started from then on, whatever the others say. A flow with
    /// several of them stays as long as any of them says, and one with any other tag stays.
    pub tags: Vec<(String, Timestamp)>,
}

/// What is removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Flows.
    pub flows: u64,
    /// Of flows that stay: those whose bodies go.
    pub bodiless: u64,
    /// Bytes that bodies take, as stored.
    pub body_bytes: u64,
    /// Flows that are old enough, or chosen, but stay, since somebody marked them.
    pub marked: u64,
    /// Chosen flows that stay, since they go on.
    pub open: u64,
    /// Chosen flows that stay, since an archive does not have them as they are now.
    pub awaited: u64,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Flows that were dealt with.
    pub done: u64,
    /// Flows that there are to deal with.
    pub all: u64,
}

/// Removes flows from a SQLite file.
#[derive(Debug)]
pub struct Remover {
    /// The temporary table `doomed` has the rows of flows that go whatever their age.
    connection: Connection,
    path: PathBuf,
}

/// The rows of `flows` that are meant by their age: flows before the first go, bodies of those before the
/// second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    flows: i64,
    bodies: i64,
}

impl Cut {
    /// Nothing goes.
    const NOTHING: Self = Self {
        flows: i64::MIN,
        bodies: i64::MIN,
    };
}

/// A part of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Flows that are doomed.
    Doomed,
    /// Flows that are old.
    Flows,
    /// Bodies of flows that stay.
    Bodies,
}

/// Of rows of `flows` before `?1` those that may go for their age.
const REMOVABLE: &str = "id < ?1 AND state <> 'open' AND id NOT IN (SELECT flow FROM annotations)
   AND id NOT IN (SELECT flow FROM temp.doomed)";

impl Remover {
    /// Opens an existing file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = database::open_existing(path)?;
        select::add_functions(&connection)?;
        connection.execute_batch("CREATE TEMP TABLE doomed (flow INTEGER PRIMARY KEY)")?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    /// What would be removed of what is old. Reads all flows.
    pub fn plan(&self, keep: &Keep) -> Result<Removal, StoreError> {
        Ok(self.plan_old(keep)?.1)
    }

    /// Removes what is old. `progress` is told after each step, and says whether to go on.
    pub fn remove(
        &mut self,
        keep: &Keep,
        progress: impl FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        let (cut, planned) = self.plan_old(keep)?;
        self.remove_planned(cut, planned, progress)
    }

    /// What would be removed of what was chosen. Reads all flows.
    pub fn plan_chosen(&self, choice: &Choice) -> Result<Removal, StoreError> {
        let snapshot = self.connection.unchecked_transaction()?;
        let stays = chosen::doom(&snapshot, &self.path, choice)?;
        let mut removal = count_removal(&snapshot, Cut::NOTHING)?;
        (removal.marked, removal.open, removal.awaited) = (stays.marked, stays.open, stays.awaited);
        snapshot.commit()?;
        Ok(removal)
    }

    /// Removes what was chosen, as [`Self::remove`] does.
    pub fn remove_chosen(
        &mut self,
        choice: &Choice,
        progress: impl FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        let planned = self.plan_chosen(choice)?;
        self.remove_planned(Cut::NOTHING, planned, progress)
    }

    fn plan_old(&self, keep: &Keep) -> Result<(Cut, Removal), StoreError> {
        let snapshot = self.connection.unchecked_transaction()?;
        chosen::doom_tagged(&snapshot, &keep.tags)?;
        let cut = cut(&snapshot, keep)?;
        let mut removal = count_removal(&snapshot, cut)?;
        let marked: i64 = snapshot.query_row(
            "SELECT count(*) FROM annotations
             WHERE flow < ?1 AND flow NOT IN (SELECT flow FROM temp.doomed)",
            [cut.flows.max(cut.bodies)],
            |row| row.get(0),
        )?;
        removal.marked = marked.unsigned_abs();
        snapshot.commit()?;
        Ok((cut, removal))
    }

    fn remove_planned(
        &mut self,
        cut: Cut,
        planned: Removal,
        mut progress: impl FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        let mut removed = Removal {
            flows: 0,
            bodiless: 0,
            body_bytes: 0,
            ..planned
        };
        let all = planned.flows + planned.bodiless;
        let mut goes_on = true;
        for pass in [Pass::Doomed, Pass::Flows, Pass::Bodies] {
            let mut after = i64::MIN;
            while goes_on {
                let transaction = begin(&mut self.connection)?;
                let rows = next_rows(&transaction, pass, after, cut)?;
                let Some(last) = rows.last() else {
                    break;
                };
                after = *last;
                for row in &rows {
                    match pass {
                        Pass::Doomed | Pass::Flows => remove_flow(&transaction, *row)?,
                        Pass::Bodies => remove_bodies(&transaction, *row)?,
                    }
                }
                transaction.commit()?;
                let count = rows.len() as u64;
                match pass {
                    Pass::Doomed | Pass::Flows => removed.flows += count,
                    Pass::Bodies => removed.bodiless += count,
                }
                let done = removed.flows + removed.bodiless;
                goes_on = progress(Progress { done, all });
                thread::sleep(REMOVAL_PAUSE);
            }
        }
        let done = removed.flows + removed.bodiless;
        if goes_on && done > 0 {
            removed.body_bytes = self.sweep(cut, || progress(Progress { done, all }))?;
        }
        Ok(removed)
    }
}

/// What goes by the cut, and of what is doomed.
fn count_removal(connection: &Connection, cut: Cut) -> Result<Removal, StoreError> {
    let count = |condition: &str, before: i64| -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM flows WHERE {REMOVABLE}{condition}");
        let count: i64 = connection.query_row(&sql, [before], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let doomed: i64 =
        connection.query_row("SELECT count(*) FROM temp.doomed", (), |row| row.get(0))?;
    let has_body = format!(" AND {HAS_BODY}");
    let with_bodies = count(&has_body, cut.bodies.max(cut.flows))?;
    let of_removed = count(&has_body, cut.flows)?;
    Ok(Removal {
        flows: count("", cut.flows)? + doomed.unsigned_abs(),
        bodiless: with_bodies - of_removed,
        body_bytes: Live::read(connection, cut)?.dead_bytes(connection)?,
        ..Removal::default()
    })
}

/// Of a row of `flows`: whether something of its bodies is stored.
const HAS_BODY: &str = "(request_body IS NOT NULL OR response_body IS NOT NULL
   OR EXISTS (SELECT 1 FROM messages WHERE flow = flows.id AND kept > 0)
   OR EXISTS (SELECT 1 FROM body_parts WHERE flow = flows.id))";

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Up to which rows something goes.
fn cut(connection: &Connection, keep: &Keep) -> Result<Cut, StoreError> {
    let row_of = |since: Option<Timestamp>| since.map_or(i64::MIN, first_row_at);
    let mut cut = Cut {
        flows: row_of(keep.flows_since),
        bodies: row_of(keep.bodies_since),
    };
    if let Some(bytes_max) = keep.bytes_max {
        heed_size(connection, bytes_max, &mut cut)?;
    }
    if has_archive(connection)? {
        cut.flows = cut.flows.max(row_of(keep.archived_since));
    }
    // What an archive does not have as it is now stays; of an arrival that it has in part, all.
    for sql in [
        "SELECT min(first_id) FROM arrivals WHERE number > (SELECT min(arrival) FROM archives)",
        "SELECT min(flow) FROM flow_changes WHERE change > (SELECT min(change) FROM archives)",
    ] {
        let awaited: Option<i64> = connection.query_row(sql, (), |row| row.get(0))?;
        if let Some(awaited) = awaited {
            cut.flows = cut.flows.min(awaited);
            cut.bodies = cut.bodies.min(awaited);
        }
    }
    Ok(cut)
}

fn has_archive(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM archives)", (), |row| {
        row.get(0)
    })
}

/// Moves the cut so far that what stays takes no more than so many bytes.
fn heed_size(connection: &Connection, bytes_max: u64, cut: &mut Cut) -> Result<(), StoreError> {
    let pages = |name: &str| -> rusqlite::Result<u64> {
        let pages: i64 = connection.pragma_query_value(None, name, |row| row.get(0))?;
        Ok(u64::try_from(pages).unwrap_or_default())
    };
    let page = pages("page_size")?;
    let used = (pages("page_count")?.saturating_sub(pages("freelist_count")?)) * page;
    let mut excess = used.saturating_sub(bytes_max);
    if excess == 0 {
        return Ok(());
    }
    let bodies = "coalesce((SELECT length(data) FROM bodies WHERE id = request_body), 0)
       + coalesce((SELECT length(data) FROM bodies WHERE id = response_body), 0)
       + coalesce((SELECT sum(length(data)) FROM body_parts WHERE flow = flows.id), 0)
       + coalesce((SELECT sum(kept) FROM messages WHERE flow = flows.id), 0)";
    // A row takes its detail and some hundred bytes in all tables together.
    for (sum, place) in [
        (bodies, &mut cut.bodies),
        (
            "length(detail) + length(path) + length(query) + 200",
            &mut cut.flows,
        ),
    ] {
        let sql = format!("SELECT id, {sum} FROM flows WHERE {REMOVABLE} AND id >= ?2 ORDER BY id");
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query((i64::MAX, *place))?;
        while excess > 0
            && let Some(row) = rows.next()?
        {
            let bytes: i64 = row.get(1)?;
            excess = excess.saturating_sub(u64::try_from(bytes).unwrap_or_default());
            let id: i64 = row.get(0)?;
            *place = id.saturating_add(1);
        }
    }
    Ok(())
}

/// The next flows that go, or whose bodies go.
fn next_rows(
    connection: &Connection,
    pass: Pass,
    after: i64,
    cut: Cut,
) -> rusqlite::Result<Vec<i64>> {
    let (before, sql) = match pass {
        // They have not gone yet.
        Pass::Doomed => (
            i64::MAX,
            "SELECT flow FROM temp.doomed WHERE flow < ?1 AND flow > ?2
               AND flow IN (SELECT id FROM flows) ORDER BY flow"
                .to_owned(),
        ),
        Pass::Flows => (
            cut.flows,
            format!("SELECT id FROM flows WHERE {REMOVABLE} AND id > ?2 ORDER BY id"),
        ),
        Pass::Bodies => (
            cut.bodies,
            format!(
                "SELECT id FROM flows WHERE {REMOVABLE} AND id > ?2 AND {HAS_BODY} ORDER BY id"
            ),
        ),
    };
    connection
        .prepare_cached(&format!("{sql} LIMIT {REMOVAL_ROWS_MAX}"))?
        .query_map((before, after), |row| row.get(0))?
        .collect()
}

fn remove_flow(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM endings WHERE flow = ?1",
        "DELETE FROM annotations WHERE flow = ?1",
        "DELETE FROM messages WHERE flow = ?1",
        "DELETE FROM body_parts WHERE flow = ?1",
        "DELETE FROM flows WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([row])?;
    }
    Ok(())
}

fn remove_bodies(connection: &Connection, row: i64) -> rusqlite::Result<()> {
    for sql in [
        "UPDATE messages SET data = NULL, body = NULL, kept = 0 WHERE flow = ?1 AND kept > 0",
        "DELETE FROM body_parts WHERE flow = ?1",
        "UPDATE flows SET request_body = NULL, response_body = NULL, truncated = 1 WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([row])?;
    }
    Ok(())
}
