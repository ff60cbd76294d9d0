//! What an id that a person typed means. The same on every kind of database, each of which answers
//! [`Ids`].

mod file;

use uuid::Uuid;

pub(super) use self::file::FileIds;
pub(crate) use self::file::{flow_of_uuid, row_of};
use crate::{FlowRef, RunId, StoreError, UnknownId};

/// How many runs are named when an id may mean several.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// How a typed text may name runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It is the id, in either case.
    Id,
    /// It is the name.
    Name,
    /// The id begins with it, in either case.
    Beginning,
}

/// What a database knows of ids.
pub(crate) trait Ids {
    /// The runs that a text names so, the newest first, at most [`CANDIDATES_MAX`].
    fn runs(&self, naming: Naming, text: &str) -> Result<Vec<RunId>, StoreError>;

    /// The run with so many newer ones.
    fn run_before(&self, newer: u32) -> Result<Option<RunId>, StoreError>;

    /// How many flows a run has. They are numbered from 1 on.
    fn flows_of(&self, run: RunId) -> Result<u64, StoreError>;

    /// Whether there is such a flow.
    fn has_flow(&self, flow: FlowRef) -> Result<bool, StoreError>;

    /// The flow that has this UUID.
    fn flow_of_uuid(&self, uuid: Uuid) -> Result<Option<FlowRef>, StoreError>;
}

/// The flow that is meant.
pub(crate) fn flow(ids: &impl Ids, text: &str) -> Result<FlowRef, StoreError> {
    if let Ok(uuid) = Uuid::try_parse(text) {
        return ids.flow_of_uuid(uuid)?.ok_or_else(|| no_run(text));
    }
    let numbered = text.rsplit_once('.');
    let numbered = numbered.and_then(|(run, seq)| Some((run, seq.parse::<u64>().ok()?)));
    let Some((run_text, seq)) = numbered else {
        let run = run(ids, text)?;
        let flows = ids.flows_of(run)?;
        return Err(UnknownId::RunNotFlow { run, flows }.into());
    };
    let run = run(ids, run_text)?;
    let flow = FlowRef { run, seq };
    if !ids.has_flow(flow)? {
        let flows = ids.flows_of(run)?;
        return Err(UnknownId::NoFlow { run, flows }.into());
    }
    Ok(flow)
}

/// The run that is meant.
pub(crate) fn run(ids: &impl Ids, text: &str) -> Result<RunId, StoreError> {
    if let Some(place) = text.strip_prefix('@') {
        return run_of_place(ids, place, text);
    }
    let mut found = ids.runs(Naming::Id, text)?;
    if found.is_empty() {
        found = ids.runs(Naming::Name, text)?;
    }
    if found.is_empty() && !text.is_empty() {
        found = ids.runs(Naming::Beginning, text)?;
    }
    match found.as_slice() {
        [] => Err(no_run(text)),
        [run] => Ok(*run),
        _ => Err(UnknownId::Ambiguous {
            text: text.to_owned(),
            candidates: found,
        }
        .into()),
    }
}

/// `last` is the last run, `-1` too, `-2` the one before.
fn run_of_place(ids: &impl Ids, place: &str, text: &str) -> Result<RunId, StoreError> {
    let not_an_id = || UnknownId::NotAnId {
        text: text.to_owned(),
    };
    let back: u32 = match place {
        "last" => 1,
        place => {
            let digits = place.strip_prefix('-').ok_or_else(not_an_id)?;
            digits.parse().map_err(|_error| not_an_id())?
        }
    };
    let newer = back.checked_sub(1).ok_or_else(not_an_id)?;
    ids.run_before(newer)?.ok_or_else(|| no_run(text))
}

fn no_run(text: &str) -> StoreError {
    UnknownId::NoRun {
        text: text.to_owned(),
    }
    .into()
}
