//! `oriel stats`: what flows sum up to, in groups.

use serde::Serialize;
use serde_json::Value;
use store::{Percentiles, Stats, StatsGroup};

use crate::args::Stats as Arguments;
use crate::command::flows::spooled::{self, Spool};
use crate::command::flows::{filter, open};
use crate::context::Context;
use crate::csv::Cells;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::fields::{self, Fields, Known};
use crate::output::{print, print_json, say_line};
use crate::problem::Problem;
use crate::quantity::{bytes, count, millis};
use crate::store_problem::store_problem;
use crate::table::{Cell, Column, Side, render};
use crate::terminal::Pen;

const SCHEMA: &str = "oriel.stats/1";

/// What is in an [`Item`].
const FIELDS: Known = Known {
    names: &[
        ("key", "text | null"),
        ("flows", "number"),
        ("error_status", "number"),
        ("failed", "number"),
        ("request_bytes", "number"),
        ("response_bytes", "number"),
        ("duration_ms.p50", "number | null"),
        ("duration_ms.p95", "number | null"),
        ("ttfb_ms.p50", "number | null"),
        ("ttfb_ms.p95", "number | null"),
    ],
    command: "oriel stats",
};

#[derive(Serialize)]
struct Document {
    schema: &'static str,
    by: &'static str,
    items: Vec<Value>,
    total: Value,
    /// Flows that wait in the spool and are not counted yet.
    spooled: u64,
}

#[derive(Serialize)]
struct Item {
    key: Option<String>,
    flows: u64,
    error_status: u64,
    failed: u64,
    request_bytes: u64,
    response_bytes: u64,
    duration_ms: Option<Spans>,
    ttfb_ms: Option<Spans>,
}

#[derive(Serialize)]
struct Spans {
    p50: f64,
    p95: f64,
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Problem> {
    answer(context, arguments).map_err(|problem| spooled::noted(context, &arguments.data, problem))
}

fn answer(context: &Context, arguments: &Arguments) -> Result<Exit, Problem> {
    let filter = filter(&arguments.filter, arguments.since)?;
    let fields = Fields::chosen_of(&arguments.form, &FIELDS, &[])?;
    if fields.wants_help() {
        return fields::print_help_of(context, &FIELDS);
    }
    let by = arguments.by;
    let spooled = Spool::of(context, &arguments.data)?.flows();
    let stats = match open(context, &arguments.data)? {
        Some(reader) => reader
            .stats(by, filter.as_ref())
            .map_err(|e| store_problem(&e))?,
        None => Stats::default(),
    };
    let items = stats.groups.iter().map(Item::new);
    if arguments.form.jsonl {
        fields.print_lines(items)?;
    } else if context.json() || fields.are_chosen() {
        let items: Result<Vec<Value>, Problem> = items.map(|item| fields.value(&item)).collect();
        print_json(&Document {
            schema: SCHEMA,
            by: by.as_str(),
            items: items?,
            total: fields.value(&Item::new(&stats.total))?,
            spooled,
        })?;
    } else if arguments.csv {
        print(&csv(&stats, Cells::new(arguments.csv_raw)))?;
    } else if stats.groups.is_empty() {
        say_line("no flow matches");
    } else {
        let stdout = context.terminal.stdout;
        print(&table(by.as_str(), &stats, stdout.width, stdout.pen))?;
    }
    spooled::tell(context, spooled);
    Ok(Exit::Success)
}

/// A line for each group; what is not known is empty.
fn csv(stats: &Stats, written: Cells) -> String {
    let mut text = written.line([
        "key",
        "flows",
        "request_bytes",
        "response_bytes",
        "ttfb_p50_ms",
        "ttfb_p95_ms",
        "duration_p50_ms",
        "duration_p95_ms",
        "error_status",
        "failed",
    ]);
    for group in &stats.groups {
        let percentile = |spans: Option<&Percentiles>, of: fn(&Percentiles) -> f64| {
            spans.map(|spans| of(spans).to_string()).unwrap_or_default()
        };
        let (first_byte, duration) = (group.first_byte_ms.as_ref(), group.duration_ms.as_ref());
        let values = [
            group.key.clone().unwrap_or_default(),
            group.flows.to_string(),
            group.request_bytes.to_string(),
            group.response_bytes.to_string(),
            percentile(first_byte, |spans| spans.p50),
            percentile(first_byte, |spans| spans.p95),
            percentile(duration, |spans| spans.p50),
            percentile(duration, |spans| spans.p95),
            group.error_status.to_string(),
            group.failed.to_string(),
        ];
        text += &written.line(values.iter().map(String::as_str));
    }
    text
}

/// Groups, one in a line, and all of them together at the end where there are several.
fn table(by: &str, stats: &Stats, width: Option<usize>, pen: Pen) -> String {
    let right = |title| Column {
        title,
        side: Side::Right,
    };
    let columns = [
        Column {
            title: "KEY",
            side: Side::GivesWay,
        },
        right("FLOWS"),
        right("SENT"),
        right("RECEIVED"),
        right("TTFB p50/p95"),
        right("TOOK p50/p95"),
        right("4xx+"),
        right("FAILED"),
    ];
    let mut rows: Vec<Vec<Cell>> = stats
        .groups
        .iter()
        .map(|group| {
            let key = group.key.as_deref().map(escape_line);
            cells(
                &key.unwrap_or_else(|| format!("(no {by})").into()),
                group,
                pen,
            )
        })
        .collect();
    if rows.len() > 1 {
        rows.push(cells("all", &stats.total, pen));
    }
    render(&columns, &rows, width, pen)
}

fn cells(key: &str, group: &StatsGroup, pen: Pen) -> Vec<Cell> {
    let spans = |spans: Option<&Percentiles>| match spans {
        Some(spans) => format!("{}/{}", millis(spans.p50), millis(spans.p95)),
        None => pen.unknown().to_owned(),
    };
    vec![
        Cell::new(key),
        Cell::new(count(group.flows)),
        Cell::new(bytes(group.request_bytes)),
        Cell::new(bytes(group.response_bytes)),
        Cell::new(spans(group.first_byte_ms.as_ref())),
        Cell::new(spans(group.duration_ms.as_ref())),
        Cell::new(count(group.error_status)),
        Cell::new(count(group.failed)),
    ]
}

impl Item {
    fn new(group: &StatsGroup) -> Self {
        let spans = |spans: &Percentiles| Spans {
            p50: spans.p50,
            p95: spans.p95,
        };
        Self {
            key: group.key.clone(),
            flows: group.flows,
            error_status: group.error_status,
            failed: group.failed,
            request_bytes: group.request_bytes,
            response_bytes: group.response_bytes,
            duration_ms: group.duration_ms.as_ref().map(spans),
            ttfb_ms: group.first_byte_ms.as_ref().map(spans),
        }
    }
}
