//! What was found out, as text and as JSON (`oriel.doctor/1`).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::bench::{ToolReport, Tried};
use super::verdict::{Outcome, Verdict};
use super::{Area, Check, Repair, State};
use crate::command::version::VERSION;
use crate::escape::escape_line;
use crate::quantity::plural;
use crate::table::{Cell, Column, Side, render};
use crate::terminal::{Colour, Glyph, Pen};

/// Everything that was found out.
#[derive(Debug)]
pub(crate) struct Diagnosis {
    pub(crate) checks: Vec<Check>,
    pub(crate) tools: Vec<ToolReport>,
}

/// The areas with their titles, in the order in which they are shown.
const AREAS: [(Area, &str); 6] = [
    (Area::Environment, "Environment"),
    (Area::Ports, "Ports"),
    (Area::Trust, "Trust"),
    (Area::Storage, "Storage"),
    (Area::Clock, "Clock"),
    (Area::Network, "Network"),
];

const COLUMNS: [Column; 4] = [
    Column {
        title: "TOOL",
        side: Side::Left,
    },
    Column {
        title: "WITH oriel run",
        side: Side::Left,
    },
    Column {
        title: "SYSTEM-WIDE",
        side: Side::Left,
    },
    Column {
        title: "HOW IT DECIDES",
        side: Side::GivesWay,
    },
];

impl Diagnosis {
    /// How many things are in a state.
    fn count(&self, state: State) -> usize {
        let checks = self.checks.iter().filter(|check| check.state == state);
        checks.count() + count_tools(&self.tools, state)
    }

    /// What can be done by itself.
    pub(crate) fn repairs(&self) -> Vec<Repair> {
        let repairs = self.checks.iter().filter_map(|check| check.repair.clone());
        repairs.collect()
    }

    pub(crate) fn failed(&self) -> bool {
        self.count(State::Failed) > 0
    }

    pub(crate) fn document(&self) -> Value {
        let checks = self.checks.iter().map(|check| {
            json!({
                "area": check.area.as_str(),
                "state": check.state.as_str(),
                "text": check.text,
                "code": check.code,
                "fix": check.fix,
            })
        });
        json!({
            "schema": "oriel.doctor/1",
            "version": VERSION,
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "checks": checks.collect::<Vec<_>>(),
            "tools": self.tools.iter().map(tool_document).collect::<Vec<_>>(),
            "warnings": self.count(State::Warning),
            "failures": self.count(State::Failed),
        })
    }

    pub(crate) fn text(&self, pen: Pen, width: Option<usize>) -> String {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let mut text = format!("oriel {VERSION} {} {os} {arch}\n", pen.dot());
        for (area, title) in AREAS {
            let checks = self.checks.iter().filter(|check| check.area == area);
            let lines: String = checks.map(|check| check_lines(check, pen)).collect();
            if !lines.is_empty() {
                let _infallible = write!(text, "{}\n{lines}", pen.paint(Colour::Bold, title));
            }
        }
        if !self.tools.is_empty() {
            text.push('\n');
            text.push_str(&matrix(&self.tools, pen, width));
        }
        let (warnings, failures) = (self.count(State::Warning), self.count(State::Failed));
        let _infallible = writeln!(
            text,
            "\n{}, {}",
            plural(warnings as u64, "warning"),
            plural(failures as u64, "failure")
        );
        text
    }
}

/// How many tools make a state: each counts once, by the worse of its two columns.
fn count_tools(tools: &[ToolReport], state: State) -> usize {
    tools.iter().filter(|tool| tool.state() == state).count()
}

/// A check with how to fix it.
pub(crate) fn check_lines(check: &Check, pen: Pen) -> String {
    let mark = mark(check.state, pen);
    let code = match (check.state, check.code) {
        (State::Warning | State::Failed, Some(code)) => format!("  ({code})"),
        _ => String::new(),
    };
    let mut lines = format!("  {mark} {}{code}\n", escape_line(&check.text));
    push_fix(&mut lines, &check.fix, pen);
    lines
}

fn push_fix(text: &mut String, fix: &[String], pen: Pen) {
    let mut label = "fix";
    for line in fix {
        let _infallible = writeln!(
            text,
            "      {}  {}",
            pen.paint(Colour::Dim, &format!("{label:3}")),
            escape_line(line)
        );
        label = "";
    }
}

