//! Reads a config file: every mistake in it with its place and, where it can be told, what was
//! meant.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::file::ConfigFile;
use crate::config::keys::KEYS;
use crate::exit::Exit;
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

/// Reads a file; `None` if there is none.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<ReadFile>, Vec<Problem>> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // A home or working folder that cannot be entered holds no config for us.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(vec![unreadable(path, &error)]),
    }
}

/// Reads a file that was named and so must be there.
pub(crate) fn read_named(path: &Path) -> Result<ReadFile, Vec<Problem>> {
    let text = std::fs::read_to_string(path).map_err(|error| vec![unreadable(path, &error)])?;
    parse(path, text)
}

/// Parses the text of a file.
pub(crate) fn parse(path: &Path, text: String) -> Result<ReadFile, Vec<Problem>> {
    let place = path.display().to_string();
    let table = DeTable::parse(&text).map_err(|error| vec![syntax(&place, &text, &error)])?;
    let unknown = unknown_keys(&place, &text, table.get_ref());
    let spans = key_spans(table.get_ref());
    let values = ConfigFile::deserialize_from(&text);
    match values {
        Ok(values) if unknown.is_empty() => Ok(ReadFile {
            path: path.to_owned(),
            text,
            values,
            spans,
        }),
        Ok(_) => Err(unknown),
        // The unknown keys are told with their hints already.
        Err(_) if !unknown.is_empty() => Err(unknown),
        Err(error) => Err(vec![wrong_value(&place, &text, &error)]),
    }
}

impl ConfigFile {
    fn deserialize_from(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
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

fn unknown_section(
    place: &str,
    text: &str,
    section: &Spanned<std::borrow::Cow<'_, str>>,
) -> Problem {
    let name = section.get_ref();
    let sections = KEYS.iter().filter_map(|key| key.path.split_once('.'));
    let sections: Vec<&str> = sections.map(|(section, _)| section).collect();
    let meant = nearest(name, sections.iter().copied());
    let owner = KEYS
        .iter()
        .find(|key| key.path.ends_with(&format!(".{name}")));
    let hint = match (meant, owner) {
        (Some(meant), _) => Some(format!("did you mean `{meant}`?")),
        (None, Some(key)) => Some(format!("did you mean `{}`?", key.path)),
        (None, None) => None,
    };
    Problem::new("ORL0402", Exit::Usage, format!("unknown key `{name}`"))
        .excerpt(Excerpt::of(place, text, section.span()).hint(hint))
        .fix("oriel config schema      lists every key")
}

fn unknown_key(
    place: &str,
    text: &str,
    section: &str,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    known: &[&'static str],
) -> Problem {
    let name = key.get_ref();
    let elsewhere = KEYS
        .iter()
        .find(|key| key.path.ends_with(&format!(".{name}")));
    let hint = match (nearest(name, known.iter().copied()), elsewhere) {
        (Some(meant), _) => Some(format!("did you mean `{meant}`?")),
        (None, Some(key)) => Some(format!("did you mean `{}`?", key.path)),
        (None, None) => None,
    };
    Problem::new(
        "ORL0402",
        Exit::Usage,
        format!("unknown key `{name}` in [{section}]"),
    )
    .excerpt(Excerpt::of(place, text, key.span()).hint(hint))
    .why(format!("[{section}] has {}", known.join(", ")))
    .fix("oriel config schema      lists every key")
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
}

fn wrong_value(place: &str, text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or(0..0);
    Problem::new(
        "ORL0403",
        Exit::Usage,
        format!("wrong value: {}", first_line(error)),
    )
    .excerpt(Excerpt::of(place, text, span))
}

fn first_line(error: &toml::de::Error) -> String {
    error
        .message()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Problem {
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
        match parse(Path::new("config.toml"), text.to_owned()) {
            Ok(file) => format!("{:?}", file.spans.keys().collect::<Vec<_>>()),
            Err(problems) => problems
                .iter()
                .map(|problem| problem.render(Pen::plain()))
                .collect(),
        }
    }

    #[test]
    fn reads_values_and_their_places() {
        let text = "[proxy]\nlisten = \"127.0.0.1:1\"\n[capture]\nbody_bytes_kept = \"1MiB\"\n";
        let file = parse(Path::new("config.toml"), text.to_owned()).unwrap();
        assert_eq!(file.values.capture.body_bytes_kept.unwrap().0, 1 << 20);
        assert_eq!(file.spans["proxy.listen"], 8..14);
    }

    #[test]
    fn an_unknown_key_is_named_with_what_was_meant() {
        insta::assert_snapshot!(check("[capture]\nredct = \"basic\"\n"));
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
    }

    #[test]
    fn broken_toml_is_marked() {
        insta::assert_snapshot!(check("[proxy\nlisten = 1\n"));
        insta::assert_snapshot!(check("[log]\nlevel = \"a\"\nlevel = \"b\"\n"));
    }
}
