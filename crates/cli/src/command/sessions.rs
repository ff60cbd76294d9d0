//! `oriel sessions`: the conversations of agents, each under the id that its program gave it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;
use store::json::rfc3339;
use store::{
    Archive, Choice, Chosen, Doomed, Location, Reader, Session, SessionEditor, StatsGroup,
    StatsKey, StoreError,
};
use traffic::rules::filter::Filter;

use crate::archive;
use crate::args::{
    DataFlags, FlowsTail, Sessions, SessionsCommand, SessionsDiff, SessionsList, SessionsMerge,
    SessionsRename, SessionsRm, SessionsShow,
};
use crate::clock::now;
use crate::command::flows::spooled::{self, Spool};
use crate::command::flows::{location, open, tail, wrong_filter};
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields::{self, Fields, Known};
use crate::flow_text::{Clock, moment};
use crate::output::{print, print_json, say_line};
use crate::paths::database;
use crate::problem::Problem;
use crate::quantity::{bytes, count, plural};
use crate::removal::{self, Place};
use crate::settings::Purpose;
use crate::store_problem::store_problem;
use crate::table::{Cell, Column, Side, render};

/// Sessions that are named when an id may mean several.
const CANDIDATES_MAX: usize = 8;
/// Flows of a session that are shown before those that come.
const WATCHED_FLOWS: usize = 10;

#[derive(Serialize)]
struct Item {
    id: String,
    name: Option<String>,
    agent: Option<String>,
    started_at: String,
    last_at: String,
    flows: u64,
    llm_flows: u64,
    failed: u64,
    runs: u64,
    agents: u64,
    request_bytes: u64,
    response_bytes: u64,
}

/// What is in an [`Item`].
const FIELDS: Known = Known {
    names: &[
        ("id", "text"),
        ("name", "text | null"),
        ("agent", "text | null"),
        ("started_at", "time"),
        ("last_at", "time"),
        ("flows", "number"),
        ("llm_flows", "number"),
        ("failed", "number"),
        ("runs", "number"),
        ("agents", "number"),
        ("request_bytes", "number"),
        ("response_bytes", "number"),
    ],
    command: "oriel sessions list",
};

#[derive(Serialize)]
struct List {
    schema: &'static str,
    items: Vec<Value>,
    /// Flows that wait in the spool and are in none of them yet.
    spooled: u64,
}

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    #[serde(flatten)]
    item: Item,
    hosts: Vec<HostItem>,
}

#[derive(Serialize)]
struct HostItem {
    host: Option<String>,
    flows: u64,
}

#[derive(Serialize)]
struct Difference {
    schema: &'static str,
    sessions: [Item; 2],
    hosts: Vec<HostDifference>,
}

#[derive(Serialize)]
struct HostDifference {
    host: String,
    /// Of each session.
    flows: [u64; 2],
}

#[derive(Serialize)]
struct Done {
    schema: &'static str,
    id: String,
}

pub(crate) fn run(context: &Context, arguments: &Sessions) -> Result<Exit, Problem> {
    answer(context, arguments).map_err(|problem| spooled::noted(context, arguments.data(), problem))
}

fn answer(context: &Context, arguments: &Sessions) -> Result<Exit, Problem> {
    match &arguments.command {
        None => list(context, &arguments.list),
        Some(SessionsCommand::List(arguments)) => list(context, arguments),
        Some(SessionsCommand::Show(arguments)) => show(context, arguments),
        Some(SessionsCommand::Diff(arguments)) => diff(context, arguments),
        Some(SessionsCommand::Watch(arguments)) => watch(context, arguments),
        Some(SessionsCommand::Rename(arguments)) => rename(context, arguments),
        Some(SessionsCommand::Merge(arguments)) => merge(context, arguments),
        Some(SessionsCommand::Rm(arguments)) => remove(context, arguments),
    }
}

fn list(context: &Context, arguments: &SessionsList) -> Result<Exit, Problem> {
    let fields = Fields::chosen_of(&arguments.form, &FIELDS, &[])?;
    if fields.wants_help() {
        return fields::print_help_of(context, &FIELDS);
    }
    let spooled = Spool::of(context, &arguments.data)?.flows();
    let sessions = match open(context, &arguments.data)? {
        Some(reader) => read(&reader, arguments.limit)?,
        None => Vec::new(),
    };
    let items = sessions.iter().map(Item::new);
    if arguments.form.jsonl {
        fields.print_lines(items)?;
    } else if context.json() || fields.are_chosen() {
        let items: Result<Vec<Value>, Problem> = items.map(|item| fields.value(&item)).collect();
        print_json(&List {
            schema: "oriel.sessions.list/1",
            items: items?,
            spooled,
        })?;
    } else if !sessions.is_empty() {
        print(&table(context, &sessions))?;
    } else if spooled == 0 {
        say_line("no session of an agent was seen yet. Begin with: oriel run -- AGENT");
    }
    spooled::tell(context, spooled);
    Ok(Exit::Success)
}

