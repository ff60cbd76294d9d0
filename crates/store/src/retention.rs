//! Removes flows, or their bodies alone, and what then nothing refers to: what is old, or what somebody
//! chose.
//!
//! It works beside the writer of this or another process, in small transactions with pauses between
//! them, so that nobody waits long. It can end after any of them: what is left refers to nothing that
//! is gone. Flows that are open or that somebody marked stay, and so do those that an archive does not
//! have yet, unless who chooses them says otherwise.

mod chosen;
mod large;
mod live;
mod sweep;

use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use traffic::Timestamp;
use traffic::rules::filter::Filter;

pub use self::chosen::{Choice, Chosen};
use self::large::{HAS_LARGE, remove_bodies};
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
    /// Bytes that a body or message may have. Larger ones go, whatever their age, and their flows stay.
    pub body_bytes_max: Option<u64>,
    /// Flows that match stay as they are, whatever else is said. Words are looked up in the index of texts
    /// as it is.
    pub matching: Option<Filter>,
}

/// What goes: what is old, or what somebody chose.
#[derive(Clone, Copy, Debug)]
pub enum Doomed<'d> {
    /// All but what is to be kept.
    Old(&'d Keep),
    /// What was chosen.
    Chosen(&'d Choice),
}

impl<'d> From<&'d Keep> for Doomed<'d> {
    fn from(keep: &'d Keep) -> Self {
        Self::Old(keep)
    }
}

impl<'d> From<&'d Choice> for Doomed<'d> {
    fn from(choice: &'d Choice) -> Self {
        Self::Chosen(choice)
    }
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
    /// Flows that are old enough, or chosen, but stay as they are, since an archive does not have them so; of old
    /// ones, those as well that began after the first of these.
    pub awaited: u64,
    /// Flows that are old enough but stay as they are, since they match what is kept.
    pub matching: u64,
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
    /// Its temporary tables have rows of `flows`: `doomed` those that go whatever their age, `spared` those
    /// that stay whatever it is, `large` those of which bodies go for their size.
    connection: Connection,
    path: PathBuf,
}

/// What is meant: flows before the first row go, bodies of those before the second, and of any flow bodies and
/// messages of more than so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    flows: i64,
    bodies: i64,
    body_bytes: i64,
}

impl Cut {
    /// Nothing goes.
    const NOTHING: Self = Self {
        flows: i64::MIN,
        bodies: i64::MIN,
        body_bytes: i64::MAX,
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
    /// Large ones of flows that keep the others.
    Large,
}

/// Of rows of `flows` before `?1` those that may go for their age or lose bodies.
const REMOVABLE: &str = "id < ?1 AND state <> 'open' AND id NOT IN (SELECT flow FROM annotations)
   AND id NOT IN (SELECT flow FROM temp.doomed) AND id NOT IN (SELECT flow FROM temp.spared)";

impl Remover {
    /// Opens an existing file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = database::open_existing(path)?;
        select::add_functions(&connection)?;
        for table in PLANNED {
            connection.execute_batch(&format!(
                "CREATE TEMP TABLE {table} (flow INTEGER PRIMARY KEY)"
            ))?;
        }
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    /// What would be removed. Reads all flows.
    pub fn plan<'d>(&self, doomed: impl Into<Doomed<'d>>) -> Result<Removal, StoreError> {
        self.plan_doomed(doomed.into()).map(|(_, removal)| removal)
    }

