//! Reads a config file: every mistake in it with its place and, where it can be told, what was
//! meant.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::config::file::ConfigFile;
use crate::config::keys::{KEYS, Key};
use crate::exit::Exit;
use crate::limits::WRONG_VALUES_MAX;
use crate::problem::{Excerpt, Problem};
use traffic::spelling::nearest;

/// A config file that was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) values: ConfigFile,
    /// Where in the text each `section.key` is set.
    pub(crate) spans: BTreeMap<String, Range<usize>>,
}

/// What could be read of a file, and every mistake in it.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Without what is wrong; `None` if nothing could be read.
    pub(crate) file: Option<ReadFile>,
    pub(crate) problems: Vec<Problem>,
}

impl Reading {
    fn failed(problem: Problem) -> Self {
        Self {
            file: None,
            problems: vec![problem],
        }
    }
}

/// Reads a file; `None` if there is none.
pub(crate) fn read_if_there(path: &Path) -> Option<Reading> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(parse(path, text)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        // A home or working folder that cannot be entered holds no config for us.
        Err(error) if error.kind() == ErrorKind::NotADirectory => None,
        Err(error) => Some(Reading::failed(unreadable(path, &error))),
    }
}

/// Reads a file that was named and so must be there.
pub(crate) fn read_named(path: &Path) -> Reading {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, text),
        Err(error) => Reading::failed(unreadable(path, &error)),
    }
}

/// Parses the text of a file.
pub(crate) fn parse(path: &Path, text: String) -> Reading {
    let place = path.display().to_string();
    let mut table = match DeTable::parse(&text) {
        Ok(table) => table,
        Err(error) => return Reading::failed(syntax(&place, &text, &error)),
    };
    let mut problems = unknown_keys(&place, &text, table.get_ref());
    // They are told with their hints already.
    forget_unknown_keys(table.get_mut());
    // What is wrong is taken out, and the rest read again, until nothing is.
    let wrong_max = problems.len() + WRONG_VALUES_MAX;
    let values = loop {
        match ConfigFile::deserialize(Deserializer::from(table.clone())) {
            Ok(values) => break Some(values),
            Err(error) => {
                let at = error.span().map(|span| span.start);
                problems.push(wrong_value(&place, &text, table.get_ref(), &error));
                if problems.len() >= wrong_max
                    || !at.is_some_and(|at| take_out(table.get_mut(), at))
                {
                    break None;
                }
            }
        }
    };
    let spans = key_spans(table.get_ref());
    Reading {
        file: values.map(|values| ReadFile {
            path: path.to_owned(),
            text,
            values,
            spans,
        }),
        problems,
    }
}

/// A table that was read, with the place of each key and value.
type Table<'a> = DeTable<'a>;

fn unknown_keys(place: &str, text: &str, table: &Table<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (section, value) in table {
        let keys = known_keys(section.get_ref());
        if keys.is_empty() {
            problems.push(unknown_section(place, text, section));
            continue;
        }
        let DeValue::Table(inner) = value.get_ref() else {
            continue;
        };
        for key in inner.keys() {
            if !keys.contains(&key.get_ref().as_ref()) {
                problems.push(unknown_key(place, text, section.get_ref(), key, &keys));
            }
        }
    }
    problems
}

/// The keys of a section; none if there is no such section.
fn known_keys(section: &str) -> Vec<&'static str> {
    KEYS.iter()
        .filter_map(|key| key.path.split_once('.'))
        .filter(|(known, _)| *known == section)
        .map(|(_, key)| key)
        .collect()
}

fn unknown_section(place: &str, text: &str, section: &Spanned<Cow<'_, str>>) -> Problem {
    let name = section.get_ref();
    let sections = KEYS.iter().filter_map(|key| key.path.split_once('.'));
    let mut sections: Vec<&str> = sections.map(|(section, _)| section).collect();
    sections.dedup();
    let meant = nearest(name, sections.iter().copied()).or_else(|| in_any_section(name));
    Problem::new("ORL0402", Exit::Usage, format!("unknown key `{name}`"))
        .excerpt(Excerpt::of(place, text, section.span()).hint(meant.map(question)))
        .why(format!("the sections are {}", sections.join(", ")))
        .fix("oriel config schema      lists every key")
}

fn unknown_key(
    place: &str,
    text: &str,
    section: &str,
    key: &Spanned<Cow<'_, str>>,
    known: &[&'static str],
) -> Problem {
    let name = key.get_ref();
    let meant = nearest(name, known.iter().copied()).or_else(|| in_any_section(name));
    Problem::new(
        "ORL0402",
        Exit::Usage,
        format!("unknown key `{name}` in [{section}]"),
    )
    .excerpt(Excerpt::of(place, text, key.span()).hint(meant.map(question)))
    .why(format!("[{section}] has {}", known.join(", ")))
    .fix("oriel config schema      lists every key")
}

/// The setting, or the section, that is called so or almost so.
fn in_any_section(name: &str) -> Option<&'static str> {
    let words = KEYS.iter().filter_map(|key| key.path.split_once('.'));
    let meant = nearest(name, words.flat_map(|(section, key)| [section, key]))?;
    let is_it = |key: &&Key| {
        key.path
            .split_once('.')
            .is_some_and(|(_, key)| key == meant)
    };
    Some(KEYS.iter().find(is_it).map_or(meant, |key| key.path))
}

