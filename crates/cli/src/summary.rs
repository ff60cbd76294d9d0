//! The end of a run in figures: for people in full or as a line, for programs as JSON. It says
//! what was observed and nothing else.

use std::fmt::Write as _;

use store::{FailureGroup, Percentiles, RunSummary};

use crate::args::SummaryForm;
use crate::child::Ended;
use crate::diagnosis::Finding;
use crate::escape::escape_line;
use crate::quantity::{bytes, count, millis, plural};
use crate::terminal::{Colour, Glyph, Pen, Stream};

/// Columns of the summary where the terminal does not say how many it has.
const WIDTH: usize = 80;
/// Hosts and failures that the compact form shows.
const SHOWN: usize = 5;

/// All that a summary tells.
#[derive(Debug)]
pub(crate) struct Summary<'a> {
    pub(crate) figures: &'a RunSummary,
    /// How the command ended; a demo has none.
    pub(crate) ended: Option<Ended>,
    pub(crate) timed_out: bool,
    pub(crate) findings: &'a [Finding],
    /// Connections that went past the proxy, as far as they were seen.
    pub(crate) direct: usize,
    /// Whether credentials were stored as they came.
    pub(crate) secrets_stored: bool,
}

impl Summary<'_> {
    /// The form that was asked for; nothing if none was.
    pub(crate) fn render(&self, form: SummaryForm, stream: Stream) -> String {
        match form {
            SummaryForm::None => String::new(),
            SummaryForm::Line => self.line(),
            SummaryForm::Compact => self.block(stream, SHOWN),
            SummaryForm::Full => self.block(stream, usize::MAX),
            SummaryForm::Auto => match stream.is_terminal {
                true => self.block(stream, SHOWN),
                false => self.line(),
            },
        }
    }

    /// One line, with a finding behind it where there is one: it is why nothing else is there.
    fn line(&self) -> String {
        let figures = self.figures;
        let mut line = format!("oriel: {}", figures.run.id);
        let mut put = |name: &str, value: &str| {
            let _infallible = write!(line, " {name}={value}");
        };
        match self.ended {
            Some(Ended::Code(code)) => put("exit", &code.to_string()),
            Some(Ended::Signal(signal)) => put("signal", &signal.to_string()),
            None => {}
        }
        put("time", &format!("{:.1}s", self.millis() / 1000.0));
        put("requests", &figures.requests.to_string());
        put("ok", &figures.ok.to_string());
        put("errors", &figures.error_status.to_string());
        put("failed", &figures.failed.to_string());
        put("blocked", &figures.blocked.to_string());
        put("tunnels", &figures.tunnels.to_string());
        put("sent", &format!("{}B", figures.request_bytes));
        put("received", &format!("{}B", figures.response_bytes));
        if let Some(first_byte) = figures.first_byte_ms {
            put("ttfb_p95", &format!("{:.0}ms", first_byte.p95));
        }
        if figures.lost_events > 0 {
            put("lost_events", &figures.lost_events.to_string());
        }
        line.push('\n');
        for finding in self.findings {
            let _infallible = writeln!(
                line,
                "oriel: {} {} {}; {}",
                finding.code,
                escape_line(&finding.title),
                escape_line(&finding.saw.join("; ")),
                escape_line(&finding.why)
            );
        }
        line
    }

    fn block(&self, stream: Stream, shown: usize) -> String {
        let pen = stream.pen;
        let width = stream.width.unwrap_or(WIDTH).clamp(40, 100);
        let mut text = self.title(pen, width);
        self.push_warnings(&mut text, pen, shown);
        for finding in self.findings {
            push_finding(&mut text, pen, finding);
        }
        if self.figures.run.flows > 0 {
            text.push('\n');
            self.push_figures(&mut text, pen, shown);
            self.push_next(&mut text);
        }
        text.push_str(&pen.paint(Colour::Dim, &pen.rule(width)));
        text.push('\n');
        text
    }

    /// `─ oriel ─ k7q2 name ─────── exit 0 · 6 m 42 s ─`
    fn title(&self, pen: Pen, width: usize) -> String {
        let run = &self.figures.run;
        let name = run.name.as_deref().map(escape_line);
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        let left = format!("{} oriel {} {}{name} ", pen.rule(1), pen.rule(1), run.id);
        let ended = match self.ended {
            Some(Ended::Code(code)) => format!("exit {code} {} ", pen.dot()),
            Some(Ended::Signal(signal)) => format!("signal {signal} {} ", pen.dot()),
            None => String::new(),
        };
        let right = format!(" {ended}{} {}", millis(self.millis()), pen.rule(1));
        let filled = left.chars().count() + right.chars().count();
        let line = format!("{left}{}{right}", pen.rule(width.saturating_sub(filled)));
        format!("{}\n", pen.paint(Colour::Bold, &line))
    }

    fn push_warnings(&self, text: &mut String, pen: Pen, shown: usize) {
        let figures = self.figures;
        let mut warn = |colour: Colour, glyph: Glyph, line: String| {
            let mark = pen.paint(colour, pen.glyph(glyph));
            let _infallible = writeln!(text, "  {mark} {line}");
        };
        if self.timed_out {
            warn(
                Colour::Yellow,
                Glyph::Warning,
                "timeout    the command was ended with SIGTERM".to_owned(),
            );
        }
        for group in figures
            .failures
            .iter()
            .filter(|group| is_told_apart(group))
            .take(shown)
        {
            let (colour, glyph, word) = match group.kind.as_str() {
                "blocked" => (Colour::Magenta, Glyph::Blocked, "blocked"),
                _ => (Colour::Red, Glyph::Failed, "failed "),
            };
            let line = format!(
                "{word} {:>3}   {}: {}   ({})",
                count(group.flows),
                escape_line(&group.host),
                escape_line(&group.text),
                group.example
            );
            warn(colour, glyph, line);
        }
        if self.direct > 0 && figures.run.flows > 0 {
            let line = format!(
                "not seen   {} went past oriel",
                plural(self.direct as u64, "connection")
            );
            warn(Colour::Yellow, Glyph::Warning, line);
        }
        if figures.danger_unverified > 0 {
            let flows = plural(figures.danger_unverified, "flow");
            warn(
                Colour::Yellow,
                Glyph::Warning,
                format!(
                    "danger     {flows} went to an upstream whose certificate was not verified"
                ),
            );
        }
        if figures.lost_events > 0 {
            let events = plural(figures.lost_events, "event");
            warn(
                Colour::Yellow,
                Glyph::Warning,
                format!("gap        {events} could not be stored"),
            );
        }
        if self.secrets_stored {
            warn(
                Colour::Yellow,
                Glyph::Stored,
                "secrets    credentials are stored as they came (--redact none)".to_owned(),
            );
        }
    }

    fn push_figures(&self, text: &mut String, pen: Pen, shown: usize) {
        let figures = self.figures;
        let mut put = |label: &str, value: String| {
            let _infallible = writeln!(text, "  {label:10} {value}");
        };
        put("requests", self.requests(pen));
        put(
            "bytes",
            format!(
                "sent {}   received {}",
                bytes(figures.request_bytes),
                bytes(figures.response_bytes)
            ),
        );
        if let (Some(first), Some(whole)) = (figures.first_byte_ms, figures.duration_ms) {
            put(
                "latency",
                format!("first byte {}   whole {}", both(first), both(whole)),
            );
        }
        let slowest: Vec<String> = figures
            .slowest
            .iter()
            .take(if shown > SHOWN { shown } else { 1 })
            .map(|(flow, duration)| format!("{flow}  {}", millis(*duration)))
            .collect();
        if figures.requests > 1 && !slowest.is_empty() {
            put("slowest", slowest.join("   "));
        }
        let separator = format!(" {} ", pen.dot());
        let mut hosts: Vec<String> = figures
            .hosts
            .iter()
            .take(shown)
            .map(|host| format!("{} {}", escape_line(&host.host), count(host.flows)))
            .collect();
        let more = figures.hosts_total.saturating_sub(hosts.len() as u64);
        if more > 0 {
            hosts.push(format!("{} more", count(more)));
        }
        put("hosts", hosts.join(&separator));
        if figures.truncated_flows > 0 {
            let flows = plural(figures.truncated_flows, "flow");
            put(
                "truncated",
                format!(
                    "{} {flows} with a body that was not kept whole",
                    pen.glyph(Glyph::Truncated)
                ),
            );
        }
    }

    /// `47    44 ok · 2 with status ≥ 400 · 1 failed     + 63 tunnelled (3.1 MiB, not decrypted)`
    fn requests(&self, pen: Pen) -> String {
        let figures = self.figures;
        let at_least = if pen.ascii() { ">=" } else { "≥" };
        let parts = [
            (figures.ok, "ok".to_owned()),
            (figures.error_status, format!("with status {at_least} 400")),
            (figures.failed, "failed".to_owned()),
            (figures.blocked, "blocked".to_owned()),
            (figures.open, "open".to_owned()),
            (figures.interrupted, "interrupted".to_owned()),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, word)| format!("{} {word}", count(*number)))
            .collect();
        let separator = format!(" {} ", pen.dot());
        let mut line = format!("{:<5} {}", count(figures.requests), parts.join(&separator));
        if figures.tunnels > 0 {
            let _infallible = write!(
                line,
                "   + {} tunnelled ({}, not decrypted)",
                count(figures.tunnels),
                bytes(figures.tunnel_bytes)
            );
        }
        line.trim_end().to_owned()
    }

    fn push_next(&self, text: &mut String) {
        let run = self.figures.run.id;
        let _infallible = writeln!(
            text,
            "\n  look   oriel flows --session {run}      one of them   oriel flows show {run}.1"
        );
    }

    /// The machine form, schema `oriel.run.summary/1`.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let figures = self.figures;
        let run = &figures.run;
        let percentiles = |points: Option<Percentiles>| {
            points.map(|points| serde_json::json!({"p50": points.p50, "p95": points.p95}))
        };
        serde_json::json!({
            "schema": "oriel.run.summary/1",
            "session": run.id.to_string(),
            "uuid": run.uuid,
            "name": run.name,
            "argv": run.argv,
            "exit_code": self.ended.and_then(Ended::code),
            "signal": self.ended.and_then(Ended::signal),
            "timed_out": self.timed_out,
            "started_at": store::json::rfc3339(run.started_at),
            "duration_ms": self.millis(),
            "requests": {
                "total": figures.requests,
                "ok": figures.ok,
                "error_status": figures.error_status,
                "failed": figures.failed,
                "blocked": figures.blocked,
                "open": figures.open,
                "interrupted": figures.interrupted,
                "tunnelled": figures.tunnels,
            },
            "sizes": {
                "request_bytes": figures.request_bytes,
                "response_bytes": figures.response_bytes,
                "tunnel_bytes": figures.tunnel_bytes,
            },
            "latency_ms": {
                "ttfb": percentiles(figures.first_byte_ms),
                "total": percentiles(figures.duration_ms),
            },
            "hosts": figures.hosts.iter().map(|host| serde_json::json!({
                "host": host.host, "flows": host.flows, "failed": host.failed,
            })).collect::<Vec<_>>(),
            "failures": figures.failures.iter().map(failure_to_json).collect::<Vec<_>>(),
            "capture": {
                "complete": figures.lost_events == 0 && self.direct == 0,
                "dropped_events": figures.lost_events,
                "truncated_bodies": figures.truncated_flows,
                "direct_connections_seen": self.direct,
                "danger_unverified": figures.danger_unverified,
                "redaction": if self.secrets_stored { "none" } else { "basic" },
            },
            "findings": self.findings.iter().map(finding_to_json).collect::<Vec<_>>(),
        })
    }

    fn millis(&self) -> f64 {
        let run = &self.figures.run;
        let ended = run.ended_at.unwrap_or_else(crate::clock::now);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a run of 285 years is exact to the microsecond"
        )]
        let micros = ended.micros_since(run.started_at).max(0) as f64;
        micros / 1000.0
    }
}