fn mark(state: State, pen: Pen) -> String {
    let colour = match state {
        State::Ok => Colour::Green,
        State::Note => Colour::Dim,
        State::Warning => Colour::Yellow,
        State::Failed => Colour::Red,
    };
    let glyph = state.glyph().map_or("-", |glyph| pen.glyph(glyph));
    pen.paint(colour, glyph)
}

/// The table of tools, what is wrong with which below it.
pub(crate) fn matrix(tools: &[ToolReport], pen: Pen, width: Option<usize>) -> String {
    let rows: Vec<_> = tools.iter().map(|tool| row(tool, pen)).collect();
    let mut text = render(&COLUMNS, &rows, width, pen);
    for tool in tools {
        let Some(tried) = &tool.tried else { continue };
        for outcome in [&tried.with_run, &tried.system_wide] {
            if matches!(outcome.state, State::Ok | State::Note) {
                continue;
            }
            let why = outcome.why.as_deref().unwrap_or_default();
            let line = format!("{}: {}", tool.name, escape_line(why));
            let _infallible = writeln!(text, "  {} {line}", mark(outcome.state, pen));
            push_fix(&mut text, &outcome.fix, pen);
        }
    }
    push_not_installed(&mut text, tools, pen);
    let _infallible = writeln!(
        text,
        "Each {} is a real handshake made just now, on this machine.",
        pen.glyph(Glyph::Ok)
    );
    text
}

/// What has the tools trust oriel that refuse it where `oriel run` did not start them: those with the
/// same fix together.
fn push_not_installed(text: &mut String, tools: &[ToolReport], pen: Pen) {
    let mut groups: Vec<(&[String], Vec<&str>)> = Vec::new();
    for tool in tools {
        let Some(outcome) = tool.tried.as_ref().map(|tried| &tried.system_wide) else {
            continue;
        };
        if outcome.state != State::Note || outcome.fix.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(fix, _)| *fix == outcome.fix) {
            Some((_, names)) => names.push(tool.name),
            None => groups.push((&outcome.fix, vec![tool.name])),
        }
    }
    for (fix, names) in groups {
        let names = names.join(", ");
        let mark = mark(State::Note, pen);
        let _infallible = writeln!(text, "  {mark} {names}: not trusted outside of oriel run");
        push_fix(text, fix, pen);
    }
}

fn row(tool: &ToolReport, pen: Pen) -> Vec<Cell> {
    let Some(tried) = &tool.tried else {
        let cells = [tool.name, "not found", "", tool.decides];
        return cells.map(Cell::new).to_vec();
    };
    let version = tried.version.as_deref().unwrap_or_default();
    let name = format!("{} {}", tool.name, escape_line(version));
    let system = match (tried.system_wide.verdict, tried.system_wide.state) {
        (Verdict::Refused, State::Note) => {
            let text = format!("{} not installed", pen.glyph(Glyph::Failed));
            Cell::coloured(text, Colour::Dim)
        }
        _ => cell(&tried.system_wide, pen),
    };
    vec![
        Cell::new(name.trim_end()),
        cell(&tried.with_run, pen),
        system,
        Cell::new(tool.decides),
    ]
}

fn cell(outcome: &Outcome, pen: Pen) -> Cell {
    let glyph = outcome.state.glyph().map_or("-", |glyph| pen.glyph(glyph));
    let text = format!("{glyph} {}", outcome.verdict.word());
    Cell::coloured(
        text.trim_end(),
        match outcome.state {
            State::Ok => Colour::Green,
            State::Note => Colour::Dim,
            State::Warning => Colour::Yellow,
            State::Failed => Colour::Red,
        },
    )
}

/// One tool as JSON.
pub(crate) fn tool_document(tool: &ToolReport) -> Value {
    let tried = tool.tried.as_ref();
    let outcome = |pick: fn(&Tried) -> &Outcome| {
        tried.map(pick).map(|outcome| {
            json!({
                "verdict": outcome.verdict.as_str(),
                "state": outcome.state.as_str(),
                "why": outcome.why,
                "fix": outcome.fix,
            })
        })
    };
    json!({
        "tool": tool.name,
        "found": tried.is_some(),
        "program": tried.map(|tried| &tried.program),
        "version": tried.and_then(|tried| tried.version.as_ref()),
        "decides": tool.decides,
        "with_run": outcome(|tried| &tried.with_run),
        "system_wide": outcome(|tried| &tried.system_wide),
    })
}
