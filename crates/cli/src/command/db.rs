//! `oriel db`: looks after what is kept.

mod forget;
mod prune;

use std::fmt::{Display, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use store::json::rfc3339;
use store::{
    Archive, ArchiveStatus, FileStatus, Location, Migrated, READONLY_ROLE, StoreError, back_up,
    check_file_in_phases, clickhouse_reader_role, clickhouse_schema, copy, file_status,
    migrate_file, postgres_schema,
};

use crate::archive;
use crate::args::{DataFlags, Db, DbBackup, DbCommand, DbCopy, DbMigrate, DbSchema, ServerKind};
use crate::clock::now;
use crate::command::flows::export;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::flow_text::{Clock, moment};
use crate::output::{print, print_json, say_line};
use crate::paths::database;
use crate::phases::in_phases;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::{bytes, count, plural};
use crate::settings::Purpose;
use crate::store_problem::{problem_of_option, store_problem};

pub(crate) fn run(context: &Context, arguments: &Db) -> Result<Exit, Problem> {
    match &arguments.command {
        DbCommand::Status(data) => status(context, data),
        DbCommand::Migrate(migrate) => run_migrate(context, migrate),
        DbCommand::Schema(arguments) => schema(context, arguments),
        DbCommand::Check(data) => check(context, data),
        DbCommand::Backup(backup) => run_backup(context, backup),
        DbCommand::Copy(copy) => run_copy(context, copy),
        DbCommand::Forget(arguments) => forget::run(context, arguments),
        DbCommand::Prune(arguments) => prune::run(context, arguments),
        DbCommand::Export(flows) => export::run(context, flows),
    }
}

/// The file of this machine, and the archive unless a folder is named.
struct Places {
    file: PathBuf,
    archive: Option<Location>,
    /// The archive of the settings, as the file calls it.
    copied_to: Option<String>,
}

impl Places {
    fn of(context: &Context, data: &DataFlags) -> Result<Self, Problem> {
        let settings = context.settings(Purpose::Serve, data.layer())?;
        Ok(Self {
            file: database(&settings.data_folder.value),
            copied_to: archive::of(&settings).map(Location::to_string),
            archive: match data.data {
                Some(_) => None,
                None => archive::of(&settings).cloned(),
            },
        })
    }
}

fn status(context: &Context, data: &DataFlags) -> Result<Exit, Problem> {
    let places = Places::of(context, data)?;
    let file = match file_status(&places.file) {
        Ok(status) => Some(status),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(store_problem(&error)),
    };
    let archive = places.archive.as_ref().map(|location| {
        let status = open(location).and_then(|mut archive| archive.status());
        (location, status)
    });
    if context.json() {
        print_json(&json!({
            "schema": "oriel.db.status/1",
            "path": places.file,
            "file": file.as_ref().map(|status| file_json(&places, status)),
            "archive": archive.as_ref().map(|(location, status)| archive_json(location, status)),
        }))?;
    } else {
        print(&render(context, &places, file.as_ref(), archive.as_ref()))?;
    }
    Ok(match archive {
        Some((_, Err(_))) => Exit::Negative,
        _ => Exit::Success,
    })
}

fn file_json(places: &Places, status: &FileStatus) -> Value {
    let archives = status.archives.iter().map(|archive| {
        json!({
            "url": archive.archive,
            "waiting_flows": archive.waiting,
            "acknowledged_at": archive.acknowledged_at.map(rfc3339),
            "in_use": places.copied_to.as_ref() == Some(&archive.archive),
        })
    });
    json!({
        "schema_version": status.schema,
        "known_schema_version": status.known,
        "runs": status.runs,
        "flows": status.flows,
        "oldest_at": status.span.map(|(oldest, _)| rfc3339(oldest)),
        "newest_at": status.span.map(|(_, newest)| rfc3339(newest)),
        "bytes": status.bytes,
        "free_bytes": status.free_bytes,
        "archives": archives.collect::<Vec<_>>(),
    })
}

fn archive_json(location: &Location, status: &Result<ArchiveStatus, StoreError>) -> Value {
    match status {
        Ok(status) => json!({
            "url": location.to_string(),
            "server": status.server,
            "schema_version": status.schema,
            "known_schema_version": status.known,
            "runs": status.runs,
            "flows": status.flows,
            "bytes": status.bytes,
            "error": null,
        }),
        Err(error) => {
            json!({"url": location.to_string(), "error": store_problem(error).document()})
        }
    }
}

fn render(
    context: &Context,
    places: &Places,
    file: Option<&FileStatus>,
    archive: Option<&(&Location, Result<ArchiveStatus, StoreError>)>,
) -> String {
    let (now, zone) = (now(), context.zone());
    let when = |at| moment(at, now, &zone, Clock::Full);
    let mut text = format!("file      {}\n", places.file.display());
    let mut line = |name: &str, value: String| {
        let _infallible = writeln!(text, "{name:10}{value}");
    };
    match file {
        None => line("", "nothing was captured yet".to_owned()),
        Some(file) => {
            line("  schema", format!("{} of {}", file.schema, file.known));
            let flows = format!(
                "{} in {}",
                plural(file.flows, "flow"),
                plural(file.runs, "run")
            );
            line("  flows", flows);
            if let Some((oldest, newest)) = file.span {
                line("  from", format!("{} to {}", when(oldest), when(newest)));
            }
            let size = format!(
                "{}, of that {} free",
                bytes(file.bytes),
                bytes(file.free_bytes)
            );
            line("  size", size);
            for archive in &file.archives {
                let at = archive.acknowledged_at.map(when);
                let waiting = match archive.waiting {
                    0 => "has everything".to_owned(),
                    1 => "1 flow waits for it".to_owned(),
                    waiting => format!("{} wait for it", plural(waiting, "flow")),
                };
                let at = at.map(|at| format!(", last heard of {at}"));
                let name = escape_line(&archive.archive);
                line(
                    "  copied",
                    format!("{name}: {waiting}{}", at.unwrap_or_default()),
                );
                if places.copied_to.as_ref() != Some(&archive.archive) {
                    let hint = "it is no longer copied to, and what it does not have is kept for it, until";
                    line("", format!("{hint}  oriel db forget {name}"));
                }
            }
        }
    }
    if let Some((location, status)) = archive {
        line("archive", location.to_string());
        match status {
            Ok(status) => {
                line("  server", escape_line(&status.server).into_owned());
                line("  schema", format!("{} of {}", status.schema, status.known));
                let (flows, runs) = (plural(status.flows, "flow"), plural(status.runs, "run"));
                line("  flows", format!("{flows} in {runs}"));
                if let Some(size) = status.bytes {
                    line("  size", bytes(size));
                }
            }
            Err(error) => {
                let problem = store_problem(error);
                let why = problem.why.as_deref().unwrap_or_default();
                line(
                    "  !",
                    format!("{}: {}", escape_line(&problem.what), escape_line(why)),
                );
            }
        }
    }
    text
}

fn run_migrate(context: &Context, arguments: &DbMigrate) -> Result<Exit, Problem> {
    let places = Places::of(context, &arguments.data)?;
    let mut done = Vec::new();
    if places.file.exists() {
        let migrated = match arguments.dry_run {
            true => file_status(&places.file).map(|status| Migrated {
                from: status.schema,
                to: status.known,
            }),
            false => in_phases(context, raising(&places.file.display()), |_| {
                migrate_file(&places.file)
            }),
        };
        let migrated = migrated.map_err(|error| store_problem(&error))?;
        done.push((places.file.display().to_string(), migrated));
    }
    if let Some(location) = &places.archive {
        let migrate = |mut archive: Box<dyn Archive>| match arguments.dry_run {
            true => archive.status().map(|status| Migrated {
                from: status.schema,
                to: status.known,
            }),
            false => in_phases(context, raising(location), |_| archive.migrate()),
        };
        let migrated = open(location).and_then(migrate);
        let migrated = migrated.map_err(|error| store_problem(&error))?;
        done.push((location.to_string(), migrated));
    }
    if context.json() {
        let done = done.iter().map(|(place, migrated)| {
            json!({"database": place, "from": migrated.from, "to": migrated.to})
        });
        print_json(&json!({
            "schema": "oriel.db.migrate/1",
            "dry_run": arguments.dry_run,
            "databases": done.collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Success);
    }
    let verb = if arguments.dry_run {
        "would go"
    } else {
        "went"
    };
    for (place, Migrated { from, to }) in done {
        print(&match from == to {
            true => format!("{place} has schema {to}, the newest that is known\n"),
            false => format!("{place} {verb} from schema {from} to {to}\n"),
        })?;
    }
    Ok(Exit::Success)
}

/// What is said while a schema is changed.
fn raising(place: &impl Display) -> String {
    format!("bringing {place} up to date")
}

/// The SQL alone, to be piped to the client of the database.
fn schema(context: &Context, arguments: &DbSchema) -> Result<Exit, Problem> {
    let cluster = arguments.cluster.as_deref();
    let sql = match (arguments.kind, arguments.read_only_role) {
        (ServerKind::Postgres, _) if cluster.is_some() => {
            let what = "only ClickHouse has tables for a cluster";
            return Err(Problem::new("ORL0001", Exit::Usage, what)
                .fix("oriel db schema clickhouse --cluster NAME"));
        }
        (ServerKind::Postgres, false) => postgres_schema(),
        (ServerKind::Postgres, true) => READONLY_ROLE.to_owned(),
        (ServerKind::ClickHouse, false) => clickhouse_schema(cluster),
        (ServerKind::ClickHouse, true) => clickhouse_reader_role(cluster),
    };
    match context.json() {
        true => print_json(&json!({"schema": "oriel.db.schema/1", "sql": sql}))?,
        false => print(&sql)?,
    }
    Ok(Exit::Success)
}

fn check(context: &Context, data: &DataFlags) -> Result<Exit, Problem> {
    let places = Places::of(context, data)?;
    let findings = in_phases(context, "checking the file", |phase| {
        check_file_in_phases(&places.file, |what| {
            phase.begin(format!("looking for {what}"));
        })
    });
    let findings = findings.map_err(|error| store_problem(&error))?;
    if context.json() {
        print_json(&json!({
            "schema": "oriel.db.check/1",
            "path": places.file,
            "whole": findings.is_empty(),
            "findings": findings,
        }))?;
    } else if findings.is_empty() {
        print(&format!("{} is whole\n", places.file.display()))?;
    } else {
        for finding in &findings {
            print(&format!("{}\n", escape_line(finding)))?;
        }
    }
    Ok(match findings.is_empty() {
        true => Exit::Success,
        false => Exit::Negative,
    })
}

fn run_backup(context: &Context, arguments: &DbBackup) -> Result<Exit, Problem> {
    let places = Places::of(context, &arguments.data)?;
    let to = &arguments.output;
    if to.exists() {
        let what = format!("{} is there already", to.display());
        return Err(Problem::new("ORL0008", Exit::Storage, what)
            .why("a backup never replaces a file")
            .fix("give another name:  oriel db backup -o FILE"));
    }
    let mut progress: Option<Progress> = None;
    let done = back_up(&places.file, to, |done, all| {
        progress
            .get_or_insert_with(|| Progress::begin(context, "backing up", "pages", Some(all)))
            .tell(done);
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    done.map_err(|error| store_problem(&error))?;
    let status = file_status(to).map_err(|error| store_problem(&error))?;
    if context.json() {
        print_json(&json!({
            "schema": "oriel.db.backup/1",
            "path": to,
            "flows": status.flows,
            "bytes": status.bytes,
        }))?;
    } else if !context.global.quiet {
        let (flows, size) = (plural(status.flows, "flow"), bytes(status.bytes));
        say_line(&format!("{flows} in {}, {size}", to.display()));
    }
    Ok(Exit::Success)
}

fn run_copy(context: &Context, arguments: &DbCopy) -> Result<Exit, Problem> {
    let places = Places::of(context, &arguments.data)?;
    let from = arguments.from.clone();
    let from = from.unwrap_or_else(|| Location::File(places.file.clone()));
    if same(&from, &arguments.to) {
        return Err(Problem::new(
            "ORL0001",
            Exit::Usage,
            "a database is not copied to itself",
        ));
    }
    let of_from = |error: StoreError| match arguments.from {
        Some(_) => problem_of_option(&error, "--from"),
        None => store_problem(&error),
    };
    let of_to = |error: StoreError| problem_of_option(&error, "--to");
    let total = match &from {
        Location::File(path) => Some(file_status(path).map_err(of_from)?.flows),
        location => Some(
            open(location)
                .and_then(|mut from| from.status())
                .map_err(of_from)?
                .flows,
        ),
    };
    let mut to = open(&arguments.to).map_err(of_to)?;
    to.migrate().map_err(of_to)?;
    let mut progress = Progress::begin(context, "copying", "flows", total);
    let copied = copy(&from, to.as_mut(), |done| progress.tell(done));
    progress.finish();
    let copied = copied.map_err(|error| match &error {
        StoreError::Unavailable { place, .. } if *place == arguments.to.to_string() => of_to(error),
        StoreError::Unavailable { .. } => of_from(error),
        _ => store_problem(&error),
    })?;
    if context.json() {
        print_json(&json!({
            "schema": "oriel.db.copy/1",
            "from": from.to_string(),
            "to": arguments.to.to_string(),
            "flows": copied.flows,
            "gaps": copied.gaps,
        }))?;
    } else if !context.global.quiet {
        say_line(&format!(
            "{} flows copied to {}",
            count(copied.flows),
            arguments.to
        ));
    }
    Ok(Exit::Success)
}

fn open(location: &Location) -> Result<Box<dyn Archive>, StoreError> {
    location.open_archive()
}

fn same(left: &Location, right: &Location) -> bool {
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match (left, right) {
        (Location::File(left), Location::File(right)) => whole(left) == whole(right),
        _ => left == right,
    }
}
