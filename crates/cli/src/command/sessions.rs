//! `oriel sessions`: the conversations of agents, each under the id that its program gave it.

use std::fmt::Write as _;

use serde::Serialize;
use store::json::rfc3339;
use store::{Choice, Chosen, Reader, Session, SessionEditor, StatsKey};
use traffic::rules::filter::Filter;

use crate::args::{
    DataFlags, Sessions, SessionsCommand, SessionsList, SessionsMerge, SessionsRename, SessionsRm,
    SessionsShow,
};
use crate::clock::now;
use crate::command::flows::open;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::flow_text::{Clock, moment};
use crate::output::{print, print_json, say_line};
use crate::paths::database;
use crate::problem::Problem;
use crate::quantity::{bytes, count, plural};
use crate::removal::{self, Doomed, refuse_archive};
use crate::settings::Purpose;
use crate::store_problem::store_problem;
use crate::table::{Cell, Column, Side, render};

/// Sessions that are named when an id may mean several.
const CANDIDATES_MAX: usize = 8;

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

#[derive(Serialize)]
struct List {
    schema: &'static str,
    items: Vec<Item>,
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
struct Done {
    schema: &'static str,
    id: String,
}

pub(crate) fn run(context: &Context, arguments: &Sessions) -> Result<Exit, Problem> {
    match &arguments.command {
        None => list(context, &arguments.list),
        Some(SessionsCommand::List(arguments)) => list(context, arguments),
        Some(SessionsCommand::Show(arguments)) => show(context, arguments),
        Some(SessionsCommand::Rename(arguments)) => rename(context, arguments),
        Some(SessionsCommand::Merge(arguments)) => merge(context, arguments),
        Some(SessionsCommand::Rm(arguments)) => remove(context, arguments),
    }
}

fn list(context: &Context, arguments: &SessionsList) -> Result<Exit, Problem> {
    let sessions = match open(context, &arguments.data)? {
        Some(reader) => read(&reader, arguments.limit)?,
        None => Vec::new(),
    };
    if context.json() {
        print_json(&List {
            schema: "oriel.sessions.list/1",
            items: sessions.iter().map(Item::new).collect(),
        })?;
    } else if sessions.is_empty() {
        say_line("no session of an agent was seen yet. Begin with: oriel run -- AGENT");
    } else {
        print(&table(context, &sessions))?;
    }
    Ok(Exit::Success)
}

fn show(context: &Context, arguments: &SessionsShow) -> Result<Exit, Problem> {
    let (reader, session) = find(context, &arguments.data, &arguments.id)?;
    let hosts = reader
        .stats(StatsKey::Host, Some(&filter_of(&session)?))
        .map_err(|error| store_problem(&error))?
        .groups;
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

fn rename(context: &Context, arguments: &SessionsRename) -> Result<Exit, Problem> {
    let (_, session) = find(context, &arguments.data, &arguments.id)?;
    let done = editor(context, &arguments.data)?.rename(&session.id, &arguments.name);
    let is_known = done.map_err(|error| store_problem(&error))?;
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
    let done = editor(context, &arguments.data)?.merge(&session.id, &other.id);
    let is_known = done.map_err(|error| store_problem(&error))?;
    let said = format!("{} belongs to it", escape_line(&other.id));
    tell(context, is_known, &session, &said)
}

fn remove(context: &Context, arguments: &SessionsRm) -> Result<Exit, Problem> {
    let settings = refuse_archive(context, &arguments.data, "sessions rm")?;
    // All ids are understood before anything is removed.
    let mut ids = Vec::new();
    for id in &arguments.ids {
        ids.push(find(context, &arguments.data, id)?.1.id);
    }
    let choice = Choice {
        chosen: Chosen::Sessions(ids),
        forced: arguments.force,
    };
    removal::remove(context, &settings, &Doomed::Chosen(&choice), &arguments.how)
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

fn editor(context: &Context, data: &DataFlags) -> Result<SessionEditor, Problem> {
    let settings = context.settings(Purpose::Serve, data.layer())?;
    let path = database(&settings.data_folder.value);
    SessionEditor::open(&path).map_err(|error| store_problem(&error))
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
                .why("more than one session begins or is called so"))
        }
    }
}

fn unknown(id: &str) -> Problem {
    Problem::new(
        "ORL0005",
        Exit::Unknown,
        format!("there is no session {id:?}"),
    )
    .fix("oriel sessions")
}

/// The flows of a session.
fn filter_of(session: &Session) -> Result<Filter, Problem> {
    // A quote ends a text in a filter; no agent has one in an id.
    let id = session.id.replace('"', "");
    Filter::parse(&format!("session:\"{id}\""), now())
        .map_err(|error| Problem::new("ORL0007", Exit::Usage, error.message))
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
