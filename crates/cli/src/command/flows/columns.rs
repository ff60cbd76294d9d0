//! `--columns`: what a list shows of each flow.

use serde_json::Value;
use store::FlowRow;
use store::json::FlowItem;

use crate::clock::now;
use crate::context::Context;
use crate::csv::text_of;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields;
use crate::flow_text::{Clock, moment, period, request, size, status, tags};
use crate::output::{to_json, to_value};
use crate::problem::Problem;
use crate::table::{Cell, Column, Side};

/// A column that is put into words.
struct Worded {
    name: &'static str,
    head: Column,
    /// What it shows.
    what: &'static str,
    cell: fn(&Context, &FlowRow) -> Cell,
}

/// Those that are shown where none is chosen. Beside them every field of the JSON objects is a column, by
/// its name.
static WORDED: [Worded; 7] = [
    worded("id", ("ID", Side::Left), "its name", |_, row| {
        Cell::new(row.id.to_string())
    }),
    worded("time", ("TIME", Side::Left), "when it began", time),
    worded(
        "request",
        ("REQUEST", Side::GivesWay),
        "method, URL and tags",
        |_, row| Cell::new(request(row) + &tags(row)),
    ),
    worded(
        "status",
        ("ST", Side::Left),
        "of the response, or why there is none",
        |context, row| status(row, context.terminal.stdout.pen),
    ),
    worded(
        "size",
        ("SIZE", Side::Right),
        "of the response; of a tunnel or WebSocket, both ways",
        |context, row| Cell::new(size(row, context.terminal.stdout.pen)),
    ),
    worded(
        "ttfb",
        ("TTFB", Side::Right),
        "time to first byte",
        |context, row| Cell::new(period(row.first_byte_ms, context.terminal.stdout.pen)),
    ),
    worded(
        "took",
        ("TOOK", Side::Right),
        "from its beginning to its end",
        |context, row| Cell::new(period(row.duration_ms, context.terminal.stdout.pen)),
    ),
];

const fn worded(
    name: &'static str,
    (title, side): (&'static str, Side),
    what: &'static str,
    cell: fn(&Context, &FlowRow) -> Cell,
) -> Worded {
    let head = Column { title, side };
    Worded {
        name,
        head,
        what,
        cell,
    }
}

fn time(context: &Context, row: &FlowRow) -> Cell {
    let clock = match context.terminal.stdout.is_terminal {
        true => Clock::Short,
        false => Clock::Full,
    };
    Cell::new(moment(row.started_at, now(), &context.zone(), clock))
}

/// What a column shows.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Worded(fn(&Context, &FlowRow) -> Cell),
    /// A field by its name.
    Field(&'static str),
}

/// The columns of a list.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    heads: Vec<Column>,
    shown: Vec<Shown>,
}

impl Columns {
    /// Those that were asked for, or else those in words. Unknown ones are a mistake.
    pub(crate) fn chosen(names: &[String]) -> Result<Self, Problem> {
        match names {
            [] => Self::named(&WORDED.each_ref().map(|worded| worded.name)),
            names => Self::named(names),
        }
    }

    pub(crate) fn named(names: &[impl AsRef<str>]) -> Result<Self, Problem> {
        let columns = names.iter().map(|name| named(name.as_ref()));
        let columns: Vec<(Column, Shown)> = columns.collect::<Result<_, _>>()?;
        let (heads, shown) = columns.into_iter().unzip();
        Ok(Self { heads, shown })
    }

    pub(crate) fn heads(&self) -> &[Column] {
        &self.heads
    }

    /// What is shown of a flow.
    pub(crate) fn cells(&self, context: &Context, row: &FlowRow) -> Result<Vec<Cell>, Problem> {
        let has_fields = self
            .shown
            .iter()
            .any(|shown| matches!(shown, Shown::Field(_)));
        let item = match has_fields {
            true => to_value(&FlowItem::new(row))?,
            false => Value::Null,
        };
        let cells = self.shown.iter().map(|shown| match shown {
            Shown::Worded(cell) => Ok(cell(context, row)),
            Shown::Field(name) => field(&item, name, context),
        });
        cells.collect()
    }
}

/// Prints which columns there are.
pub(crate) fn print_help() -> Result<Exit, Problem> {
    let worded = WORDED.each_ref().map(|worded| (worded.name, worded.what));
    let is_worded = |name: &str| worded.iter().any(|(known, _)| *known == name);
    let fields = FlowItem::FIELDS.into_iter();
    let fields = fields.filter(|(name, _)| !is_worded(name));
    let all: Vec<_> = worded.into_iter().chain(fields).collect();
    fields::print_names(&all)
}

fn named(name: &str) -> Result<(Column, Shown), Problem> {
    if let Some(worded) = WORDED.iter().find(|worded| worded.name == name) {
        return Ok((worded.head, Shown::Worded(worded.cell)));
    }
    let mut fields = FlowItem::FIELDS.iter();
    if let Some((title, kind)) = fields.find(|(known, _)| *known == name) {
        let side = match kind.starts_with("number") {
            true => Side::Right,
            false => Side::Left,
        };
        return Ok((Column { title, side }, Shown::Field(title)));
    }
    let worded = WORDED.iter().map(|worded| worded.name);
    let known = worded.chain(FlowItem::FIELDS.iter().map(|(name, _)| *name));
    Err(fields::unknown("column", name, known)
        .fix("oriel flows list --columns help      lists all columns"))
}

/// A field of a flow, as it stands in JSON; a text without its quotes.
fn field(item: &Value, name: &str, context: &Context) -> Result<Cell, Problem> {
    let text = match fields::find(item, name) {
        None | Some(Value::Null) => context.terminal.stdout.pen.unknown().to_owned(),
        Some(Value::Array(values)) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        Some(value @ Value::Object(_)) => to_json(value)?,
        Some(value) => text_of(value),
    };
    Ok(Cell::new(escape_line(&text)))
}
