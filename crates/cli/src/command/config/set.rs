//! `oriel config set` and `unset`: one setting of the user's file, or of the one that `--config` names.
//! Nothing is written that would be a mistake.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use toml_edit::Value;

use super::{row_to_json, value_text};
use crate::authority::{make_private_folder, unwritable};
use crate::command::serve::reload::FIXED;
use crate::config::edit::{self, Change, Refused};
use crate::config::keys::{self, KEYS, Key};
use crate::config::layer::{Layer, Origin};
use crate::config::read::{parse, unreadable};
use crate::context::Context;
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
    change: Change,
    text: &'a str,
}

/// The file that is changed. Another oriel that is to change it waits meanwhile.
struct Target<'a> {
    context: &'a Context,
    key: &'static Key,
    path: PathBuf,
    /// Nothing if it is not there yet.
    text: String,
    /// Of its folder.
    _lock: File,
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
    let target = Target::of(context, wanted.key)?;
    let list = target.list();
    target.apply(match wanted.change {
        Change::Add | Change::Remove if !wanted.key.is_list() => Err(Refused::NoList),
        change => edit::change(&target.text, path, change, value, list),
    })
}

pub(super) fn unset(context: &Context, name: &str) -> Result<Exit, Problem> {
    let target = Target::of(context, key_of(name)?)?;
    target.apply(edit::unset(&target.text, target.key.path))
}

/// `key=value`, `key+=value` and `key-=value`, or key and value apart.
fn read_words<'a>(words: &'a str, value: Option<&'a str>) -> Result<Wanted<'a>, Problem> {
    let (name, change, text) = match (words.split_once('='), value) {
        (None, Some(value)) => (words, Change::Set, value),
        (Some((name, text)), None) => {
            let added = name.strip_suffix('+').map(|name| (name, Change::Add));
            let removed = name.strip_suffix('-').map(|name| (name, Change::Remove));
            let (name, change) = added.or(removed).unwrap_or((name, Change::Set));
            (name, change, text)
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
    Ok(Wanted { key, change, text })
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

impl<'a> Target<'a> {
    fn of(context: &'a Context, key: &'static Key) -> Result<Self, Problem> {
        let named = context.sources().named();
        let path = named.unwrap_or_else(|| context.paths.user_config.clone());
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let lock = make_private_folder(folder)
            .and_then(|()| File::open(folder))
            .map_err(|error| unwritable(folder, &error))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| unwritable(folder, &error.into()))?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(unreadable(&path, &error)),
        };
        Ok(Self {
            context,
            key,
            path,
            text,
            _lock: lock,
        })
    }

    /// Writes what the text is to be, unless that would be wrong, and tells of it.
    fn apply(&self, edited: Result<Option<String>, Refused>) -> Result<Exit, Problem> {
        let edited = edited.map_err(|refused| self.refusal(refused))?;
        if let Some(text) = &edited {
            self.refuse_mistakes(text)?;
            self.write(text)?;
        }
        tell(self.context, self.key, &self.path, edited.is_some())
    }

    /// A file that is somewhere else, and linked to from where it is looked for, stays there. One with a secret in it
    /// is for its owner alone from then on.
    fn write(&self, text: &str) -> Result<(), Problem> {
        let place = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mode = std::fs::metadata(&place).map_or(0o600, |there| there.permissions().mode());
        let allowed = match self.key.may_be_secret() {
            true => 0o600,
            false => 0o777,
        };
        whole_file::replace_durably(&place, text.as_bytes(), mode & allowed)
            .map_err(|error| unwritable(&place, &error))
    }

    /// Refuses a text with a mistake that the file did not have before: others may be put right one by one.
    /// Where its value was wrong itself, nothing behind it was looked at, so the file without it counts too.
    fn refuse_mistakes(&self, text: &str) -> Result<(), Problem> {
        let without = edit::unset(&self.text, self.key.path).ok().flatten();
        let mut known = self.mistakes(&self.text);
        known.extend(without.iter().flat_map(|text| self.mistakes(text)));
        let is_new = |problem: &&Problem| {
            let is_it =
                |known: &Problem| (known.code, &known.what) == (problem.code, &problem.what);
            !known.iter().any(is_it)
        };
        let problem = match self.mistakes(text).iter().find(is_new) {
            Some(problem) => problem.clone(),
            None => return Ok(()),
        };
        let problem = match self.key.may_be_secret() {
            true => problem.without_excerpt(),
            false => problem,
        };
        Err(problem.note("nothing was changed; the file is told as it would be"))
    }

    /// What is wrong if the file has this text.
    fn mistakes(&self, text: &str) -> Vec<Problem> {
        match self.settings(text) {
            Ok(settings) => mistakes(&settings),
            Err(problems) => problems,
        }
    }

    /// What is in force if the file has this text, and no variable says otherwise.
    fn settings(&self, text: &str) -> Result<Settings, Vec<Problem>> {
        let sources = Sources {
            environment: &self.context.environment.without(self.key.variables),
            config: Some(&self.path),
            draft: Some(Draft {
                path: &self.path,
                text,
            }),
            ..self.context.sources()
        };
        Settings::load(&sources, Purpose::Serve, Layer::default())
    }

    /// What a list has that the file does not set.
    fn list(&self) -> Vec<Value> {
        let Ok(settings) = self.settings("") else {
            return Vec::new();
        };
        let rows = settings.rows();
        let row = rows.iter().find(|row| row.path == self.key.path);
        match row.and_then(|row| edit::edited(&row.value)) {
            Some(list @ Value::Array(_)) => edit::items(list),
            _ => Vec::new(),
        }
    }

    fn refusal(&self, refused: Refused) -> Problem {
        let key = self.key.path;
        let wrong = |what: String| Problem::new("ORL0403", Exit::Usage, what);
        match refused {
            Refused::Syntax(said) => {
                let read = parse(&self.path, self.text.clone());
                let problem = read.problems.into_iter().next();
                problem.unwrap_or_else(|| Problem::new("ORL0401", Exit::Usage, said))
            }
            Refused::NoSection => {
                let section = key.split_once('.').map_or(key, |(section, _)| section);
                wrong(format!(
                    "`{section}` is no section in {}",
                    self.path.display()
                ))
                .why("a section has a line of its own: [section]")
                .fix_there()
            }
            Refused::NoList => wrong(format!("{key} is no list"))
                .why("only to a list something can be added, and only of one it can be taken")
                .fix(format!("oriel config set {key}=VALUE")),
            Refused::Tables => wrong(format!("nothing can be taken out of {key}"))
                .why("its items are tables, which have no name")
                .fix(format!("take it out by hand:  {}", self.path.display())),
            Refused::Unlisted(item) => wrong(format!("{item} is not in {key}"))
                .exit(Exit::Unknown)
                .why("so it cannot be taken out, and nothing was changed")
                .fix(format!("oriel config get {key}      shows the list")),
        }
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
