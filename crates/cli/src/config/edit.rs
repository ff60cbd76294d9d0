//! Changes one setting in the text of a config file. All else in it stays as it is, comments and order
//! included.

use std::ops::Range;
use std::str::FromStr;

use toml_edit::{Array, Decor, Document, DocumentMut, Item, RawString, Table, TableLike, Value};

use crate::config::keys::{Form, Key};
use crate::config::layer::value_of;

/// What a value is to a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It takes the place of the one before.
    Set,
    /// The list has it too; of a list, each of its items.
    Add,
    /// The list does not have it any more; of a list, none of its items.
    Remove,
}

/// Why a text cannot be changed so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not TOML.
    Syntax(String),
    /// What should be a section of the file is none.
    NoSection,
    /// What should be a list is none.
    NoList,
    /// The items of the list are tables, which have no name to be taken out by.
    Tables,
    /// This is not in the list, so it cannot be taken out.
    Unlisted(String),
}

/// Reads a value as a person types it: for most settings as a variable has it, for those that are tables
/// as TOML. The error says what it must be.
pub(crate) fn read_value(key: &Key, text: &str) -> Result<Value, String> {
    let is_list = matches!(key.form, Form::Texts | Form::Numbers);
    if key.variables.is_empty() || (is_list && text.trim_start().starts_with('[')) {
        return Value::from_str(text.trim()).map_err(|error| {
            let said = error.message().lines().next().unwrap_or_default();
            format!("it must be TOML, for example [{{ hosts = [\"a.test\"] }}]: {said}")
        });
    }
    let value = value_of(key.form, text).ok_or_else(|| key.form.describe().to_owned())?;
    edited(&value).ok_or_else(|| key.form.describe().to_owned())
}

/// The value as this module handles it; `None` for what no setting is.
pub(crate) fn edited(value: &toml::Value) -> Option<Value> {
    Value::from_str(&value.to_string()).ok()
}

/// The items of a list; of anything else, that.
pub(crate) fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list.into_iter().collect(),
        single => vec![single],
    }
}

/// The text with the setting `section.key` changed; `None` if it is so already. `list` is what a list
/// has as long as the file does not say.
pub(crate) fn change(
    text: &str,
    path: &str,
    change: Change,
    value: Value,
    list: Vec<Value>,
) -> Result<Option<String>, Refused> {
    let (section, key) = parts(path);
    let mut document: DocumentMut = text.parse().map_err(not_toml)?;
    if !document.contains_key(section) {
        let new = new_section(&document);
        document.insert(section, new);
        document.set_trailing("");
    }
    let table = document
        .get_mut(section)
        .and_then(Item::as_table_like_mut)
        .ok_or(Refused::NoSection)?;
    let is_changed = match change {
        Change::Set => put(table, key, value),
        Change::Add => add(table, key, items(value), list)?,
        Change::Remove => remove(table, key, &items(value), list)?,
    };
    Ok(is_changed.then(|| document.to_string()))
}

/// The text without the setting `section.key`; `None` if it does not set it. Where that has lines of its own
/// these go and nothing else: comments above them stay.
pub(crate) fn unset(text: &str, path: &str) -> Result<Option<String>, Refused> {
    let (section, key) = parts(path);
    let mut document: DocumentMut = text.parse().map_err(not_toml)?;
    let Some(table) = document.get_mut(section) else {
        return Ok(None);
    };
    let table = table.as_table_like_mut().ok_or(Refused::NoSection)?;
    if !table.contains_key(key) {
        return Ok(None);
    }
    if let Some(left) = without_lines(text, section, key) {
        return Ok(Some(left));
    }
    table.remove(key);
    Ok(Some(document.to_string()))
}

fn parts(path: &str) -> (&str, &str) {
    path.split_once('.').unwrap_or((path, ""))
}

/// A section behind all that the document has, comments at its end included.
fn new_section(document: &DocumentMut) -> Item {
    let mut before = document.trailing().as_str().unwrap_or_default().to_owned();
    if !before.is_empty() && !before.ends_with('\n') {
        before.push('\n');
    }
    if !before.is_empty() || !document.is_empty() {
        before.push('\n');
    }
    let mut table = Table::new();
    table.decor_mut().set_prefix(before);
    Item::Table(table)
}

fn not_toml(error: toml_edit::TomlError) -> Refused {
    Refused::Syntax(error.message().to_owned())
}

/// Sets a value in the place of the one before, with the comment behind it; answers whether it is another.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) -> bool {
    match table.get_mut(key) {
        Some(Item::Value(before)) if is_same(before, &value) => return false,
        Some(Item::Value(before)) => {
            *value.decor_mut() = before.decor().clone();
            *before = value;
        }
        _ => {
            table.insert(key, Item::Value(value));
        }
    }
    true
}

