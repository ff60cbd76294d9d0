//! `--fields`: some fields of the JSON objects of a list, of flows or of something else.

use serde_json::{Map, Value};
use store::json::FlowItem;
use traffic::spelling::nearest;

use crate::args::ListForm;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print, print_json, to_json, to_value};
use crate::problem::Problem;

/// Asks for the list of fields.
const HELP: &str = "help";

/// The fields that the objects of a list have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// Each with what it holds.
    pub(crate) names: &'static [(&'static str, &'static str)],
    /// The command that prints such a list.
    pub(crate) command: &'static str,
}

/// Those of flows.
const FLOWS: Known = Known {
    names: &FlowItem::FIELDS,
    command: "oriel flows list",
};

/// The fields that are wanted; none of them stands for all.
#[derive(Clone, Debug)]
pub(crate) struct Fields(Vec<String>);

impl Fields {
    /// Those that were asked for. Unknown ones are a mistake.
    /// `others` are there besides those of a flow.
    pub(crate) fn chosen(form: &ListForm, others: &[&str]) -> Result<Self, Problem> {
        Self::chosen_of(form, &FLOWS, others)
    }

    /// The same for a list of something else.
    pub(crate) fn chosen_of(
        form: &ListForm,
        known: &Known,
        others: &[&str],
    ) -> Result<Self, Problem> {
        let fields = Self(form.fields.clone());
        if !fields.wants_help() {
            let is_another = |field: &&String| !others.contains(&field.as_str());
            for field in fields.0.iter().filter(is_another) {
                check(known, field)?;
            }
        }
        Ok(fields)
    }

    pub(crate) fn are_chosen(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn wants_help(&self) -> bool {
        wants_help(&self.0)
    }

    /// One line of JSON with what is wanted of an object.
    pub(crate) fn json(&self, item: &impl serde::Serialize) -> Result<String, Problem> {
        match self.are_chosen() {
            true => to_json(&self.value(item)?),
            false => to_json(item),
        }
    }

    /// What is wanted of an object.
    pub(crate) fn value(&self, item: &impl serde::Serialize) -> Result<Value, Problem> {
        let whole = to_value(item)?;
        if !self.are_chosen() {
            return Ok(whole);
        }
        let mut picked = Map::new();
        for field in &self.0 {
            pick(&whole, field, &mut picked);
        }
        Ok(Value::Object(picked))
    }

    /// Prints one line of JSON for each object.
    pub(crate) fn print_lines<T: serde::Serialize>(
        &self,
        items: impl IntoIterator<Item = T>,
    ) -> Result<(), Problem> {
        let mut text = String::new();
        for item in items {
            text.push_str(&self.json(&item)?);
            text.push('\n');
        }
        print(&text)
    }
}

/// Prints which fields there are.
pub(crate) fn print_help(context: &Context) -> Result<Exit, Problem> {
    print_help_of(context, &FLOWS)
}

/// The same for a list of something else.
pub(crate) fn print_help_of(context: &Context, known: &Known) -> Result<Exit, Problem> {
    if context.json() {
        let names = known.names.iter().map(|(name, _)| *name);
        print_json(&names.collect::<Vec<_>>())?;
        return Ok(Exit::Success);
    }
    print_names(known.names)
}

/// Prints names, each with what it stands for.
pub(crate) fn print_names(names: &[(&str, &str)]) -> Result<Exit, Problem> {
    let width = names.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = names
        .iter()
        .map(|(name, what)| format!("{name:width$}  {what}\n"));
    print(&lines.collect::<String>())?;
    Ok(Exit::Success)
}

/// Whether it is the list of names that is asked for.
pub(crate) fn wants_help(names: &[String]) -> bool {
    names == [HELP]
}

/// A name that is none of those that are known.
pub(crate) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Problem {
    let problem = Problem::new(
        "ORL0001",
        Exit::Usage,
        format!("there is no {what} {name:?}"),
    );
    match nearest(name, known) {
        Some(meant) => problem.why(format!("did you mean {meant}?")),
        None => problem,
    }
}

/// A field of a whole object, which may lie in another.
pub(crate) fn find<'v>(whole: &'v Value, field: &str) -> Option<&'v Value> {
    let mut parts = field.split('.');
    parts.try_fold(whole, |value, part| value.get(part))
}

fn check(known: &Known, field: &str) -> Result<(), Problem> {
    let command = known.command;
    let known = || known.names.iter().map(|(name, _)| *name);
    let is_group = |name: &str| {
        let below = name.strip_prefix(field);
        below.is_some_and(|below| below.starts_with('.'))
    };
    if known().any(|name| name == field || is_group(name)) {
        return Ok(());
    }
    Err(unknown("field", field, known())
        .fix(format!("{command} --fields help      lists all fields")))
}

/// Puts a field, which may lie in another, where it lies in the whole.
fn pick(whole: &Value, field: &str, into: &mut Map<String, Value>) {
    let (name, below) = match field.split_once('.') {
        Some((name, below)) => (name, Some(below)),
        None => (field, None),
    };
    let found = whole.get(name).unwrap_or(&Value::Null);
    let Some(below) = below.filter(|_| found.is_object()) else {
        into.insert(name.to_owned(), found.clone());
        return;
    };
    let inner = into
        .entry(name)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = inner {
        pick(found, below, inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_place() {
        let whole = serde_json::json!({"id": "a.1", "error": null, "sizes": {"request_bytes": 1, "response_bytes": 2}});
        let fields = ["id", "sizes.response_bytes", "error.kind"];
        let fields = Fields(fields.map(str::to_owned).to_vec());
        assert_eq!(
            fields.json(&whole).unwrap(),
            r#"{"error":null,"id":"a.1","sizes":{"response_bytes":2}}"#
        );
    }

    #[test]
    fn unknown_fields_are_mistakes() {
        assert!(check(&FLOWS, "error").is_ok() && check(&FLOWS, "error.kind").is_ok());
        let problem = check(&FLOWS, "urll").unwrap_err();
        assert_eq!(problem.why.as_deref(), Some("did you mean url?"));
        assert!(check(&FLOWS, "err").is_err());
    }
}
