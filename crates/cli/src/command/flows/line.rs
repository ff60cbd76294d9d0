//! `--output` and `--color-by` of `oriel flows tail`: how the line of a flow is written.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use store::FlowRow;

use crate::args::ColorBy;
use crate::command::flows::columns::Columns;
use crate::context::Context;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::table::{Cell, Column, render};
use crate::terminal::Colour;

const SHORT: [&str; 6] = ["time", "id", "request", "status", "size", "took"];
const WIDE: [&str; 8] = [
    "time",
    "id",
    "traffic_type",
    "request",
    "status",
    "size",
    "ttfb",
    "took",
];

/// What stands before a template.
const TEMPLATE: &str = "template=";

/// How a line is written.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Columns {
        columns: Columns,
        tint: Option<Tint>,
    },
    /// Texts with a column behind each, and what follows the last.
    Template {
        columns: Columns,
        before: Vec<String>,
        after: String,
    },
}

/// A column whose colour tells flows apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tint {
    by: ColorBy,
    /// Where the column stands.
    index: usize,
}

/// Red is left to what failed.
const TINTS: [Colour; 4] = [Colour::Cyan, Colour::Magenta, Colour::Yellow, Colour::Green];

impl Tint {
    fn of(by: Option<ColorBy>, names: &[&str]) -> Option<Self> {
        let by = by?;
        let column = match by {
            ColorBy::Session => "id",
            ColorBy::Host => "request",
        };
        let index = names.iter().position(|name| *name == column)?;
        Some(Self { by, index })
    }

    /// The same for the same session or host, in every run of this oriel.
    fn colour(self, row: &FlowRow) -> Colour {
        let mut hasher = DefaultHasher::new();
        match self.by {
            ColorBy::Session => row.id.run.as_str().hash(&mut hasher),
            ColorBy::Host => row.host.hash(&mut hasher),
        }
        let [first, ..] = hasher.finish().to_le_bytes();
        let [one, two, three, four] = TINTS;
        match first % 4 {
            0 => one,
            1 => two,
            2 => three,
            _ => four,
        }
    }
}

impl Line {
    /// Reads `short`, `wide` or `template=TEXT`.
    pub(crate) fn read(output: &str, by: Option<ColorBy>) -> Result<Self, Problem> {
        let columns = |names: &[&str]| {
            Ok(Self::Columns {
                columns: Columns::named(names)?,
                tint: Tint::of(by, names),
            })
        };
        match (output, output.strip_prefix(TEMPLATE)) {
            ("short", _) => columns(&SHORT),
            ("wide", _) => columns(&WIDE),
            (_, Some(_)) if by.is_some() => Err(Problem::new(
                "ORL0001",
                Exit::Usage,
                "--color-by is for --output short and wide",
            )
            .why("a template has no column to colour")),
            (_, Some(template)) => Self::of_template(template),
            (other, None) => Err(Problem::new(
                "ORL0001",
                Exit::Usage,
                format!("there is no output {other:?}"),
            )
            .fix("--output short, wide, or template='{id} {status} {host}'")),
        }
    }

    /// Names of columns stand in braces; a brace that is meant as such is doubled.
    fn of_template(template: &str) -> Result<Self, Problem> {
        let broken = |why: &str| {
            let what = format!("the template {template:?} cannot be read");
            Problem::new("ORL0001", Exit::Usage, what).why(why).fix(
                "write {{ and }} for braces; oriel flows list --columns help      lists all names",
            )
        };
        let (mut before, mut names, mut text) = (Vec::new(), Vec::new(), String::new());
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (plain, braced) = rest.split_at(at);
            text.push_str(plain);
            rest = if let Some(after) = braced.strip_prefix("{{") {
                text.push('{');
                after
            } else if let Some(after) = braced.strip_prefix("}}") {
                text.push('}');
                after
            } else if let Some(name) = braced.strip_prefix('{') {
                let (name, after) = name
                    .split_once('}')
                    .ok_or_else(|| broken("a brace is not closed"))?;
                before.push(std::mem::take(&mut text));
                names.push(name);
                after
            } else {
                return Err(broken("a brace was not opened"));
            };
        }
        text.push_str(rest);
        Ok(Self::Template {
            columns: Columns::named(&names)?,
            before,
            after: text,
        })
    }

    /// The line of a flow, with its end.
    pub(crate) fn text(&self, context: &Context, row: &FlowRow) -> Result<String, Problem> {
        match self {
            Self::Columns { columns, tint } => {
                let mut cells = columns.cells(context, row)?;
                if let Some(tint) = tint
                    && let Some(cell) = cells.get_mut(tint.index)
                {
                    *cell = Cell::coloured(cell.text(), tint.colour(row));
                }
                let stdout = context.terminal.stdout;
                let untitled = |column: &Column| Column {
                    title: "",
                    ..*column
                };
                let heads: Vec<Column> = columns.heads().iter().map(untitled).collect();
                let table = render(&heads, &[cells], stdout.width, stdout.pen);
                // Nor is the line of the titles wanted.
                let lines = table.lines().skip(1);
                Ok(lines.map(|line| format!("{line}\n")).collect())
            }
            Self::Template {
                columns,
                before,
                after,
            } => {
                let cells = columns.cells(context, row)?;
                let pieces = before.iter().map(String::as_str);
                let pieces = pieces.zip(cells.iter().map(Cell::text));
                let line: String = pieces.flat_map(|(text, cell)| [text, cell]).collect();
                Ok(line + after + "\n")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read() {
        let read = |template: &str| match Line::read(template, None) {
            Ok(Line::Template { before, after, .. }) => Ok((before, after)),
            Ok(Line::Columns { .. }) => unreachable!("it is a template"),
            Err(problem) => Err(problem.to_json()),
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(
            read("template={id} -> {{{host}}}!").unwrap(),
            (texts(&["", " -> {"]), "}!".to_owned())
        );
        assert_eq!(read("template=a").unwrap(), (texts(&[]), "a".to_owned()));
        assert_eq!(read("template=").unwrap(), (texts(&[]), String::new()));
        for (template, why) in [
            ("template={id", "not closed"),
            ("template=id}", "not opened"),
            ("template={hots}", "did you mean host?"),
            ("long", "there is no output"),
        ] {
            assert!(read(template).unwrap_err().contains(why), "{template}");
        }
    }
}
