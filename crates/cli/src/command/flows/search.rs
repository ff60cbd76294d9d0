//! `oriel flows search`: flows whose texts have some words, with the place where they stand.

use std::path::Path;

use serde::Serialize;
use store::json::FlowItem;
use store::{Excerpt, Hit, Hits, Location, Reader, Search, StoreError, TextIndex, TextPart};
use traffic::rules::filter::{Filter, Words};

use crate::args::{DataFlags, FlowsSearch, SearchIn};
use crate::clock::now;
use crate::command::flows::spooled::{Spool, tell};
use crate::command::flows::{filter, location, open};
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields::{self, Fields};
use crate::flow_text::{Clock, has_secrets, moment, request, secrets_warning, status, tags};
use crate::output::{print, print_line, say, say_line, to_json};
use crate::problem::Problem;
use crate::progress::Progress;
use crate::store_problem::store_problem;
use crate::terminal::Colour;

/// A hit in JSON.
#[derive(Serialize)]
struct Item {
    #[serde(flatten)]
    flow: FlowItem,
    matches: Vec<Match>,
}

#[derive(Serialize)]
struct Match {
    r#in: &'static str,
    before: String,
    found: String,
    after: String,
}

pub(crate) fn run(context: &Context, arguments: &FlowsSearch) -> Result<Exit, Problem> {
    let words = Words::parse(&arguments.text).ok_or_else(|| {
        Problem::new("ORL0001", Exit::Usage, "there is no word to look for")
            .why("words have letters and digits; a star may stand behind the last one")
    })?;
    let fields = Fields::chosen(&arguments.form, &["matches"])?;
    if fields.wants_help() {
        return fields::print_help(context);
    }
    let filter = filter(&arguments.filter, arguments.since)?;
    let spooled = Spool::of(context, &arguments.data)?.flows();
    catch_up(context, &arguments.data)?;
    let hits = match open(context, &arguments.data)? {
        Some(reader) => hits_in(&reader, arguments, words, filter)?,
        None => Hits {
            hits: Vec::new(),
            next: None,
        },
    };
    let is_json = context.json() || fields.are_chosen();
    match (arguments.form.jsonl, is_json) {
        (true, _) => {
            for hit in &hits.hits {
                print_line(&fields.json(&Item::new(hit))?)?;
            }
        }
        (false, true) => print_document(&hits, &fields, spooled)?,
        (false, false) => print_hits(context, &hits)?,
    }
    tell(context, spooled);
    Ok(match hits.hits.is_empty() {
        true => Exit::Negative,
        false => Exit::Success,
    })
}

fn hits_in(
    reader: &Reader,
    arguments: &FlowsSearch,
    words: Words,
    filter: Option<Filter>,
) -> Result<Hits, Problem> {
    let problem = |error: StoreError| store_problem(&error);
    let run = arguments.session.as_ref();
    let mut search = Search {
        words,
        parts: arguments.parts.iter().map(|part| part.part()).collect(),
        filter,
        run: run
            .map(|run| reader.resolve_run(run))
            .transpose()
            .map_err(problem)?,
        limit: arguments.limit,
        context: arguments.context,
        after: None,
    };
    find(reader, &mut search, arguments.limit).map_err(problem)
}

/// One answer looks at so much only: asks until there are enough, or no more.
fn find(reader: &Reader, search: &mut Search, limit: usize) -> Result<Hits, StoreError> {
    let mut all = Vec::new();
    loop {
        search.limit = limit.saturating_sub(all.len());
        let Hits { hits, next } = reader.search(search)?;
        all.extend(hits);
        if next.is_none() || all.len() >= limit {
            return Ok(Hits { hits: all, next });
        }
        search.after = next;
    }
}