fn show(context: &Context, arguments: &SessionsShow) -> Result<Exit, Problem> {
    let (reader, session) = find(context, &arguments.data, &arguments.id)?;
    let hosts = hosts_of(&reader, &session)?;
    if context.json() {
        print_json(&Document {
            schema: "oriel.session/1",
            item: Item::new(&session),
            hosts: hosts
                .into_iter()
                .map(|group| HostItem {
                    host: group.key,
                    flows: group.flows,
                })
                .collect(),
        })?;
        return Ok(Exit::Success);
    }
    let at = |at| moment(at, now(), &context.zone(), Clock::Full);
    let mut text = format!("session {}\n", escape_line(&session.id));
    let mut fact = |name: &str, value: &str| {
        let _infallible = writeln!(text, "{name:8} {value}");
    };
    if let Some(name) = &session.name {
        fact("name", &escape_line(name));
    }
    if let Some(agent) = &session.agent {
        fact("agent", &escape_line(agent));
    }
    let agents = match session.agents {
        0 => String::new(),
        agents => format!(", of {} besides the first", plural(agents, "agent")),
    };
    fact(
        "seen",
        &format!("{} to {}", at(session.started_at), at(session.last_at)),
    );
    fact(
        "flows",
        &format!(
            "{} in {}, {} of models, {} failed{agents}",
            count(session.flows),
            plural(session.runs, "run"),
            count(session.llm_flows),
            count(session.failed)
        ),
    );
    fact(
        "bytes",
        &format!(
            "{} sent, {} received",
            bytes(session.request_bytes),
            bytes(session.response_bytes)
        ),
    );
    for group in &hosts {
        let host = group.key.as_deref().unwrap_or_default();
        fact(
            "host",
            &format!("{} ({})", escape_line(host), plural(group.flows, "flow")),
        );
    }
    print(&text)?;
    if !context.global.quiet {
        say_line(&format!(
            "its flows: oriel flows 'session:{}'",
            escape_line(&session.id)
        ));
    }
    Ok(Exit::Success)
}

/// How many flows went to which host.
fn hosts_of(reader: &Reader, session: &Session) -> Result<Vec<StatsGroup>, Problem> {
    let stats = reader.stats(StatsKey::Host, Some(&filter_of(session)?));
    Ok(stats.map_err(|error| store_problem(&error))?.groups)
}

fn diff(context: &Context, arguments: &SessionsDiff) -> Result<Exit, Problem> {
    let (reader, left) = find(context, &arguments.data, &arguments.id)?;
    let right = resolve(&reader, &arguments.other)?;
    let mut hosts: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for (side, session) in [&left, &right].into_iter().enumerate() {
        for group in hosts_of(&reader, session)? {
            let flows = hosts.entry(group.key.unwrap_or_default()).or_default();
            if let Some(flows) = flows.get_mut(side) {
                *flows = group.flows;
            }
        }
    }
    if context.json() {
        let hosts = hosts
            .into_iter()
            .map(|(host, flows)| HostDifference { host, flows });
        print_json(&Difference {
            schema: "oriel.sessions.diff/1",
            sessions: [Item::new(&left), Item::new(&right)],
            hosts: hosts.collect(),
        })?;
        return Ok(Exit::Success);
    }
    print(&difference_table(context, &left, &right, &hosts))?;
    Ok(Exit::Success)
}

/// A line for each thing that is counted, with a column for each session.
fn difference_table(
    context: &Context,
    left: &Session,
    right: &Session,
    hosts: &BTreeMap<String, [u64; 2]>,
) -> String {
    let stdout = context.terminal.stdout;
    let column = |title, side| Column { title, side };
    let columns = [
        column("", Side::GivesWay),
        column("FIRST", Side::Right),
        column("SECOND", Side::Right),
    ];
    let mut rows = Vec::new();
    let mut row = |what: &str, [left, right]: [String; 2]| {
        rows.push(vec![Cell::new(what), Cell::new(left), Cell::new(right)]);
    };
    let both = |of: fn(&Session) -> String| [of(left), of(right)];
    row(
        "session",
        both(|session| escape_line(session.name.as_ref().unwrap_or(&session.id)).into_owned()),
    );
    row("flows", both(|session| count(session.flows)));
    row("of models", both(|session| count(session.llm_flows)));
    row("failed", both(|session| count(session.failed)));
    row("agents", both(|session| count(session.agents + 1)));
    row("sent", both(|session| bytes(session.request_bytes)));
    row("received", both(|session| bytes(session.response_bytes)));
    for (host, flows) in hosts {
        row(&format!("to {}", escape_line(host)), flows.map(count));
    }
    render(&columns, &rows, stdout.width, stdout.pen)
}

