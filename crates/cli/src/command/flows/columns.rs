//! `--columns`: what a list shows of each flow.

use serde_json::Value;
use store::FlowRow;
use store::json::FlowItem;
use traffic::spelling::nearest;

use crate::clock::now;
use crate::context::Context;
use crate::csv::text_of;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::flow_text::{Clock, moment, period, request, size, status, tags};
use crate::output::{print, to_json};
use crate::problem::Problem;
use crate::table::{Cell, Column, Side};

/// Asks for the list of columns.
const HELP: &str = "help";

/// The columns that are put into words; they are shown where none is chosen. Beside them every field of the
/// JSON objects is one, by its name.
const WORDED: [(&str, Worded, Column, &str); 7] = [
    ("id", Worded::Id, column("ID", Side::Left), "its name"),
    (
        "time",
        Worded::Time,
        column("TIME", Side::Left),
        "when it began",
    ),
    (
        "request",
        Worded::Request,
        column("REQUEST", Side::GivesWay),
        "method, URL and tags",
    ),
    (
        "status",
        Worded::Status,
        column("ST", Side::Left),
        "of the response, or why there is none",
    ),
    (
        "size",
        Worded::Size,
        column("SIZE", Side::Right),
        "of the response; of a tunnel or WebSocket, both ways",
    ),
    (
        "ttfb",
        Worded::Ttfb,
        column("TTFB", Side::Right),
        "time to first byte",
    ),
    (
        "took",
        Worded::Took,
        column("TOOK", Side::Right),
        "from its beginning to its end",
    ),
];

const fn column(title: &'static str, side: Side) -> Column {
    Column { title, side }
}

/// What a column shows.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Worded(Worded),
    /// A field by its name.
    Field(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Worded {
    Id,
    Time,
    Request,
    Status,
    Size,
    Ttfb,
    Took,
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
            [] => Self::named(&WORDED.map(|(name, ..)| name)),
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
            true => serde_json::to_value(FlowItem::new(row))
                .map_err(|error| Problem::bug(format!("cannot write JSON: {error}")))?,
            false => Value::Null,
        };
        let cells = self.shown.iter().map(|shown| match shown {
            Shown::Worded(worded) => Ok(worded.cell(context, row)),
            Shown::Field(name) => field(&item, name, context),
        });
        cells.collect()
    }
}

/// Whether the list of columns is asked for.
pub(crate) fn wants_help(names: &[String]) -> bool {
    names == [HELP]
}

/// Prints which columns there are.
pub(crate) fn print_help() -> Result<Exit, Problem> {
    let worded = WORDED.map(|(name, _, _, what)| (name, what));
    let is_worded = |name: &str| worded.iter().any(|(known, _)| *known == name);
    let fields = FlowItem::FIELDS.into_iter();
    let fields = fields.filter(|(name, _)| !is_worded(name));
    let all: Vec<_> = worded.into_iter().chain(fields).collect();
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = all
        .iter()
        .map(|(name, what)| format!("{name:width$}  {what}\n"));
    print(&lines.collect::<String>())?;
    Ok(Exit::Success)
}

fn named(name: &str) -> Result<(Column, Shown), Problem> {
    let mut worded = WORDED.iter();
    if let Some((_, worded, head, _)) = worded.find(|(known, ..)| *known == name) {
        return Ok((*head, Shown::Worded(*worded)));
    }
    let mut fields = FlowItem::FIELDS.iter();
    if let Some((title, kind)) = fields.find(|(known, _)| *known == name) {
        let side = match kind.starts_with("number") {
            true => Side::Right,
            false => Side::Left,
        };
        return Ok((column(title, side), Shown::Field(title)));
    }
    let problem = Problem::new(
        "ORL0001",
        Exit::Usage,
        format!("there is no column {name:?}"),
    );
    let worded = WORDED.iter().map(|(name, ..)| *name);
    let known = worded.chain(FlowItem::FIELDS.iter().map(|(name, _)| *name));
    let problem = match nearest(name, known) {
        Some(meant) => problem.why(format!("did you mean {meant}?")),
        None => problem,
    };
    Err(problem.fix("oriel flows list --columns help      lists all columns"))
}

impl Worded {
    fn cell(self, context: &Context, row: &FlowRow) -> Cell {
        let stdout = context.terminal.stdout;
        let pen = stdout.pen;
        let clock = match stdout.is_terminal {
            true => Clock::Short,
            false => Clock::Full,
        };
        match self {
            Self::Id => Cell::new(row.id.to_string()),
            Self::Time => Cell::new(moment(row.started_at, now(), &context.zone(), clock)),
            Self::Request => Cell::new(request(row) + &tags(row)),
            Self::Status => status(row, pen),
            Self::Size => Cell::new(size(row, pen)),
            Self::Ttfb => Cell::new(period(row.first_byte_ms, pen)),
            Self::Took => Cell::new(period(row.duration_ms, pen)),
        }
    }
}

/// A field of a flow, as it stands in JSON; a text without its quotes.
fn field(item: &Value, name: &str, context: &Context) -> Result<Cell, Problem> {
    let found = name
        .split('.')
        .try_fold(item, |value, part| value.get(part));
    let text = match found {
        None | Some(Value::Null) => context.terminal.stdout.pen.unknown().to_owned(),
        Some(Value::Array(values)) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        Some(value @ Value::Object(_)) => to_json(value)?,
        Some(value) => text_of(value),
    };
    Ok(Cell::new(escape_line(&text)))
}
