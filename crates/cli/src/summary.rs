//! The end of a run in figures: for people in full or as a line, for programs as JSON. It says
//! what was observed and nothing else.

use std::fmt::Write as _;

use store::{FailureGroup, Percentiles, RunSummary};

use crate::args::SummaryForm;
use crate::child::Ended;
use crate::diagnosis::{Finding, refuses_certificate};
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
    /// Why the figures are not all of it, if they are not.
    pub(crate) gap: Option<&'a str>,
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
        if self.has_figures() {
            self.put_figures(&mut put);
        }
        // What is wrong stands there only where it is.
        if self.gap.is_some() {
            put("incomplete", "yes");
        }
        for (name, number) in [
            ("lost_events", figures.lost_events),
            ("unverified", figures.danger_unverified),
            ("not_seen", self.not_seen()),
        ] {
            if number > 0 {
                put(name, &number.to_string());
            }
        }
        if self.timed_out {
            put("timeout", "yes");
        }
        if self.secrets_stored {
            put("redact", "none");
        }
        line.push('\n');
        for finding in self.findings {
            let fix = match finding.fix.as_slice() {
                [] => String::new(),
                fix => format!("; fix: {}", escape_line(&fix.join(" | "))),
            };
            let _infallible = writeln!(
                line,
                "oriel: {} {} {}; {}{fix}",
                finding.code,
                escape_line(&finding.title),
                escape_line(&finding.saw.join("; ")),
                escape_line(&finding.why),
            );
        }
        line
    }

    /// Whether there is anything to count. An empty run has its reason, and one that could not be read none.
    fn has_figures(&self) -> bool {
        self.figures.run.flows > 0 || self.gap.is_none()
    }

    fn put_figures(&self, put: &mut impl FnMut(&str, &str)) {
        let figures = self.figures;
        put("requests", &self.requests_total().to_string());
        put("ok", &figures.ok.to_string());
        put("errors", &figures.error_status.to_string());
        put("failed", &figures.failed.to_string());
        put("blocked", &figures.blocked.to_string());
        put("tunnels", &self.tunnelled().to_string());
        put("sent", &format!("{}B", figures.request_bytes));
        put("received", &format!("{}B", figures.response_bytes));
        if let Some(first_byte) = figures.first_byte_ms {
            put("ttfb_p95", &format!("{:.0}ms", first_byte.p95));
        }
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

    /// Connections that went past, beside others that did not. Where none came a finding tells of them.
    fn not_seen(&self) -> u64 {
        match self.figures.run.flows {
            0 if self.gap.is_none() => 0,
            _ => self.direct as u64,
        }
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
                "{word} {:>3}   {}   ({}{})",
                count(group.flows),
                escape_line(&failure_text(group)),
                group.example,
                program_text(group)
            );
            warn(colour, glyph, line);
        }
        if self.not_seen() > 0 {
            let line = format!(
                "not seen   {} went past oriel",
                plural(self.not_seen(), "connection")
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
        if let Some(why) = self.gap {
            warn(
                Colour::Yellow,
                Glyph::Warning,
                format!(
                    "gap        not all of the run is here: {}",
                    escape_line(why)
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
        let total = count(self.requests_total());
        let mut line = format!("{total:<5} {}", parts.join(&separator));
        if self.tunnelled() > 0 {
            let _infallible = write!(
                line,
                "   + {} tunnelled ({}, not decrypted)",
                count(self.tunnelled()),
                bytes(figures.tunnel_bytes)
            );
        }
        line.trim_end().to_owned()
    }

    /// Tunnels that were opened and closed in order.
    fn tunnelled(&self) -> u64 {
        self.figures
            .tunnels
            .saturating_sub(self.tunnels_unfinished())
    }

    /// HTTP requests, and tunnels that did not come about: a CONNECT is a request too.
    fn requests_total(&self) -> u64 {
        self.figures.requests + self.tunnels_unfinished()
    }

    /// Tunnels that failed, were blocked or did not end: what is left of such flows when those of
    /// HTTP requests are taken away.
    fn tunnels_unfinished(&self) -> u64 {
        let figures = self.figures;
        let unfinished = figures.failed + figures.blocked + figures.open + figures.interrupted;
        let answered = figures.ok + figures.error_status;
        unfinished.saturating_sub(figures.requests.saturating_sub(answered))
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
                "total": self.requests_total(),
                "ok": figures.ok,
                "error_status": figures.error_status,
                "failed": figures.failed,
                "blocked": figures.blocked,
                "open": figures.open,
                "interrupted": figures.interrupted,
                "tunnelled": self.tunnelled(),
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
                "complete": figures.lost_events == 0 && self.direct == 0 && self.gap.is_none(),
                "why": self.gap,
                "dropped_events": figures.lost_events,
                "truncated_bodies": figures.truncated_flows,
                "direct_connections_seen": self.direct,
                "danger_unverified": figures.danger_unverified,
                "redaction": if self.secrets_stored { "none" } else { "basic" },
            },
            "findings": self.findings.iter().map(finding_to_json).collect::<Vec<_>>(),
            "assertions": [],
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

/// The sentence of a failure, with its host unless that stands in it.
fn failure_text(group: &FailureGroup) -> String {
    match group.text.starts_with(&group.host) {
        true => group.text.clone(),
        false => format!("{}: {}", group.host, group.text),
    }
}

/// Which program it was, behind the flow that is named.
fn program_text(group: &FailureGroup) -> String {
    let program = group.program.as_deref().map(escape_line);
    program.map_or_else(String::new, |program| format!(", {program}"))
}

/// Failures with a finding of their own are told there.
fn is_told_apart(group: &FailureGroup) -> bool {
    !refuses_certificate(group) && !group.kind.starts_with("certificate_")
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
        "program": group.program,
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

#[cfg(test)]
mod tests {
    use store::{HostCount, Run, RunKind};
    use traffic::Timestamp;

    use super::*;

    fn figures() -> RunSummary {
        let id = "k7q2".parse().unwrap();
        let percentiles = Some(Percentiles {
            p50: 912.0,
            p95: 2_410.0,
        });
        RunSummary {
            run: Run {
                id,
                uuid: "0195".to_owned(),
                name: Some("fix-ci".to_owned()),
                argv: vec!["claude".to_owned()],
                kind: RunKind::Run,
                pid: 1,
                started_at: Timestamp(0),
                ended_at: Some(Timestamp(402_113_000)),
                exit_code: Some(0),
                signal: None,
                flows: 112,
            },
            requests: 47,
            ok: 43,
            error_status: 2,
            failed: 2,
            blocked: 1,
            open: 0,
            interrupted: 0,
            tunnels: 65,
            tunnel_bytes: 3_250_586,
            request_bytes: 251_904,
            response_bytes: 18_221,
            duration_ms: percentiles,
            first_byte_ms: percentiles,
            hosts: vec![HostCount {
                host: "api.anthropic.com".to_owned(),
                flows: 41,
                failed: 0,
            }],
            hosts_total: 3,
            slowest: vec![(store::FlowRef { run: id, seq: 31 }, 14_200.0)],
            lost_events: 0,
            truncated_flows: 1,
            danger_unverified: 0,
            failures: vec![
                FailureGroup {
                    host: "api.anthropic.com".to_owned(),
                    side: "client".to_owned(),
                    stage: "tls".to_owned(),
                    kind: "timed_out".to_owned(),
                    program: Some("python3.11\u{1b}[2J".to_owned()),
                    text: "no handshake within 10s".to_owned(),
                    flows: 1,
                    example: store::FlowRef { run: id, seq: 7 },
                },
                FailureGroup {
                    host: "pastebin.com".to_owned(),
                    side: "oriel".to_owned(),
                    stage: "route".to_owned(),
                    kind: "blocked".to_owned(),
                    program: None,
                    text: "pastebin.com:443 is blocked\u{1b}[2J".to_owned(),
                    flows: 1,
                    example: store::FlowRef { run: id, seq: 40 },
                },
            ],
        }
    }

    fn summary<'a>(figures: &'a RunSummary, findings: &'a [Finding]) -> Summary<'a> {
        Summary {
            figures,
            gap: None,
            ended: Some(Ended::Code(0)),
            timed_out: false,
            findings,
            direct: 2,
            secrets_stored: true,
        }
    }

    #[test]
    fn compact_says_what_went_wrong_first() {
        let figures = figures();
        let stream = Stream {
            is_terminal: true,
            pen: Pen::plain(),
            width: Some(80),
        };
        insta::assert_snapshot!(summary(&figures, &[]).render(SummaryForm::Compact, stream));
    }

    #[test]
    fn an_empty_run_has_its_reason_and_no_figures() {
        let mut figures = figures();
        figures.run.flows = 0;
        figures.failures.clear();
        let finding = Finding {
            code: "ORL0210",
            title: "No traffic reached oriel.".to_owned(),
            saw: vec!["agent (pid 7) opened 1 connection directly to 192.0.2.7:443".to_owned()],
            why: "it ignores HTTPS_PROXY".to_owned(),
            fix: vec!["one".to_owned(), "two".to_owned()],
        };
        let stream = Stream {
            is_terminal: true,
            pen: Pen::plain(),
            width: Some(60),
        };
        let findings = [finding];
        let summary = summary(&figures, &findings);
        insta::assert_snapshot!(summary.render(SummaryForm::Compact, stream));
        insta::assert_snapshot!(summary.render(SummaryForm::Line, stream));
    }

    #[test]
    fn a_gap_is_told_and_what_is_not_known_is_no_figure() {
        let mut figures = figures();
        figures.run.flows = 0;
        figures.failures.clear();
        figures.lost_events = 3;
        let summary = Summary {
            gap: Some("the disk is full"),
            ..summary(&figures, &[])
        };
        let stream = Stream {
            is_terminal: true,
            pen: Pen::plain(),
            width: Some(60),
        };
        insta::assert_snapshot!(summary.render(SummaryForm::Compact, stream), @r"
        ─ oriel ─ k7q2 fix-ci ────────────────── exit 0 · 6 m 42 s ─
          ! not seen   2 connections went past oriel
          ! gap        not all of the run is here: the disk is full
          ! gap        3 events could not be stored
          ▒ secrets    credentials are stored as they came (--redact none)
        ────────────────────────────────────────────────────────────
        ");
        insta::assert_snapshot!(summary.render(SummaryForm::Line, stream), @"oriel: k7q2 exit=0 time=402.1s incomplete=yes lost_events=3 not_seen=2 redact=none");
    }

    #[test]
    fn a_connect_that_failed_is_a_request_that_failed() {
        let figures = figures();
        let json = summary(&figures, &[]).to_json();
        // 45 of 47 requests were answered, so one of the three that were not was a tunnel.
        assert_eq!(json["requests"]["total"], 48);
        assert_eq!(json["requests"]["tunnelled"], 64);
    }
}