fn add(
    table: &mut dyn TableLike,
    key: &str,
    added: Vec<Value>,
    list: Vec<Value>,
) -> Result<bool, Refused> {
    match table.get_mut(key) {
        None => {
            let missing = missing(&list, added);
            let is_changed = !missing.is_empty();
            if is_changed {
                put(table, key, new_list(list.into_iter().chain(missing)));
            }
            Ok(is_changed)
        }
        Some(Item::Value(Value::Array(array))) => {
            let there: Vec<Value> = array.iter().cloned().collect();
            let missing = missing(&there, added);
            let is_changed = !missing.is_empty();
            for value in missing {
                push(array, value);
            }
            Ok(is_changed)
        }
        Some(Item::ArrayOfTables(tables)) => {
            for value in added {
                let Value::InlineTable(entry) = value else {
                    return Err(Refused::NoList);
                };
                tables.push(entry.into_table());
            }
            Ok(true)
        }
        Some(_) => Err(Refused::NoList),
    }
}

/// A list on one line.
fn new_list(values: impl Iterator<Item = Value>) -> Value {
    let mut list = Array::new();
    for mut value in values {
        value.decor_mut().clear();
        list.push(value);
    }
    Value::Array(list)
}

/// Those that are not there yet, each once.
fn missing(there: &[Value], added: Vec<Value>) -> Vec<Value> {
    let mut missing: Vec<Value> = Vec::new();
    for value in added {
        if !there
            .iter()
            .chain(&missing)
            .any(|known| is_same(known, &value))
        {
            missing.push(value);
        }
    }
    missing
}

/// Adds an item, on a line of its own if the one before has one. A comment behind that one stays there.
fn push(array: &mut Array, mut value: Value) {
    let like = array.iter().last().map(Value::decor);
    let indent = like.and_then(line_start).map(str::to_owned);
    *value.decor_mut() = Decor::default();
    let Some(indent) = indent else {
        array.push(value);
        return;
    };
    let mut behind = String::new();
    if let Some(last) = array.iter_mut().last() {
        let suffix = last.decor().suffix().and_then(RawString::as_str);
        behind.push_str(suffix.unwrap_or_default());
        last.decor_mut().set_suffix("");
    }
    behind.push_str(array.trailing().as_str().unwrap_or_default());
    let behind = behind.trim_end();
    value.decor_mut().set_prefix(format!("{behind}{indent}"));
    array.push_formatted(value);
    array.set_trailing("\n");
    array.set_trailing_comma(true);
}

/// The end of a line and what the next begins with, if that is what stands before a value.
fn line_start(decor: &Decor) -> Option<&str> {
    let prefix = decor.prefix()?.as_str()?;
    prefix.get(prefix.rfind('\n')?..)
}

fn remove(
    table: &mut dyn TableLike,
    key: &str,
    removed: &[Value],
    list: Vec<Value>,
) -> Result<bool, Refused> {
    let is_removed = |value: &Value| removed.iter().any(|gone| is_same(gone, value));
    let there: Vec<Value> = match table.get(key) {
        None => list.clone(),
        Some(Item::Value(Value::Array(array))) => array.iter().cloned().collect(),
        Some(Item::ArrayOfTables(_)) => return Err(Refused::Tables),
        Some(_) => return Err(Refused::NoList),
    };
    if there.iter().any(Value::is_inline_table) {
        return Err(Refused::Tables);
    }
    if let Some(stranger) = removed
        .iter()
        .find(|gone| !there.iter().any(|value| is_same(gone, value)))
    {
        return Err(Refused::Unlisted(stranger.to_string().trim().to_owned()));
    }
    match table.get_mut(key) {
        Some(Item::Value(Value::Array(array))) => array.retain(|value| !is_removed(value)),
        _ => {
            let left = list.into_iter().filter(|value| !is_removed(value));
            put(table, key, new_list(left));
        }
    }
    Ok(!removed.is_empty())
}

/// The text without the lines of this setting, if they are lines of `key = value` and hold nothing else.
fn without_lines(text: &str, section: &str, key: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let table = document.get(section)?.as_table()?;
    let (name, item) = table.get_key_value(key)?;
    let Range { start, .. } = name.span()?;
    let Range { end, .. } = item.as_value()?.span()?;
    let before = text.get(..start)?;
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    let behind = text.get(end..)?;
    let (rest, after) = behind.split_once('\n').unwrap_or((behind, ""));
    let rest = rest.trim();
    let is_alone =
        before.get(line..)?.trim().is_empty() && (rest.is_empty() || rest.starts_with('#'));
    is_alone.then(|| format!("{}{after}", text.get(..line).unwrap_or_default()))
}