    /// Removes it. `progress` is told after each step, and says whether to go on.
    pub fn remove<'d>(
        &mut self,
        doomed: impl Into<Doomed<'d>>,
        progress: impl FnMut(Progress) -> bool,
    ) -> Result<Removal, StoreError> {
        let (cut, planned) = self.plan_doomed(doomed.into())?;
        self.remove_planned(cut, planned, progress)
    }

    fn plan_doomed(&self, doomed: Doomed<'_>) -> Result<(Cut, Removal), StoreError> {
        match doomed {
            Doomed::Old(keep) => self.plan_old(keep),
            Doomed::Chosen(choice) => Ok((Cut::NOTHING, self.plan_chosen(choice)?)),
        }
    }

    fn plan_chosen(&self, choice: &Choice) -> Result<Removal, StoreError> {
        let snapshot = self.connection.unchecked_transaction()?;
        forget_plan(&snapshot)?;
        let stays = chosen::doom(&snapshot, &self.path, choice)?;
        let mut removal = count_removal(&snapshot, Cut::NOTHING)?;
        (removal.marked, removal.open, removal.awaited) = (stays.marked, stays.open, stays.awaited);
        snapshot.commit()?;
        Ok(removal)
    }

    fn plan_old(&self, keep: &Keep) -> Result<(Cut, Removal), StoreError> {
        let snapshot = self.connection.unchecked_transaction()?;
        forget_plan(&snapshot)?;
        let of_tags = chosen::doom_tagged(&snapshot, &keep.tags)?;
        let spared = chosen::spare(&snapshot, &self.path, keep.matching.as_ref())?;
        let meant = cut(&snapshot, keep)?;
        let awaited = first_awaited(&snapshot)?;
        let cut = Cut {
            flows: meant.flows.min(awaited),
            bodies: meant.bodies.min(awaited),
            ..meant
        };
        large::find(&snapshot, cut, awaited)?;
        let mut removal = count_removal(&snapshot, cut)?;
        removal.awaited = of_tags;
        if awaited < i64::MAX {
            removal.awaited += count_meant(&snapshot, meant, awaited, REMOVABLE)?;
        }
        removal.matching = spared;
        if keep.matching.is_some() {
            removal.matching += count_meant(&snapshot, meant, i64::MIN, SPARED)?;
        }
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
        for pass in [Pass::Doomed, Pass::Flows, Pass::Bodies, Pass::Large] {
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
                        Pass::Bodies => remove_bodies(&transaction, *row, -1)?,
                        Pass::Large => remove_bodies(&transaction, *row, cut.body_bytes)?,
                    }
                }
                transaction.commit()?;
                let count = rows.len() as u64;
                match pass {
                    Pass::Doomed | Pass::Flows => removed.flows += count,
                    Pass::Bodies | Pass::Large => removed.bodiless += count,
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

/// The temporary tables of a plan.
const PLANNED: [&str; 3] = ["doomed", "spared", "large"];

fn forget_plan(connection: &Connection) -> rusqlite::Result<()> {
    for table in PLANNED {
        connection.execute(&format!("DELETE FROM temp.{table}"), ())?;
    }
    Ok(())
}

/// What goes by the cut, and of what is doomed.
fn count_removal(connection: &Connection, cut: Cut) -> Result<Removal, StoreError> {
    let count = |condition: &str, before: i64| -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM flows WHERE {REMOVABLE}{condition}");
        let count: i64 = connection.query_row(&sql, [before], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let planned = |table: &str| -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM temp.{table}");
        let count: i64 = connection.query_row(&sql, (), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    };
    let has_body = format!(" AND {HAS_BODY}");
    let with_bodies = count(&has_body, cut.bodies.max(cut.flows))?;
    let of_removed = count(&has_body, cut.flows)?;
    Ok(Removal {
        flows: count("", cut.flows)? + planned("doomed")?,
        bodiless: with_bodies - of_removed + planned("large")?,
        body_bytes: Live::read(connection, cut)?.dead_bytes(connection)?,
        ..Removal::default()
    })
}

/// How many of the flows from a row on are meant, of those for which a condition holds.
fn count_meant(
    connection: &Connection,
    meant: Cut,
    from: i64,
    condition: &str,
) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM flows WHERE id < ?1 AND id >= ?2 AND {condition}
           AND (id < ?4 OR (id < ?5 AND {HAS_BODY}) OR {HAS_LARGE})"
    );
    let parameters = (i64::MAX, from, meant.body_bytes, meant.flows, meant.bodies);
    let count: i64 = connection.query_row(&sql, parameters, |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// Of a row of `flows`: whether it is spared and might go otherwise.
const SPARED: &str = "id IN (SELECT flow FROM temp.spared) AND state <> 'open'
   AND id NOT IN (SELECT flow FROM annotations)";

/// Of a row of `flows`: whether something of its bodies is stored.
const HAS_BODY: &str = "(request_body IS NOT NULL OR response_body IS NOT NULL
   OR EXISTS (SELECT 1 FROM messages WHERE flow = flows.id AND kept > 0)
   OR EXISTS (SELECT 1 FROM body_parts WHERE flow = flows.id))";

fn begin(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// What is meant, whether an archive has it or not.
fn cut(connection: &Connection, keep: &Keep) -> Result<Cut, StoreError> {
    let row_of = |since: Option<Timestamp>| since.map_or(i64::MIN, first_row_at);
    let mut cut = Cut {
        flows: row_of(keep.flows_since),
        bodies: row_of(keep.bodies_since),
        body_bytes: keep
            .body_bytes_max
            .map_or(i64::MAX, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
    };
    if let Some(bytes_max) = keep.bytes_max {
        heed_size(connection, bytes_max, &mut cut)?;
    }
    if has_archive(connection)? {
        cut.flows = cut.flows.max(row_of(keep.archived_since));
    }
    Ok(cut)
}

/// The first row that an archive does not have as it is now, from which on all stays; of an arrival that it has
/// in part, the first one.
fn first_awaited(connection: &Connection) -> rusqlite::Result<i64> {
    let mut first = i64::MAX;
    for sql in [
        "SELECT min(first_id) FROM arrivals WHERE number > (SELECT min(arrival) FROM archives)",
        "SELECT min(flow) FROM flow_changes WHERE change > (SELECT min(change) FROM archives)",
    ] {
        let awaited: Option<i64> = connection.query_row(sql, (), |row| row.get(0))?;
        first = first.min(awaited.unwrap_or(i64::MAX));
    }
    Ok(first)
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
        Pass::Large => (
            i64::MAX,
            // CROSS: few are large.
            format!(
                "SELECT id FROM temp.large CROSS JOIN flows ON flows.id = large.flow
                 WHERE {REMOVABLE} AND id > ?2 ORDER BY large.flow"
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
