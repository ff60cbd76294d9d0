//! `oriel config set` and `unset`: one setting of the user's file, or of the one that `--config` names.
//! Nothing is written that would be a mistake.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use toml_edit::Value;

use super::{row_to_json, value_text};
use crate::authority::{make_private_folder, unwritable};
use crate::command::serve::reload::FIXED;
use crate::config::edit::{self, Change, Refused};
use crate::config::keys::{self, KEYS, Key};
use crate::config::layer::{Layer, Origin};
use crate::config::read::parse;
use crate::context::Context;
use crate::environment::Environment;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields::unknown;
use crate::limits::{CONFIG_VALUE_BYTES_MAX, STATUS_TIMEOUT};
use crate::output::{print_json, print_line, say};
use crate::problem::Problem;
use crate::service::{Place, ask};
use crate::settings::{Draft, Purpose, Row, Settings, Sources};
use crate::terminal::Glyph;
use crate::whole_file;
use crate::wiring::mistakes;

/// What is asked for.
struct Wanted<'a> {
    key: &'static Key,
    operation: Operation,
    text: &'a str,
}

#[derive(Clone, Copy)]
enum Operation {
    Set,
    Add,
    Remove,
}

/// The file that is changed.
struct Target {
    path: PathBuf,
    /// Nothing if it is not there yet.
    text: String,
}

pub(super) fn set(context: &Context, words: &str, value: Option<&str>) -> Result<Exit, Problem> {
    let wanted = read_words(words, value)?;
    let typed = match wanted.text {
        "-" => from_input()?,
        text => text.to_owned(),
    };
    let path = wanted.key.path;
    let value = edit::read_value(wanted.key, &typed).map_err(|why| {
        Problem::new("ORL0403", Exit::Usage, format!("wrong value for {path}"))
            .why(why)
            .fix(format!(
                "oriel config get {path}      shows one that is right"
            ))
    })?;
    let target = Target::of(context)?;
    let change = match wanted.operation {
        Operation::Set => Change::Set(value),
        Operation::Add => Change::Add(edit::items(value)),
        Operation::Remove => Change::Remove(edit::items(value)),
    };
    apply(context, wanted.key, change, &target)
}

pub(super) fn unset(context: &Context, name: &str) -> Result<Exit, Problem> {
    apply(context, key_of(name)?, Change::Unset, &Target::of(context)?)
}

/// `key=value`, `key+=value` and `key-=value`, or key and value apart.
fn read_words<'a>(words: &'a str, value: Option<&'a str>) -> Result<Wanted<'a>, Problem> {
    let (name, operation, text) = match (words.split_once('='), value) {
        (None, Some(value)) => (words, Operation::Set, value),
        (Some((name, text)), None) => {
            let added = name.strip_suffix('+').map(|name| (name, Operation::Add));
            let removed = name.strip_suffix('-').map(|name| (name, Operation::Remove));
            let (name, operation) = added.or(removed).unwrap_or((name, Operation::Set));
            (name, operation, text)
        }
        (None, None) => {
            key_of(words)?;
            let what = format!("no value is given for {words}");
            return Err(Problem::new("ORL0001", Exit::Usage, what)
                .why("a setting is given as SETTING=VALUE, or as SETTING VALUE")
                .fix(format!(
                    "oriel config unset {words}      takes it out of the file"
                )));
        }
        (Some(_), Some(_)) => {
            let what = "a value is given twice";
            return Err(Problem::new("ORL0001", Exit::Usage, what)
                .why("there is one behind the equals sign, and one that stands alone")
                .fix(
                    "oriel config set SETTING=VALUE      with quotes around it where it has spaces",
                ));
        }
    };
    let key = key_of(name)?;
    Ok(Wanted {
        key,
        operation,
        text,
    })
}

fn key_of(name: &str) -> Result<&'static Key, Problem> {
    keys::find(name).ok_or_else(|| {
        unknown("setting", name, KEYS.iter().map(|key| key.path))
            .fix("oriel config show --effective      lists all settings")
    })
}

/// What is secret does not belong on a command line, which every user of the machine can read.
fn from_input() -> Result<String, Problem> {
    let mut text = String::new();
    let limit = CONFIG_VALUE_BYTES_MAX + 1;
    let read = std::io::stdin().take(limit).read_to_string(&mut text);
    let why = match read {
        Ok(length) if (length as u64) < limit => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
        }
        Ok(_) => "it is longer than any value".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Problem::new(
        "ORL0001",
        Exit::Usage,
        "the value cannot be read from standard input",
    )
    .why(why))
}

impl Target {
    /// A file that is somewhere else, and linked to from where it is looked for, stays there.
    fn of(context: &Context) -> Result<Self, Problem> {
        let named = context.sources().named();
        let path = named.unwrap_or_else(|| context.paths.user_config.clone());
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = String::new();
                Ok(Self { path, text })
            }
            Err(error) => {
                let what = format!("{} cannot be read", path.display());
                Err(Problem::new("ORL0400", Exit::Usage, what)
                    .why(error.to_string())
                    .fix("oriel config path      shows where files are"))
            }
        }
    }

    fn write(&self, text: &str) -> Result<(), Problem> {
        let failed = |error| unwritable(&self.path, &error);
        let place = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mode = std::fs::metadata(&place).map_or(0o600, |there| there.permissions().mode());
        if let Some(folder) = place.parent() {
            make_private_folder(folder).map_err(|error| unwritable(folder, &error))?;
        }
        whole_file::replace_durably(&place, text.as_bytes(), mode & 0o777).map_err(failed)
    }

    /// What is wrong with the file if it has this text, and whether more could be looked at than its form.
    /// It is taken by itself: what variables set is not its fault.
    fn problems(&self, context: &Context, text: &str) -> (bool, Vec<Problem>) {
        match self.settings(context, text) {
            Ok(settings) => (true, mistakes(&settings)),
            Err(problems) => (false, problems),
        }
    }

    fn settings(&self, context: &Context, text: &str) -> Result<Settings, Vec<Problem>> {
        let sources = Sources {
            environment: &Environment::default(),
            config: Some(&self.path),
            draft: Some(Draft {
                path: &self.path,
                text,
            }),
            ..context.sources()
        };
        Settings::load(&sources, Purpose::Serve, Layer::default())
    }

    /// What a list has that the file does not set.
    fn list(&self, context: &Context, key: &Key) -> Vec<Value> {
        let Ok(settings) = self.settings(context, "") else {
            return Vec::new();
        };
        let rows = settings.rows();
        let row = rows.iter().find(|row| row.path == key.path);
        match row.and_then(|row| edit::edited(&row.value)) {
            Some(list @ Value::Array(_)) => edit::items(list),
            _ => Vec::new(),
        }
    }
}

