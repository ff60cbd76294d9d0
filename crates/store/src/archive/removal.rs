//! Removes flows from an archive, or their bodies alone: what is old, or what somebody chose.
//!
//! The rules are those of a file (`crate::retention`), but for sizes. Flows are looked for by their start, a
//! few at a time, and removed by their UUIDs, so that nobody waits long. It can end after any step.

use std::thread;

use rusqlite::types::Value;
use traffic::Timestamp;

use crate::limits::REMOVAL_PAUSE;
use crate::reader::select::{Conditions, Dialect};
use crate::retention::{Choice, Chosen, Doomed, Keep, Progress, Removal};
use crate::{FlowRef, StoreError};

/// Flows, or sessions, that are named in one question: each is a value or two of it.
const NAMED_AT_ONCE: usize = 100;

/// A kind of archive that flows are removed from.
pub(crate) trait Removable {
    const DIALECT: Dialect;
    /// Of a row of `flows`: whether something of its bodies or messages is stored.
    const HAS_BODY: &'static str;
    /// Flows that are dealt with in one step.
    const AT_ONCE: usize;

    /// What a question answers as `number`, with the values of its conditions.
    fn number(&mut self, sql: &str, conditions: &Conditions) -> Result<u64, StoreError>;

    /// How many flows match.
    fn count(&mut self, conditions: &Conditions) -> Result<u64, StoreError> {
        let matching = conditions.sql();
        let sql = format!("SELECT count(*) AS number FROM flows WHERE {matching}");
        self.number(&sql, conditions)
    }

    /// Bytes of bodies that no flow would have any more if none of these had.
    fn body_bytes(&mut self, conditions: &Conditions) -> Result<u64, StoreError>;

    /// The first flows that match, by their start and UUID.
    fn find(&mut self, conditions: &Conditions) -> Result<Vec<Found>, StoreError>;

    /// Removes flows with their messages.
    fn remove_flows(&mut self, flows: &[Found]) -> Result<(), StoreError>;

    /// Removes what flows have of bodies and messages.
    fn remove_bodies(&mut self, flows: &[Found]) -> Result<(), StoreError>;

    /// Removes what no flow has any more, in steps; `goes_on` is asked between them.
    fn sweep(&mut self, goes_on: &mut dyn FnMut() -> bool) -> Result<(), StoreError>;
}

/// A flow that goes, or whose bodies go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) uuid: String,
    pub(crate) started_at: Timestamp,
}

/// Which of the flows that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Those that go.
    Goes,
    /// Those that stay since somebody marked them.
    Marked,
    /// Those that stay since they go on.
    Open,
    /// Those that stay since they match what is kept.
    Matching,
}

/// What goes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Flow,
    Bodies,
}

/// Counts what would go.
pub(crate) fn plan<R: Removable>(
    archive: &mut R,
    doomed: &Doomed<'_>,
) -> Result<Removal, StoreError> {
    refuse_sizes(doomed)?;
    let mut count = |extent, part| -> Result<u64, StoreError> {
        let mut sum = 0;
        for conditions in questions::<R>(doomed, extent, part) {
            sum += archive.count(&conditions)?;
        }
        Ok(sum)
    };
    let mut removal = Removal {
        flows: count(Extent::Flow, Part::Goes)?,
        bodiless: count(Extent::Bodies, Part::Goes)?,
        marked: count(Extent::Flow, Part::Marked)?,
        open: count(Extent::Flow, Part::Open)?,
        matching: count(Extent::Flow, Part::Matching)?,
        ..Removal::default()
    };
    for extent in [Extent::Flow, Extent::Bodies] {
        for conditions in questions::<R>(doomed, extent, Part::Goes) {
            removal.body_bytes += archive.body_bytes(&conditions)?;
        }
    }
    Ok(removal)
}