fn question(meant: &str) -> String {
    format!("did you mean `{meant}`?")
}

fn forget_unknown_keys(table: &mut Table<'_>) {
    retain(table, |section, value| {
        let keys = known_keys(section.get_ref());
        if let DeValue::Table(inner) = value.get_mut() {
            retain(inner, |key, _| keys.contains(&key.get_ref().as_ref()));
        }
        !keys.is_empty()
    });
}

/// Keeps the entries of a table that are to stay.
fn retain<'a>(
    table: &mut Table<'a>,
    mut stays: impl FnMut(&Spanned<Cow<'a, str>>, &mut Spanned<DeValue<'a>>) -> bool,
) {
    for (key, mut value) in std::mem::take(table) {
        if stays(&key, &mut value) {
            table.insert(key, value);
        }
    }
}

/// Takes out what has a mistake at this place: an entry of a list, else the value of a key, else a
/// section. False if there is nothing.
fn take_out(table: &mut Table<'_>, at: usize) -> bool {
    let mut is_taken = false;
    retain(table, |section, value| {
        if is_taken {
            return true;
        }
        let is_here = section.span().contains(&at) || value.span().contains(&at);
        if let DeValue::Table(inner) = value.get_mut() {
            is_taken = take_out_of_section(inner, at);
            if is_taken {
                return true;
            }
        }
        is_taken = is_here;
        !is_here
    });
    is_taken
}

fn take_out_of_section(section: &mut Table<'_>, at: usize) -> bool {
    let mut is_taken = false;
    retain(section, |key, value| {
        if is_taken {
            return true;
        }
        let is_here = key.span().contains(&at) || is_at(value, at);
        if let DeValue::Array(list) = value.get_mut() {
            let count = list.len();
            let whole = list.clone().into_iter();
            *list = whole.filter(|entry| !is_at(entry, at)).collect();
            is_taken = list.len() < count;
            if is_taken {
                return true;
            }
        }
        is_taken = is_here;
        !is_taken
    });
    is_taken
}

/// Whether a value holds this place: what is written below a header of its own lies outside its span.
fn is_at(value: &Spanned<DeValue<'_>>, at: usize) -> bool {
    value.span().contains(&at)
        || match value.get_ref() {
            DeValue::Table(table) => table
                .iter()
                .any(|(key, value)| key.span().contains(&at) || is_at(value, at)),
            DeValue::Array(list) => list.iter().any(|entry| is_at(entry, at)),
            _ => false,
        }
}

fn key_spans(table: &Table<'_>) -> BTreeMap<String, Range<usize>> {
    let mut spans = BTreeMap::new();
    for (section, value) in table {
        if let DeValue::Table(inner) = value.get_ref() {
            for key in inner.keys() {
                let path = format!("{}.{}", section.get_ref(), key.get_ref());
                spans.insert(path, key.span());
            }
        }
    }
    spans
}

fn syntax(place: &str, text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    Problem::new(
        "ORL0401",
        Exit::Usage,
        format!("this is not TOML: {}", first_line(error)),
    )
    .excerpt(Excerpt::of(place, text, span))
    .why("reading stops at the mark, so nothing in this file can be used")
    .fix("write it so:  [section]  key = \"text\"  key = 5  key = true  key = [\"a\", \"b\"]")
}

fn wrong_value(place: &str, text: &str, table: &Table<'_>, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    let message = first_line(error);
    let why = match key_at(table, span.start) {
        Some(key) => format!("`{}`: {}", key.path, key.about),
        None => "here stands a section, with its keys in the lines below:  [section]".to_owned(),
    };
    Problem::new(
        "ORL0403",
        Exit::Usage,
        format!("wrong value: {}", in_words(&message)),
    )
    .excerpt(Excerpt::of(place, text, span).hint(meant(&message)))
    .why(why)
    .fix("oriel config schema      says what each key takes")
}

/// The setting whose key or value is at this place.
fn key_at(table: &Table<'_>, at: usize) -> Option<&'static Key> {
    table.iter().find_map(|(section, value)| {
        let DeValue::Table(inner) = value.get_ref() else {
            return None;
        };
        let is_here = |(key, value): &(&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            key.span().contains(&at) || is_at(value, at)
        };
        let (key, _) = inner.iter().find(is_here)?;
        let is_it = |known: &&Key| {
            known.path.split_once('.') == Some((section.get_ref().as_ref(), key.get_ref().as_ref()))
        };
        KEYS.iter().find(is_it)
    })
}

/// What was expected, in words of the file's language in place of Rust's.
fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let words = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0 on",
        "i64" => "a whole number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list: [..]",
        _ if expected.starts_with("struct ") => "a table of keys and values",
        _ => return message.to_owned(),
    };
    format!("{found}, expected {words}")
}

