//! `oriel import`: flows of files become flows like others, in a run of their own for each file. Where flows are
//! read from an archive they are copied there.

mod archived;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use store::{FlowRecord, Format, Found, Import, Importer, ReadError, Redaction, RunId, RunRecord};

use self::archived::{Arrived, Elsewhere};
use crate::args::ImportFiles;
use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::limits::{IMPORT_BATCH_BYTES_MAX, IMPORT_BATCH_FLOWS_MAX, LEFT_OUT_TOLD_MAX};
use crate::output::{print_json, say_line};
use crate::paths::database;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::quantity::count;
use crate::settings::{Purpose, Settings};
use crate::store_problem::store_problem;

/// What became of the files.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    files: Vec<Item>,
    /// Whether the archive that flows are read from has them; `null` without one.
    archived: Option<bool>,
}

/// What became of one file.
#[derive(Serialize)]
struct Item {
    file: String,
    format: Option<&'static str>,
    /// The run, by its id where flows are read; `null` for JSON lines, whose flows keep their runs.
    run: Option<String>,
    #[serde(skip)]
    run_uuid: Option<String>,
    added: u64,
    changed: u64,
    unchanged: u64,
    left_out: u64,
}

pub(crate) fn run(context: &Context, arguments: &ImportFiles) -> Result<Exit, Problem> {
    let settings = context.settings(Purpose::Serve, arguments.data.layer())?;
    let redaction = match arguments.redact {
        Some(redact) => redact.into(),
        None => settings.redact.value.into(),
    };
    let path = database(&settings.data_folder.value);
    let mut files = Vec::new();
    for file in &arguments.files {
        // All of them are opened before any is read.
        let opened = File::open(file).map_err(|error| cannot_read(file, &error))?;
        files.push((file, opened));
    }
    let mut importer = Importer::open(&path).map_err(|error| store_problem(&error))?;
    let mut items = Vec::new();
    for (name, file) in files {
        let item = import(context, &mut importer, name, file, redaction)?;
        if !context.json() && !context.global.quiet {
            say_line(&sentence(&item));
        }
        items.push(item);
    }
    let elsewhere = Elsewhere::of(&settings, arguments.data.data.is_some());
    let arrived = elsewhere.map(|elsewhere| bring(context, &elsewhere, &mut items));
    let arrived = arrived.transpose()?;
    if !context.json() && !context.global.quiet {
        tell_where(
            &settings,
            arguments.data.data.is_some(),
            arrived.as_ref(),
            &items,
        );
    }
    let whole = items.iter().all(|item| item.left_out == 0);
    if context.json() {
        print_json(&Document {
            schema: "oriel.import/1",
            files: items,
            archived: arrived.map(|arrived| matches!(arrived, Arrived::Whole)),
        })?;
    }
    Ok(if whole { Exit::Success } else { Exit::Negative })
}

/// Brings what was imported to where flows are read.
fn bring(
    context: &Context,
    elsewhere: &Elsewhere<'_>,
    items: &mut [Item],
) -> Result<Arrived, Problem> {
    let arrived = elsewhere.copy(context)?;
    if matches!(arrived, Arrived::Whole) {
        for item in items {
            let Some(uuid) = item.run_uuid.as_deref().filter(|_| item.run.is_some()) else {
                continue;
            };
            let id = elsewhere.run_id(uuid);
            let id = id.map_err(|error| store_problem(&error))?;
            item.run = id.map(|id| id.to_string());
        }
    }
    Ok(arrived)
}

/// Says where the flows are seen.
fn tell_where(settings: &Settings, names_folder: bool, arrived: Option<&Arrived>, items: &[Item]) {
    let mut place = String::new();
    if let Some(Arrived::Waiting(why)) = arrived {
        say_line(&format!(
            "the archive has not all of them yet: {}. They wait in the file of this machine, and go with the next \
             oriel on it",
            escape_line(why)
        ));
    }
    if names_folder || matches!(arrived, Some(Arrived::Waiting(_))) {
        place = format!(" --data {}", settings.data_folder.value.display());
    }
    for run in items.iter().filter_map(|item| item.run.as_ref()) {
        say_line(&format!("see them: oriel flows --session {run}{place}"));
    }
}