/// Failures with a finding of their own are told there.
fn is_told_apart(group: &FailureGroup) -> bool {
    group.kind != "client_distrusts"
}

fn push_finding(text: &mut String, pen: Pen, finding: &Finding) {
    let mark = pen.paint(Colour::Yellow, pen.glyph(Glyph::Warning));
    let _infallible = writeln!(text, "  {mark} {}", escape_line(&finding.title));
    let mut put = |label: &str, lines: &[String]| {
        let mut label = label;
        for line in lines {
            let _infallible = writeln!(text, "    {label:13} {}", escape_line(line));
            label = "";
        }
    };
    put("what we saw", &finding.saw);
    put("why", std::slice::from_ref(&finding.why));
    put("fix", &finding.fix);
    put("more", &[format!("oriel explain {}", finding.code)]);
}

fn both(points: Percentiles) -> String {
    format!("p50 {}  p95 {}", millis(points.p50), millis(points.p95))
}

fn failure_to_json(group: &FailureGroup) -> serde_json::Value {
    serde_json::json!({
        "host": group.host,
        "side": group.side,
        "stage": group.stage,
        "kind": group.kind,
        "message": group.text,
        "flows": group.flows,
        "example": group.example.to_string(),
    })
}

fn finding_to_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "code": finding.code,
        "message": finding.title,
        "saw": finding.saw,
        "why": finding.why,
        "fix": finding.fix,
    })
}