/// The one of the words that were expected that is most like the one that was found.
fn meant(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    let found = words.next().filter(|_| message.starts_with("unknown "))?;
    nearest(found, words).map(question)
}

fn first_line(error: &toml::de::Error) -> String {
    error
        .message()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
    let what = format!("cannot read the config file {}", path.display());
    let shown = path.display();
    let fix = match error.kind() {
        ErrorKind::NotFound => {
            "name a file that is there (--config FILE, ORIEL_CONFIG), or none".to_owned()
        }
        ErrorKind::PermissionDenied => format!("chmod u+r {shown}      if it is yours"),
        ErrorKind::IsADirectory => format!("name a file in it:  ls {shown}"),
        ErrorKind::InvalidData => "write it in UTF-8, as TOML is".to_owned(),
        _ => format!("look at what is there:  ls -l {shown}"),
    };
    Problem::new("ORL0400", Exit::Usage, what)
        .why(error.to_string())
        .fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Pen;

    fn check(text: &str) -> String {
        let problems = parse(Path::new("config.toml"), text.to_owned()).problems;
        let shown = problems.iter().map(|problem| problem.render(Pen::plain()));
        shown.collect()
    }

    #[test]
    fn reads_values_and_their_places() {
        let text = "[proxy]\nlisten = \"127.0.0.1:1\"\n[capture]\nbody_bytes_kept = \"1MiB\"\n";
        let file = parse(Path::new("config.toml"), text.to_owned());
        let file = file.file.unwrap();
        assert_eq!(file.values.capture.body_bytes_kept.unwrap().0, 1 << 20);
        assert_eq!(file.spans["proxy.listen"], 8..14);
    }

    #[test]
    fn an_unknown_key_is_named_with_what_was_meant() {
        insta::assert_snapshot!(check("[capture]\nredct = \"basic\"\n"));
        insta::assert_snapshot!(check("[log]\nretenion = \"7d\"\n"));
        insta::assert_snapshot!(check("listen = \"127.0.0.1:1\"\n"));
        insta::assert_snapshot!(check(
            "[proxi]\nlisten = \"127.0.0.1:1\"\n[log]\nbody_bytes_kept = 1\n"
        ));
    }

    #[test]
    fn a_wrong_value_is_marked() {
        insta::assert_snapshot!(check("[proxy]\nlisten = \"nowhere\"\n"));
        insta::assert_snapshot!(check("[intercept]\nunlisted = \"drop\"\n"));
        insta::assert_snapshot!(check("[proxy]\nconnect_ports = [70000]\n"));
        insta::assert_snapshot!(check("proxy = 1\n"));
        insta::assert_snapshot!(check("[proxy]\nattribution = 1\ntls = 1\n"));
    }

    #[test]
    fn every_wrong_value_is_found_and_the_rest_is_read() {
        let text = "[proxy]\nlisten = 1\nattribution = \"x\"\ncredentials = \"a:b\"\n\
            connect_ports = [70000, 443, 80000]\n[proxy.tls]\nkey = 1\n\
            [[gateway.routes]]\nhosts = 1\n[[gateway.routes]]\nhosts = [\"a\"]\nto = 2\n\
            [log]\nlevl = \"debug\"\nformat = \"jsn\"\n[intercept]\nunlisted = \"tunnl\"\n";
        let reading = parse(Path::new("config.toml"), text.to_owned());
        let mut lines: Vec<_> = reading
            .problems
            .iter()
            .map(|problem| {
                let excerpt = problem.excerpt.clone().unwrap();
                (excerpt.line_number, excerpt.hint.unwrap_or_default())
            })
            .collect();
        lines.sort();
        let lines: Vec<_> = lines
            .iter()
            .map(|(line, hint)| (*line, hint.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                (2, ""),
                (3, ""),
                (5, ""),
                (5, ""),
                (7, ""),
                (9, ""),
                (12, ""),
                (14, "did you mean `level`?"),
                (15, "did you mean `json`?"),
                (17, "did you mean `tunnel`?"),
            ]
        );
        let file = reading.file.unwrap();
        assert_eq!(file.values.proxy.connect_ports.unwrap(), [443]);
        assert!(file.values.proxy.credentials.is_some());
    }

    #[test]
    fn mistakes_without_end_are_not_all_told() {
        let wrong = "70000, ".repeat(WRONG_VALUES_MAX * 100);
        let text = format!("[proxy]\nconnect_ports = [{wrong}]\n");
        let reading = parse(Path::new("config.toml"), text);
        assert_eq!(reading.problems.len(), WRONG_VALUES_MAX);
        assert!(reading.file.is_none());
    }

    #[test]
    fn broken_toml_is_marked() {
        insta::assert_snapshot!(check("[proxy\nlisten = 1\n"));
        insta::assert_snapshot!(check("[log]\nlevel = \"a\"\nlevel = \"b\"\n"));
    }
}