fn watch(context: &Context, arguments: &SessionsShow) -> Result<Exit, Problem> {
    let (_, session) = find(context, &arguments.data, &arguments.id)?;
    let tail = FlowsTail {
        filter: vec![filter_text(&session)],
        follow: true,
        limit: WATCHED_FLOWS,
        output: "short".to_owned(),
        color_by: None,
        data: arguments.data.clone(),
    };
    tail::run(context, &tail)
}

fn rename(context: &Context, arguments: &SessionsRename) -> Result<Exit, Problem> {
    let (_, session) = find(context, &arguments.data, &arguments.id)?;
    let is_known = Editor::open(context, &arguments.data)?.rename(&session.id, &arguments.name)?;
    tell(
        context,
        is_known,
        &session,
        &match arguments.name.as_str() {
            "" => "it has no name any more".to_owned(),
            name => format!("it is {} now", escape_line(name)),
        },
    )
}

fn merge(context: &Context, arguments: &SessionsMerge) -> Result<Exit, Problem> {
    let (reader, session) = find(context, &arguments.data, &arguments.id)?;
    let other = resolve(&reader, &arguments.other)?;
    let is_known = Editor::open(context, &arguments.data)?.merge(&session.id, &other.id)?;
    let said = format!("{} belongs to it", escape_line(&other.id));
    tell(context, is_known, &session, &said)
}

fn remove(context: &Context, arguments: &SessionsRm) -> Result<Exit, Problem> {
    let place = Place::where_read(context, &arguments.data)?;
    // All ids are understood before anything is removed.
    let mut ids = Vec::new();
    for id in &arguments.ids {
        ids.push(find(context, &arguments.data, id)?.1.id);
    }
    let choice = Choice {
        chosen: Chosen::Sessions(ids),
        forced: arguments.force,
    };
    removal::remove(context, &place, &Doomed::Chosen(&choice), &arguments.how)
}

fn tell(context: &Context, is_known: bool, session: &Session, said: &str) -> Result<Exit, Problem> {
    if !is_known {
        return Err(unknown(&session.id));
    }
    if context.json() {
        print_json(&Done {
            schema: "oriel.session.change/1",
            id: session.id.clone(),
        })?;
    } else if !context.global.quiet {
        say_line(&format!("session {}: {said}", escape_line(&session.id)));
    }
    Ok(Exit::Success)
}

/// What changes sessions: where flows are read, and in the file of this machine as far as it has them.
struct Editor {
    archive: Option<Box<dyn Archive>>,
    file: Option<SessionEditor>,
}

impl Editor {
    fn open(context: &Context, data: &DataFlags) -> Result<Self, Problem> {
        let settings = context.settings(Purpose::Serve, data.layer())?;
        let path = database(&settings.data_folder.value);
        let location = location(context, data)?;
        let file = match SessionEditor::open(&path) {
            Ok(editor) => Some(editor),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(store_problem(&error)),
        };
        let archive = match location == Location::File(path) {
            true => None,
            false => archive::open(&location)?,
        };
        Ok(Self { archive, file })
    }

    /// Answers whether there is such a session where flows are read.
    fn rename(&mut self, id: &str, name: &str) -> Result<bool, Problem> {
        self.change(
            |archive| archive.rename_session(id, name),
            |file| file.rename(id, name),
        )
    }

    /// Answers whether there are both where flows are read.
    fn merge(&mut self, into: &str, other: &str) -> Result<bool, Problem> {
        self.change(
            |archive| archive.merge_sessions(into, other),
            |file| file.merge(into, other),
        )
    }