/// Removes it. `progress` is told after each step, and says whether to go on.
pub(crate) fn remove<R: Removable>(
    archive: &mut R,
    doomed: &Doomed<'_>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Removal, StoreError> {
    let planned = plan(archive, doomed)?;
    let all = planned.flows + planned.bodiless;
    let mut removed = Removal {
        flows: 0,
        bodiless: 0,
        body_bytes: 0,
        ..planned
    };
    let mut goes_on = true;
    for extent in [Extent::Flow, Extent::Bodies] {
        for question in questions::<R>(doomed, extent, Part::Goes) {
            let mut last = None;
            while goes_on {
                let found = archive.find(&behind::<R>(&question, last.as_ref()))?;
                if found.is_empty() {
                    break;
                }
                match extent {
                    Extent::Flow => archive.remove_flows(&found)?,
                    Extent::Bodies => archive.remove_bodies(&found)?,
                }
                let count = found.len() as u64;
                match extent {
                    Extent::Flow => removed.flows += count,
                    Extent::Bodies => removed.bodiless += count,
                }
                let done = removed.flows + removed.bodiless;
                goes_on = progress(Progress { done, all });
                last = found.into_iter().next_back();
                thread::sleep(REMOVAL_PAUSE);
            }
        }
    }
    let done = removed.flows + removed.bodiless;
    if goes_on && done > 0 {
        archive.sweep(&mut || progress(Progress { done, all }))?;
        removed.body_bytes = planned.body_bytes;
    }
    Ok(removed)
}

/// What an archive takes is its server's to watch, and what a body takes that is shared is nobody's.
fn refuse_sizes(doomed: &Doomed<'_>) -> Result<(), StoreError> {
    match doomed {
        Doomed::Old(keep) if keep.bytes_max.is_some() || keep.body_bytes_max.is_some() => {
            Err(StoreError::NoSizes)
        }
        Doomed::Old(_) | Doomed::Chosen(_) => Ok(()),
    }
}

/// Narrows a question to flows behind one: what was dealt with is not looked at again.
fn behind<R: Removable>(question: &Conditions, last: Option<&Found>) -> Conditions {
    let mut conditions = question.clone();
    let Some(last) = last else {
        return conditions;
    };
    let (at, start) = (R::DIALECT.time(), Value::from(last.started_at.0));
    let sql = format!("start_time >= {at} AND (start_time, trace_id) > ({at}, ?)");
    let uuid = Value::from(last.uuid.clone());
    conditions.add(&sql, [start.clone(), start, uuid]);
    conditions
}

/// The flows of a part, as one question or several that no flow answers twice.
fn questions<R: Removable>(doomed: &Doomed<'_>, extent: Extent, part: Part) -> Vec<Conditions> {
    match (doomed, extent) {
        (Doomed::Old(keep), Extent::Flow) => of_old::<R>(keep, part).into_iter().collect(),
        (Doomed::Old(keep), Extent::Bodies) => of_bodies::<R>(keep).into_iter().collect(),
        (Doomed::Chosen(choice), Extent::Flow) => of_choice(choice, part, R::DIALECT),
        (Doomed::Chosen(_), Extent::Bodies) => Vec::new(),
    }
}

/// Alternatives, with the values of their places.
#[derive(Default)]
struct Either {
    sql: Vec<String>,
    values: Vec<Value>,
}

impl Either {
    fn or(&mut self, sql: String, values: impl IntoIterator<Item = Value>) {
        self.sql.push(sql);
        self.values.extend(values);
    }

    /// Adds that one of them holds; that none does if there is none.
    fn add_to(self, conditions: &mut Conditions) {
        match self.sql.is_empty() {
            true => conditions.add("FALSE", []),
            false => conditions.add(&format!("({})", self.sql.join(" OR ")), self.values),
        }
    }
}

/// Flows that are old enough to go, or of those that are old enough for anything the ones that stay.
fn of_old<R: Removable>(keep: &Keep, part: Part) -> Option<Conditions> {
    let dialect = R::DIALECT;
    let (before, unmarked) = (before(dialect), dialect.is_unmarked());
    let moment = |since: Timestamp| Value::from(since.0);
    let mut meant = Either::default();
    if let Some(since) = keep.flows_since {
        meant.or(format!("({unmarked} AND {before})"), [moment(since)]);
    }
    let tagged = tags_over(dialect, &keep.tags);
    if let Some((sql, values)) = &tagged {
        meant.or(sql.clone(), values.clone());
    }
    let mut conditions = Conditions::new(dialect);
    match part {
        Part::Open => return None,
        Part::Goes => {
            conditions.add("state <> 'open'", []);
            meant.add_to(&mut conditions);
            spare(&mut conditions, keep);
        }
        Part::Matching => {
            let matching = keep.matching.as_ref()?;
            if let Some(since) = keep.bodies_since {
                let sql = format!("({unmarked} AND {before} AND {})", R::HAS_BODY);
                meant.or(sql, [moment(since)]);
            }
            conditions.add("state <> 'open'", []);
            meant.add_to(&mut conditions);
            conditions.add_filter(Some(matching));
        }
        Part::Marked => {
            let since = keep.flows_since.max(keep.bodies_since)?;
            conditions.add(&format!("NOT {unmarked} AND {before}"), [moment(since)]);
            if let Some((sql, values)) = tagged {
                conditions.add(&format!("NOT {sql}"), values);
            }
        }
    }
    Some(conditions)
}