fn import(
    context: &Context,
    importer: &mut Importer,
    name: &Path,
    file: File,
    redaction: Redaction,
) -> Result<Item, Problem> {
    let title = name.file_name().unwrap_or_default().to_string_lossy();
    let run = Arc::new(RunRecord::of_import(title.into_owned(), now()));
    let mut taker = Taker {
        importer,
        batch: Vec::new(),
        bytes: 0,
        seen: 0,
        run: None,
        item: Item {
            file: name.display().to_string(),
            format: None,
            run: None,
            run_uuid: Some(run.uuid.clone()),
            added: 0,
            changed: 0,
            unchanged: 0,
            left_out: 0,
        },
        progress: Progress::begin(context, "importing", "flows", None),
    };
    let outcome = Import::new(Arc::clone(&run), redaction).read(file, |found| taker.take(found));
    // What was read before the file turned out to be damaged is kept.
    let stored = taker.store();
    let Taker {
        mut item,
        run,
        progress,
        ..
    } = taker;
    progress.finish();
    stored.map_err(|error| read_problem(name, &item, &error))?;
    let format = outcome.map_err(|error| read_problem(name, &item, &error))?;
    item.format = Some(match format {
        Format::Jsonl => "jsonl",
        Format::Har => "har",
        Format::Mitmproxy => "mitmproxy",
    });
    item.run = run
        .filter(|_| format != Format::Jsonl)
        .map(|run| run.to_string());
    Ok(item)
}

/// Takes flows, and stores them in batches.
struct Taker<'i> {
    importer: &'i mut Importer,
    batch: Vec<FlowRecord>,
    bytes: usize,
    seen: u64,
    /// The id of the run here.
    run: Option<RunId>,
    item: Item,
    progress: Progress,
}

impl Taker<'_> {
    fn take(&mut self, found: Found) -> Result<(), ReadError> {
        self.seen += 1;
        self.progress.tell(self.seen);
        match found {
            Found::LeftOut { place, what } => {
                self.item.left_out += 1;
                if self.item.left_out <= LEFT_OUT_TOLD_MAX {
                    let file = &self.item.file;
                    say_line(&format!(
                        "{}: {place} left out: {}",
                        escape_line(file),
                        escape_line(&what)
                    ));
                }
            }
            Found::Flow(record) => {
                self.bytes += record.bytes();
                self.batch.push(*record);
                if self.batch.len() >= IMPORT_BATCH_FLOWS_MAX
                    || self.bytes >= IMPORT_BATCH_BYTES_MAX
                {
                    self.store()?;
                }
            }
        }
        Ok(())
    }

    fn store(&mut self) -> Result<(), ReadError> {
        let done = self.importer.insert(&self.batch)?;
        self.item.added += done.added;
        self.item.changed += done.changed;
        self.item.unchanged += done.unchanged;
        if let Some(record) = self.batch.first() {
            self.run = self.importer.run_id(&record.run.uuid).or(self.run);
        }
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn sentence(item: &Item) -> String {
    let mut parts = vec![format!("{} flows", count(item.added))];
    for (number, what) in [
        (item.changed, "changed"),
        (item.unchanged, "there already"),
        (item.left_out, "left out"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    format!(
        "imported {} from {}",
        parts.join(", "),
        escape_line(&item.file)
    )
}

fn cannot_read(path: &Path, error: &io::Error) -> Problem {
    let what = format!("cannot read {}", path.display());
    Problem::new("ORL0009", Exit::Usage, what).why(error.to_string())
}

fn read_problem(path: &Path, item: &Item, error: &ReadError) -> Problem {
    let problem = match error {
        ReadError::Store(error) => return store_problem(error),
        ReadError::Io(error) => cannot_read(path, error),
        ReadError::Unknown | ReadError::Damaged { .. } | ReadError::TooLarge { .. } => {
            let what = format!("cannot import {}", path.display());
            Problem::new("ORL0009", Exit::Negative, what).why(error.to_string())
        }
    };
    match item.added + item.changed + item.unchanged {
        0 => problem,
        kept => problem.fix(format!(
            "what stands before it is imported: {} flows",
            count(kept)
        )),
    }
}