    fn change(
        &mut self,
        in_archive: impl FnOnce(&mut (dyn Archive + 'static)) -> Result<bool, StoreError>,
        in_file: impl FnOnce(&mut SessionEditor) -> Result<bool, StoreError>,
    ) -> Result<bool, Problem> {
        let problem = |error| store_problem(&error);
        let archived = self.archive.as_deref_mut().map(in_archive).transpose();
        let archived = archived.map_err(problem)?;
        if archived == Some(false) {
            return Ok(false);
        }
        let filed = self.file.as_mut().map(in_file).transpose();
        let filed = filed.map_err(problem)?;
        Ok(archived.or(filed).unwrap_or(false))
    }
}

fn read(reader: &Reader, limit: usize) -> Result<Vec<Session>, Problem> {
    reader
        .sessions(limit)
        .map_err(|error| store_problem(&error))
}

fn find(context: &Context, data: &DataFlags, id: &str) -> Result<(Reader, Session), Problem> {
    let reader = open(context, data)?.ok_or_else(|| unknown(id))?;
    let session = resolve(&reader, id)?;
    Ok((reader, session))
}

/// The session that a typed id means: the newest for `@last`, else its id, its name, or the start of
/// its id.
fn resolve(reader: &Reader, text: &str) -> Result<Session, Problem> {
    let sessions = read(reader, usize::MAX)?;
    if text == "@last" {
        return sessions.into_iter().next().ok_or_else(|| unknown(text));
    }
    let is = |session: &&Session| session.id == text;
    let is_named = |session: &&Session| session.name.as_deref() == Some(text);
    let begins = |session: &&Session| !text.is_empty() && session.id.starts_with(text);
    let found: Vec<&Session> = match sessions.iter().find(is) {
        Some(session) => vec![session],
        None => match sessions.iter().filter(is_named).collect::<Vec<_>>() {
            named if named.is_empty() => sessions.iter().filter(begins).collect(),
            named => named,
        },
    };
    match found.as_slice() {
        [] => Err(unknown(text)),
        [session] => Ok(Session::clone(session)),
        several => {
            let ids = several.iter().take(CANDIDATES_MAX);
            let ids: Vec<_> = ids.map(|session| escape_line(&session.id)).collect();
            let what = format!("{text:?} may be any of {}", ids.join(", "));
            Err(Problem::new("ORL0006", Exit::Unknown, what)
                .why("more than one session begins or is called so")
                .fix("say more of its id:  oriel sessions"))
        }
    }
}

fn unknown(id: &str) -> Problem {
    Problem::new(
        "ORL0005",
        Exit::Unknown,
        format!("there is no session {id:?}"),
    )
    .why("no session has this id or this name, and no id begins so")
    .fix("oriel sessions")
}

/// A filter that finds the flows of a session.
fn filter_text(session: &Session) -> String {
    // A quote ends a text in a filter; no agent has one in an id.
    let id = session.id.replace('"', "");
    format!("session:\"{id}\"")
}

/// The flows of a session.
fn filter_of(session: &Session) -> Result<Filter, Problem> {
    Filter::parse(&filter_text(session), now())
        .map_err(|error| wrong_filter(&filter_text(session), &error, 0))
}

fn table(context: &Context, sessions: &[Session]) -> String {
    let stdout = context.terminal.stdout;
    let column = |title, side| Column { title, side };
    let columns = [
        column("ID", Side::GivesWay),
        column("STARTED", Side::Left),
        column("NAME", Side::Left),
        column("AGENT", Side::Left),
        column("FLOWS", Side::Right),
        column("SENT", Side::Right),
        column("RECEIVED", Side::Right),
        column("FAILED", Side::Right),
    ];
    let clock = match stdout.is_terminal {
        true => Clock::Short,
        false => Clock::Full,
    };
    let text = |text: &Option<String>| match text {
        Some(text) => escape_line(text).into_owned(),
        None => stdout.pen.unknown().to_owned(),
    };
    let rows: Vec<Vec<Cell>> = sessions
        .iter()
        .map(|session| {
            vec![
                Cell::new(escape_line(&session.id)),
                Cell::new(moment(session.started_at, now(), &context.zone(), clock)),
                Cell::new(text(&session.name)),
                Cell::new(text(&session.agent)),
                Cell::new(count(session.flows)),
                Cell::new(bytes(session.request_bytes)),
                Cell::new(bytes(session.response_bytes)),
                Cell::new(count(session.failed)),
            ]
        })
        .collect();
    render(&columns, &rows, stdout.width, stdout.pen)
}

impl Item {
    fn new(session: &Session) -> Self {
        Self {
            id: session.id.clone(),
            name: session.name.clone(),
            agent: session.agent.clone(),
            started_at: rfc3339(session.started_at),
            last_at: rfc3339(session.last_at),
            flows: session.flows,
            llm_flows: session.llm_flows,
            failed: session.failed,
            runs: session.runs,
            agents: session.agents,
            request_bytes: session.request_bytes,
            response_bytes: session.response_bytes,
        }
    }
}
