//! `oriel flows`: what was captured, read from the database, with or without a service running.

pub(crate) mod annotate;
mod chosen;
mod columns;
pub(crate) mod export;
mod line;
pub(crate) mod list;
pub(crate) mod rm;
pub(crate) mod search;
pub(crate) mod show;
pub(crate) mod spooled;
pub(crate) mod tail;

use store::json::rfc3339;
use store::{FlowRef, Location, Reader, StoreError};
use traffic::Timestamp;
use traffic::rules::filter::{Filter, FilterError};

use crate::archive;
use crate::args::{DataFlags, Flows, FlowsCommand, FlowsExport};
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::paths::database;
use crate::problem::{Excerpt, Problem};
use crate::quantity::Period;
use crate::settings::Purpose;
use crate::store_problem::store_problem;

/// Runs that are looked at for one with flows.
const RUNS_LOOKED_AT: usize = 100;

pub(crate) fn run(context: &Context, arguments: &Flows) -> Result<Exit, Problem> {
    answer(context, arguments).map_err(|problem| spooled::noted(context, arguments.data(), problem))
}

/// `oriel export`, which is `oriel flows export`.
pub(crate) fn run_export(context: &Context, arguments: &FlowsExport) -> Result<Exit, Problem> {
    export::run(context, arguments)
        .map_err(|problem| spooled::noted(context, &arguments.data, problem))
}

fn answer(context: &Context, arguments: &Flows) -> Result<Exit, Problem> {
    match &arguments.command {
        None => list::run(context, &arguments.list),
        Some(FlowsCommand::List(list)) => list::run(context, list),
        Some(FlowsCommand::Show(show)) => show::run(context, show),
        Some(FlowsCommand::Search(search)) => search::run(context, search),
        Some(FlowsCommand::Tail(tail)) => tail::run(context, tail),
        Some(FlowsCommand::Mark(mark)) => annotate::mark(context, mark),
        Some(FlowsCommand::Note(note)) => annotate::note(context, note),
        Some(FlowsCommand::Rm(rm)) => rm::run(context, rm),
        Some(FlowsCommand::Export(export)) => export::run(context, export),
    }
}

/// Opens the database; `None` if nothing was captured yet.
pub(super) fn open(context: &Context, data: &DataFlags) -> Result<Option<Reader>, Problem> {
    match Reader::open_at(&location(context, data)?) {
        Ok(reader) => Ok(Some(reader)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_problem(&error)),
    }
}

/// Where flows are looked for.
pub(super) fn location(context: &Context, data: &DataFlags) -> Result<Location, Problem> {
    let settings = context.settings(Purpose::Serve, data.layer())?;
    // Who names a folder means what is in it.
    Ok(match data.data {
        Some(_) => Location::File(database(&settings.data_folder.value)),
        None => archive::to_read(&settings),
    })
}

fn nothing_there(id: &str) -> Problem {
    Problem::new("ORL0005", Exit::Unknown, format!("no flow {id}"))
        .why("there is no database yet")
        .fix("oriel run -- COMMAND")
}

/// The flow that a typed id means.
pub(super) fn resolve(reader: &Reader, id: &str) -> Result<FlowRef, Problem> {
    reader.resolve(id).map_err(|error| {
        let problem = store_problem(&error);
        let run = id.rsplit_once('.').map_or(id, |(run, _)| run);
        match empty_last(reader, run) {
            Some(text) => problem.why(text),
            None => problem,
        }
    })
}

/// What there is to say if a typed id means the last run, and nothing came of that: which of those
/// before has flows.
pub(super) fn empty_last(reader: &Reader, run: &str) -> Option<String> {
    if !matches!(run, "@last" | "@-1") {
        return None;
    }
    let runs = reader.runs(RUNS_LOOKED_AT).ok()?;
    let last = runs.first().filter(|run| run.flows == 0)?;
    let mut places = (1_usize..).zip(&runs);
    let empty = format!("the last run, {}, has no flows", last.id);
    Some(match places.find(|(_, run)| run.flows > 0) {
        Some((place, run)) => format!(
            "{empty}; the last with flows is {}, which is @-{place}",
            run.id
        ),
        None => empty,
    })
}

/// The filter in the words of a command line, narrowed to a last time.
pub(super) fn filter(words: &[String], since: Option<Period>) -> Result<Option<Filter>, Problem> {
    let typed = words.join(" ");
    // Parentheses keep an OR of the filter from taking the narrowing as one of its sides.
    let now = now();
    let narrowing = since.map(|since| {
        let micros = i64::try_from(since.0.as_micros()).unwrap_or(i64::MAX);
        format!("since:{}", rfc3339(Timestamp(now.0.saturating_sub(micros))))
    });
    let (text, offset) = match (narrowing, typed.trim().is_empty()) {
        (None, true) => return Ok(None),
        (None, false) => (typed.clone(), 0),
        (Some(narrowing), true) => (narrowing, 0),
        (Some(narrowing), false) => (format!("({typed}) {narrowing}"), 1),
    };
    Filter::parse(&text, now)
        .map(Some)
        .map_err(|error| wrong_filter(&typed, &error, offset))
}

/// A filter that cannot be read; what is typed begins at this offset of what was read.
pub(super) fn wrong_filter(typed: &str, error: &FilterError, offset: usize) -> Problem {
    let span = error.span.start.saturating_sub(offset)..error.span.end.saturating_sub(offset);
    let hint = error
        .suggestion
        .as_ref()
        .map(|meant| format!("did you mean `{meant}`?"));
    Problem::new("ORL0007", Exit::Usage, "the filter cannot be read")
        .excerpt(Excerpt::of("filter", typed, span).hint(hint))
        .why(&error.message)
        .fix("oriel explain ORL0007      how filters are written")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Pen;

    #[test]
    fn a_last_time_narrows_a_filter() {
        let hour = Some(Period(std::time::Duration::from_secs(3600)));
        let narrowed = filter(&["a OR b".to_owned()], hour).unwrap().unwrap();
        assert!(format!("{narrowed:?}").contains("Time"), "{narrowed:?}");
        assert!(filter(&[], hour).unwrap().is_some());
        assert!(filter(&[], None).unwrap().is_none());
    }

    #[test]
    fn a_wrong_filter_is_marked_where_it_was_typed() {
        let words = ["host:a".to_owned(), "stats:200".to_owned()];
        for since in [None, Some(Period(std::time::Duration::from_secs(60)))] {
            let problem = filter(&words, since).unwrap_err();
            let excerpt = problem.excerpt.clone().unwrap();
            assert_eq!(excerpt.column, 8, "{}", problem.render(Pen::plain()));
        }
    }
}