/// Flows that stay and lose their bodies.
fn of_bodies<R: Removable>(keep: &Keep) -> Option<Conditions> {
    let since = keep.bodies_since?;
    let (before, unmarked) = (before(R::DIALECT), R::DIALECT.is_unmarked());
    let mut conditions = Conditions::new(R::DIALECT);
    let sql = format!(
        "state <> 'open' AND {unmarked} AND {before} AND {}",
        R::HAS_BODY
    );
    conditions.add(&sql, [Value::from(since.0)]);
    if let Some(flows_since) = keep.flows_since {
        conditions.add(&format!("NOT {before}"), [Value::from(flows_since.0)]);
    }
    spare(&mut conditions, keep);
    Some(conditions)
}

fn spare(conditions: &mut Conditions, keep: &Keep) {
    if let Some(matching) = &keep.matching {
        conditions.add_unless(matching);
    }
}

/// Of a flow: that it began before a moment.
fn before(dialect: Dialect) -> String {
    format!("(start_time < {})", dialect.time())
}

/// Of a flow: that it has tags and the time of each of them is over. Nothing without rules for tags.
fn tags_over(dialect: Dialect, tags: &[(String, Timestamp)]) -> Option<(String, Vec<Value>)> {
    if tags.is_empty() {
        return None;
    }
    let (first, last) = dialect.all_tags();
    let rule = format!("(tag = ? AND {})", before(dialect));
    let rules = vec![rule; tags.len()].join(" OR ");
    let values = tags
        .iter()
        .flat_map(|(tag, since)| [Value::from(tag.clone()), Value::from(since.0)]);
    Some((format!("{first}{rules}{last}"), values.collect()))
}

/// Flows that somebody chose.
fn of_choice(choice: &Choice, part: Part, dialect: Dialect) -> Vec<Conditions> {
    let is_named = matches!(choice.chosen, Chosen::Flows(_));
    let goes_marked = choice.forced || is_named;
    let of_part = match part {
        Part::Goes if goes_marked => "state <> 'open'".to_owned(),
        Part::Goes => format!("state <> 'open' AND {}", dialect.is_unmarked()),
        Part::Open => "state = 'open'".to_owned(),
        Part::Marked if !goes_marked => {
            format!("state <> 'open' AND NOT {}", dialect.is_unmarked())
        }
        Part::Marked | Part::Matching => return Vec::new(),
    };
    let mut questions = chosen(&choice.chosen, dialect);
    for conditions in &mut questions {
        conditions.add(&of_part, []);
    }
    questions
}

fn chosen(chosen: &Chosen, dialect: Dialect) -> Vec<Conditions> {
    let conditions = |sql: &str, values: Vec<Value>| {
        let mut conditions = Conditions::new(dialect);
        conditions.add(sql, values);
        conditions
    };
    match chosen {
        Chosen::Flows(flows) => {
            let mut flows = flows.clone();
            flows.sort_unstable_by_key(|flow| (flow.run, flow.seq));
            flows.dedup();
            let groups = flows.chunks(NAMED_AT_ONCE).map(|group| {
                let places = vec!["(run_id = ? AND seq = ?)"; group.len()].join(" OR ");
                conditions(
                    &format!("({places})"),
                    group.iter().flat_map(names).collect(),
                )
            });
            groups.collect()
        }
        Chosen::Found { run, filter } => {
            let mut found = Conditions::new(dialect);
            found.add_run(*run);
            found.add_filter(filter.as_ref());
            vec![found]
        }
        Chosen::Sessions(ids) => {
            let mut ids = ids.clone();
            ids.sort_unstable();
            ids.dedup();
            let groups = ids.chunks(NAMED_AT_ONCE).map(|group| {
                let places = vec!["session_id = ?"; group.len()].join(" OR ");
                let values = group.iter().map(|id| Value::from(id.clone())).collect();
                // Of most flows it is not known.
                conditions(&format!("coalesce({places}, FALSE)"), values)
            });
            groups.collect()
        }
    }
}

fn names(flow: &FlowRef) -> [Value; 2] {
    let seq = i64::try_from(flow.seq).unwrap_or(i64::MAX);
    [Value::from(flow.run.as_str().to_owned()), Value::from(seq)]
}