/// Whether two values mean the same, however they are written.
fn is_same(one: &Value, other: &Value) -> bool {
    let plain = |value: &Value| value.to_string().parse::<toml::Value>().ok();
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => one == other,
        _ => plain(one).is_some_and(|one| Some(one) == plain(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    fn value(path: &str, text: &str) -> Value {
        read_value(keys::find(path).unwrap(), text).unwrap()
    }

    fn check(before: &str, path: &str, (wanted, value): (Change, Value), after: &str) {
        let list = vec![self::value("log.level", "known.test")];
        let got = change(before, path, wanted, value, list).unwrap();
        assert_eq!(
            got.as_deref().unwrap_or(before),
            after,
            "{path} in {before:?}"
        );
    }

    fn listed(texts: &str) -> Value {
        value("intercept.bypass", texts)
    }

    #[test]
    fn a_value_is_set_where_it_stands() {
        let set = |path: &str, text: &str| (Change::Set, value(path, text));
        check(
            "",
            "log.level",
            set("log.level", "debug"),
            "[log]\nlevel = \"debug\"\n",
        );
        check(
            "# mine\n[log] # here\n# why\nlevel = \"info\"   # so\nformat = \"json\"\n",
            "log.level",
            set("log.level", "debug"),
            "# mine\n[log] # here\n# why\nlevel = \"debug\"   # so\nformat = \"json\"\n",
        );
        check(
            "[proxy]\nlisten = \":1\"",
            "capture.bodies",
            set("capture.bodies", "off"),
            "[proxy]\nlisten = \":1\"\n\n[capture]\nbodies = false\n",
        );
        check(
            "log = { level = 'info' }\n",
            "log.level",
            set("log.level", "warn"),
            "log = { level = \"warn\" }\n",
        );
        check(
            "log.level = 'info'\n",
            "log.level",
            set("log.level", "warn"),
            "log.level = \"warn\"\n",
        );
        check(
            "[log]\nlevel = 'info'\n",
            "log.level",
            set("log.level", "info"),
            "[log]\nlevel = 'info'\n",
        );
    }

    #[test]
    fn a_list_grows_and_shrinks_as_it_is_written() {
        let add = |texts: &str| (Change::Add, listed(texts));
        let remove = |texts: &str| (Change::Remove, listed(texts));
        let path = "intercept.bypass";
        check(
            "",
            path,
            add("a.test,b.test"),
            "[intercept]\nbypass = [\"known.test\", \"a.test\", \"b.test\"]\n",
        );
        check("", path, remove("known.test"), "[intercept]\nbypass = []\n");
        check(
            "[intercept]\nbypass = ['a.test']\n",
            path,
            add("a.test,b.test"),
            "[intercept]\nbypass = ['a.test', \"b.test\"]\n",
        );
        check(
            "[intercept]\nbypass = [\n  'a.test', # one\n]\n",
            path,
            add("b.test"),
            "[intercept]\nbypass = [\n  'a.test', # one\n  \"b.test\",\n]\n",
        );
        check(
            "[intercept]\nbypass = [\n  'a.test',\n  'b.test'\n]\n",
            path,
            add("c.test"),
            "[intercept]\nbypass = [\n  'a.test',\n  'b.test',\n  \"c.test\",\n]\n",
        );
        check(
            "[intercept]\nbypass = [\n  'a.test' # one\n]\n",
            path,
            add("b.test"),
            "[intercept]\nbypass = [\n  'a.test', # one\n  \"b.test\",\n]\n",
        );
        check(
            "[intercept]\nbypass = ['a.test', 'b.test']\n",
            path,
            remove("a.test"),
            "[intercept]\nbypass = [ 'b.test']\n",
        );
        let refuse = |text: &str, (wanted, value): (Change, Value), refused: Refused| {
            let got = change(text, path, wanted, value, Vec::new());
            assert_eq!(got, Err(refused), "{text:?}");
        };
        let unlisted = Refused::Unlisted("\"a.test\"".to_owned());
        refuse("[intercept]\nbypass = []\n", remove("a.test"), unlisted);
        refuse("[intercept]\nbypass = 3\n", add("a.test"), Refused::NoList);
        refuse("intercept = 3\n", add("a.test"), Refused::NoSection);
    }

    #[test]
    fn a_table_is_added_in_the_form_that_the_file_has() {
        let key = "capture.body_limits";
        let limit = value(key, "{ hosts = [\"a.test\"], keep = \"1KiB\" }");
        check(
            "[[capture.body_limits]]\nkeep = \"2KiB\"\n",
            key,
            (Change::Add, limit),
            "[[capture.body_limits]]\nkeep = \"2KiB\"\n\n[[capture.body_limits]]\nhosts = [\"a.test\"]\nkeep = \"1KiB\"\n",
        );
        assert!(read_value(keys::find(key).unwrap(), "a.test").is_err());
        assert!(read_value(keys::find("capture.bodies").unwrap(), "perhaps").is_err());
    }

    #[test]
    fn what_is_unset_takes_no_comment_along() {
        let check = |before: &str, path: &str, after: &str| {
            let got = unset(before, path).unwrap();
            assert_eq!(
                got.as_deref().unwrap_or(before),
                after,
                "{path} in {before:?}"
            );
        };
        check(
            "[log]\n# why\nlevel = 'info' # so\nformat = 'json'\n",
            "log.level",
            "[log]\n# why\nformat = 'json'\n",
        );
        check(
            "[intercept]\nbypass = [\n  'a.test',\n]\n[log]\n",
            "intercept.bypass",
            "[intercept]\n[log]\n",
        );
        check(
            "log = { level = 'info', format = 'json' }\n",
            "log.level",
            "log = { format = 'json' }\n",
        );
        check("[log]\n", "log.level", "[log]\n");
        check("", "log.level", "");
    }
}