fn print_document(hits: &Hits, fields: &Fields, spooled: u64) -> Result<(), Problem> {
    let items: Result<Vec<String>, Problem> = hits
        .hits
        .iter()
        .map(|hit| fields.json(&Item::new(hit)))
        .collect();
    let next = hits.next.map(|next| next.to_string());
    print_line(&format!(
        "{{\"schema\":\"oriel.flows.search/1\",\"items\":[{}],\"next\":{},\"total\":null,\"spooled\":{spooled}}}",
        items?.join(","),
        to_json(&next)?
    ))
}

fn print_hits(context: &Context, hits: &Hits) -> Result<(), Problem> {
    let stdout = context.terminal.stdout;
    let pen = stdout.pen;
    let mut text = String::new();
    for hit in &hits.hits {
        let row = &hit.row;
        let at = moment(row.started_at, now(), &context.zone(), Clock::Full);
        let id = pen.paint(Colour::Bold, &row.id.to_string());
        let line = format!(
            "{id}  {at}  {}{}  {}\n",
            request(row),
            tags(row),
            status(row, pen).text()
        );
        text.push_str(&line);
        for excerpt in &hit.excerpts {
            let before = escape_line(&excerpt.before);
            let found = pen.paint(Colour::Yellow, &escape_line(&excerpt.found));
            let behind = escape_line(&excerpt.behind);
            let part = format!("{:8}", excerpt.part.as_str());
            let part = pen.paint(Colour::Dim, &part);
            text.push_str(&format!("  {part}  {before}{found}{behind}\n"));
        }
    }
    print(&text)?;
    let stderr = context.terminal.stderr;
    if hits.hits.iter().any(|hit| has_secrets(&hit.row)) {
        say(&secrets_warning(stderr.pen));
    }
    if context.global.quiet {
        return Ok(());
    }
    if hits.hits.is_empty() {
        say_line("nothing found");
    } else if hits.next.is_some() && stdout.is_terminal {
        say_line(&format!("the newest {}; more: -n COUNT", hits.hits.len()));
    }
    Ok(())
}

/// Takes into the index of texts what is not there yet. A server has the words of each flow from the start.
pub(super) fn catch_up(context: &Context, data: &DataFlags) -> Result<(), Problem> {
    match location(context, data)? {
        Location::File(path) => catch_up_file(context, &path),
        Location::Postgres(_) | Location::ClickHouse(_) => Ok(()),
    }
}

/// Takes into the index beside a file what is not there yet.
pub(crate) fn catch_up_file(context: &Context, path: &Path) -> Result<(), Problem> {
    let mut index = match TextIndex::open(path) {
        Ok(index) => index,
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(store_problem(&error)),
    };
    let problem = |error: StoreError| store_problem(&error);
    let behind = index.behind().map_err(problem)?;
    let mut progress = Progress::begin(context, "indexing", "flows", Some(behind));
    let mut done = 0;
    loop {
        let step = index.step().map_err(problem)?;
        done += step;
        progress.tell(done);
        // What comes meanwhile is not waited for.
        if step == 0 || done >= behind {
            break;
        }
    }
    progress.finish();
    Ok(())
}

/// The same, if a filter asks for texts.
pub(super) fn catch_up_for(
    context: &Context,
    data: &DataFlags,
    filter: Option<&Filter>,
) -> Result<(), Problem> {
    match filter.is_some_and(Filter::asks_for_words) {
        true => catch_up(context, data),
        false => Ok(()),
    }
}

impl SearchIn {
    fn part(self) -> TextPart {
        match self {
            Self::Url => TextPart::Url,
            Self::Request => TextPart::Request,
            Self::Response => TextPart::Response,
        }
    }
}

impl Item {
    fn new(hit: &Hit) -> Self {
        let found = |excerpt: &Excerpt| Match {
            r#in: excerpt.part.as_str(),
            before: excerpt.before.clone(),
            found: excerpt.found.clone(),
            after: excerpt.behind.clone(),
        };
        Self {
            flow: FlowItem::new(&hit.row),
            matches: hit.excerpts.iter().map(found).collect(),
        }
    }
}