fn apply(
    context: &Context,
    key: &'static Key,
    change: Change,
    target: &Target,
) -> Result<Exit, Problem> {
    let list = target.list(context, key);
    let changed = edit::change(&target.text, key.path, change, list)
        .map_err(|refused| refusal(refused, key, target))?;
    if let Some(text) = &changed {
        refuse_mistakes(context, target, text)?;
        target.write(text)?;
    }
    tell(context, key, &target.path, changed.is_some())
}

fn refusal(refused: Refused, key: &Key, target: &Target) -> Problem {
    let path = key.path;
    match refused {
        Refused::Syntax(said) => {
            let read = parse(&target.path, target.text.clone());
            let problem = read.problems.into_iter().next();
            problem.unwrap_or_else(|| Problem::new("ORL0401", Exit::Usage, said))
        }
        Refused::NoSection => {
            let section = path.split_once('.').map_or(path, |(section, _)| section);
            let what = format!("`{section}` is no section in {}", target.path.display());
            Problem::new("ORL0403", Exit::Usage, what)
                .why("a section has a line of its own: [section]")
                .fix_there()
        }
        Refused::NoList => Problem::new("ORL0403", Exit::Usage, format!("{path} is no list"))
            .why("only to a list something can be added, and only of one it can be taken")
            .fix(format!("oriel config set {path}=VALUE")),
        Refused::Unlisted(item) => {
            let what = format!("{item} is not in {path}");
            Problem::new("ORL0403", Exit::Unknown, what)
                .why("so it cannot be taken out, and nothing was changed")
                .fix(format!("oriel config get {path}      shows the list"))
        }
    }
}

/// Refuses a text with a mistake that the file did not have before: others may be put right one by one.
fn refuse_mistakes(context: &Context, target: &Target, text: &str) -> Result<(), Problem> {
    let (was_looked_at, before) = target.problems(context, &target.text);
    let (is_looked_at, after) = target.problems(context, text);
    if is_looked_at && !was_looked_at {
        // More is looked at than before, and what is found then was there.
        return Ok(());
    }
    let is_new = |problem: &&Problem| {
        let is_it = |known: &Problem| (known.code, &known.what) == (problem.code, &problem.what);
        !before.iter().any(is_it)
    };
    match after.iter().find(is_new) {
        Some(problem) => Err(problem.clone().note("nothing was changed")),
        None => Ok(()),
    }
}

fn tell(context: &Context, key: &Key, path: &Path, is_changed: bool) -> Result<Exit, Problem> {
    // What is wrong elsewhere does not undo what was done.
    let settings = context.settings(Purpose::Serve, Layer::default()).ok();
    let rows = settings.map(|settings| settings.rows()).unwrap_or_default();
    let row = rows.iter().find(|row| row.path == key.path);
    let place = Place::of(&context.paths);
    let is_running = is_changed && matches!(ask::status(&place, STATUS_TIMEOUT), Ok(Some(_)));
    let wants_restart = is_running && FIXED.contains(&key.path);
    if context.json() {
        print_json(&serde_json::json!({
            "schema": "oriel.config.set/1",
            "key": key.path,
            "path": path.display().to_string(),
            "changed": is_changed,
            "in_force": row.map(row_to_json),
            "service_restart_needed": wants_restart,
        }))?;
        return Ok(Exit::Success);
    }
    let value = row.map_or_else(|| "?".to_owned(), value_text);
    let so = if is_changed {
        ""
    } else {
        "  (it was so already)"
    };
    print_line(&format!("{}  {}{so}", key.path, escape_line(&value)))?;
    let mark = context.terminal.stderr.pen.glyph(Glyph::Warning);
    if let Some(stronger) = row.and_then(|row| stronger(row, path)) {
        let stronger = escape_line(&stronger);
        say(&format!(
            "{mark} {stronger} sets it too, and counts more than the file\n"
        ));
    }
    if row.is_none() {
        say(&format!(
            "{mark} other settings are wrong, so none is in force: oriel config check\n"
        ));
    }
    if wants_restart {
        say(&format!(
            "{mark} the service takes it when it restarts: oriel restart\n"
        ));
    }
    Ok(Exit::Success)
}

/// What sets it in the place of this file.
fn stronger(row: &Row, path: &Path) -> Option<String> {
    match &row.origin {
        Origin::File { path: by, .. } if by == path => None,
        Origin::Default => None,
        // The file does not set it any more, or leaves it to that one.
        Origin::File { path: by, .. }
            if by.file_name() != Some(crate::config::project::NAME.as_ref()) =>
        {
            None
        }
        origin => Some(origin.to_string()),
    }
}
