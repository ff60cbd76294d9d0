//! `oriel status`: whether the service runs, where, and how it does.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use traffic::Timestamp;

use crate::clock::now;
use crate::context::Context;
use crate::escape::escape_line;
use crate::exit::Exit;
use crate::free_space::free_bytes;
use crate::limits::{EXPIRES_SOON_DAYS, FREE_BYTES_WARN, STATUS_TIMEOUT};
use crate::output::{print, print_json};
use crate::problem::Problem;
use crate::quantity::{bytes, plural};
use crate::service::{Place, ask};
use crate::terminal::{Colour, Glyph, Pen};

const DAY_MICROS: i64 = 86_400_000_000;

pub(crate) fn run(context: &Context) -> Result<Exit, Problem> {
    let place = Place::of(&context.paths);
    let mut status = ask::status(&place, STATUS_TIMEOUT)?;
    if let Some(status) = &mut status {
        add_record(status);
        add_warnings(status, now());
    }
    let exit = match status {
        Some(_) => Exit::Success,
        None => Exit::NotRunning,
    };
    let pen = context.terminal.stdout.pen;
    match status {
        Some(status) if context.json() => print_json(&status)?,
        Some(status) => print(&render(&status, now(), pen))?,
        None if context.json() => print_json(&down())?,
        None => print(&format!(
            "{} not running      start it: oriel start      (oriel run works without it)\n",
            if pen.ascii() { "o" } else { "○" }
        ))?,
    }
    Ok(exit)
}

/// The status of a service that does not run: the fields of one that does, of which nothing is known.
fn down() -> Value {
    json!({
        "schema": "oriel.status/1",
        "running": false,
        "pid": null,
        "version": null,
        "uptime_ms": null,
        "started_at": null,
        "listeners": [],
        "session": null,
        "ca": null,
        "store": null,
        "connections": null,
        "log": null,
        "warnings": [],
    })
}

/// Adds what the database holds. It is looked at here: the service is not to count flows each time that
/// somebody watches it.
fn add_record(status: &mut Value) {
    let store = &mut status["store"];
    let Some(path) = store["path"].as_str().map(PathBuf::from) else {
        return;
    };
    // What is wrong with the database the service has told.
    let file = store::file_status(&path).ok();
    let oldest = file.as_ref().and_then(|file| file.span);
    store["bytes"] = json!(file.as_ref().map(|file| file.bytes));
    store["flows"] = json!(file.as_ref().map(|file| file.flows));
    store["oldest"] = json!(oldest.map(|(oldest, _)| store::json::rfc3339(oldest)));
    store["disk_free_bytes"] = json!(free_bytes(&path));
}

/// Adds what is to be done soon.
fn add_warnings(status: &mut Value, now: Timestamp) {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, message: String, fix: &str| {
        warnings.push(json!({"code": code, "message": message, "fix": fix}));
    };
    let free = status["store"]["disk_free_bytes"].as_u64();
    if let Some(free) = free.filter(|free| *free < FREE_BYTES_WARN) {
        let fix = "oriel db prune --older-than 14d";
        warn("ORL0227", format!("the disk has {} left", bytes(free)), fix);
    }
    match days_left(&status["ca"], now) {
        Some(left) if left < 0 => {
            let message = "the certificate authority has expired".to_owned();
            warn("ORL0303", message, "oriel ca rotate");
        }
        Some(left) if left < EXPIRES_SOON_DAYS => {
            let message = format!("the certificate authority expires in {left} d");
            warn("ORL0224", message, "oriel ca rotate");
        }
        _ => {}
    }
    status["warnings"] = Value::Array(warnings);
}

/// Whole days that an authority is valid, fewer than none if it has expired.
fn days_left(authority: &Value, now: Timestamp) -> Option<i64> {
    let not_after = moment_of(&authority["not_after"])?;
    Some(not_after.micros_since(now).div_euclid(DAY_MICROS))
}

/// A moment in JSON.
fn moment_of(value: &Value) -> Option<Timestamp> {
    let moment: jiff::Timestamp = value.as_str()?.parse().ok()?;
    Some(Timestamp(moment.as_microsecond()))
}

fn render(status: &Value, now: Timestamp, pen: Pen) -> String {
    let dot = pen.dot();
    let mut text = format!(
        "{} running   pid {} {dot} up {} {dot} oriel {}\n",
        pen.paint(Colour::Green, pen.glyph(Glyph::Live)),
        pid_of(status),
        up(status["uptime_ms"].as_u64().unwrap_or_default()),
        escape_line(status["version"].as_str().unwrap_or_default()),
    );
    text.push_str(&places(status));
    if let Some(connections) = status["connections"].as_u64() {
        let _infallible = writeln!(
            text,
            "  traffic   {} open",
            plural(connections, "connection")
        );
    }
    text.push_str(&stored(status, now, pen));
    text.push_str(&authority(&status["ca"], now, pen));
    for warning in status["warnings"].as_array().into_iter().flatten() {
        let word = |key: &str| escape_line(warning[key].as_str().unwrap_or_default());
        let mark = pen.paint(Colour::Yellow, pen.glyph(Glyph::Warning));
        let _infallible = writeln!(
            text,
            "  {mark} {}      fix: {}",
            word("message"),
            word("fix")
        );
    }
    text
}

/// Whose certificates clients see, and for how long yet.
fn authority(authority: &Value, now: Timestamp, pen: Pen) -> String {
    let (Some(subject), Some(left)) = (authority["subject"].as_str(), days_left(authority, now))
    else {
        return String::new();
    };
    let until = match left < 0 {
        true => "has expired".to_owned(),
        false => format!("expires in {left} d"),
    };
    format!(
        "  ca        {} {} {until}\n",
        escape_line(subject),
        pen.dot()
    )
}

/// What is kept, and what could not be.
fn stored(status: &Value, now: Timestamp, pen: Pen) -> String {
    let store = &status["store"];
    let Some(path) = store["path"].as_str() else {
        return "  store     nothing is stored\n".to_owned();
    };
    let dot = pen.dot();
    let session = status["session"].as_str().unwrap_or_default();
    let mut text = format!(
        "  store     {} {dot} session {session}\n",
        escape_line(path)
    );
    if let (Some(size), Some(flows)) = (store["bytes"].as_u64(), store["flows"].as_u64()) {
        let _infallible = write!(
            text,
            "            {} {dot} {}",
            bytes(size),
            plural(flows, "flow")
        );
        if let Some(oldest) = moment_of(&store["oldest"]) {
            let age = now.micros_since(oldest).max(0) / 1000;
            let _infallible = write!(text, " {dot} the oldest {} ago", up(age.unsigned_abs()));
        }
        text.push('\n');
    }
    let count = |key: &str| store[key].as_u64().unwrap_or_default();
    if count("queued_events") > 0 {
        let events = plural(count("queued_events"), "event");
        let size = bytes(count("queued_bytes"));
        let _infallible = writeln!(text, "  queue     {events} {dot} {size}");
    }
    text.push_str(&spooled(store, pen));
    let warning = pen.paint(Colour::Yellow, pen.glyph(Glyph::Warning));
    if count("lost_events") > 0 {
        let events = plural(count("lost_events"), "event");
        let _infallible = writeln!(text, "  {warning} {events} could not be stored");
    }
    text.push_str(&failing(status, pen));
    text.push_str(&archived(&store["archive"], pen));
    text
}

/// Why nothing can be written to the database now.
pub(crate) fn failing(status: &Value, pen: Pen) -> String {
    let Some(error) = status["store"]["last_error"].as_str() else {
        return String::new();
    };
    let warning = pen.paint(Colour::Yellow, pen.glyph(Glyph::Warning));
    format!("  {warning} cannot write now: {}\n", escape_line(error))
}

/// What waits beside the database.
fn spooled(store: &Value, pen: Pen) -> String {
    let count = |key: &str| store["spool"][key].as_u64().unwrap_or_default();
    let mut text = String::new();
    if count("segments") > 0 {
        let files = plural(count("segments"), "file");
        let (flows, size) = (plural(count("flows"), "flow"), bytes(count("bytes")));
        let dot = pen.dot();
        let _infallible = writeln!(text, "  spool     {flows} {dot} {files} {dot} {size}");
    }
    if count("damaged") > 0 {
        let files = plural(count("damaged"), "file");
        let warning = pen.paint(Colour::Yellow, pen.glyph(Glyph::Warning));
        let _infallible = writeln!(
            text,
            "  {warning} {files} of the spool could not be read to the end (spool/*.damaged)"
        );
    }
    text
}

/// The archive, what waits for it, and why.
fn archived(archive: &Value, pen: Pen) -> String {
    let Some(url) = archive["url"].as_str() else {
        return String::new();
    };
    let count = |key: &str| archive[key].as_u64().unwrap_or_default();
    let dot = pen.dot();
    let flows = plural(count("waiting_flows"), "flow");
    let waiting = match archive["state"].as_str() {
        Some("elsewhere") => "another oriel copies".to_owned(),
        _ if count("waiting_flows") == 0 => "has everything".to_owned(),
        _ => format!("{flows} wait in {}", bytes(count("outbox_bytes"))),
    };
    let mut text = format!("  archive   {} {dot} {waiting}\n", escape_line(url));
    let warning = pen.paint(Colour::Yellow, pen.glyph(Glyph::Warning));
    if count("refused_flows") > 0 {
        let flows = plural(count("refused_flows"), "flow");
        let _infallible = writeln!(text, "  {warning} the archive refuses {flows}");
    }
    if archive["state"].as_str() == Some("failing")
        && let Some(error) = archive["last_error"].as_str()
    {
        let _infallible = writeln!(text, "  {warning} cannot copy now: {}", escape_line(error));
    }
    text
}

/// Where it listens and where its log is, a line each.
pub(crate) fn places(status: &Value) -> String {
    let mut text = String::new();
    let listeners = status["listeners"].as_array();
    for listener in listeners.into_iter().flatten() {
        let word = |key: &str| escape_line(listener[key].as_str().unwrap_or_default());
        let _infallible = match listener["to"].as_str() {
            Some(to) => writeln!(
                text,
                "  {:9} {} -> {}",
                word("kind"),
                word("addr"),
                escape_line(to)
            ),
            None => writeln!(text, "  {:9} {}", word("kind"), word("addr")),
        };
    }
    if let Some(log) = status["log"].as_str() {
        let _infallible = writeln!(text, "  log       {}", escape_line(log));
    }
    text
}

/// The process id in a status.
pub(crate) fn pid_of(status: &Value) -> u64 {
    status["pid"].as_u64().unwrap_or_default()
}

/// A time of days, hours and minutes, or of seconds if it is short.
fn up(millis: u64) -> String {
    let (seconds, minutes) = (millis / 1000, millis / 60_000);
    let (hours, days) = (minutes / 60, minutes / (24 * 60));
    match (days, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{:02}:{:02}", hours, minutes % 60),
        _ => format!("{days} d {:02}:{:02}", hours % 24, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_shown_with_what_is_wrong() {
        let now = moment_of(&json!("2026-03-02T09:00:00Z")).unwrap();
        let mut status = serde_json::json!({
            "pid": 4021, "version": "0.1.0", "uptime_ms": 3 * 86_400_000 + 4 * 3_600_000 + 660_000,
            "listeners": [
                {"kind": "proxy", "addr": "127.0.0.1:6743"},
                {"kind": "reverse", "addr": "127.0.0.1:6746", "to": "http://127.0.0.1:4000"},
                {"kind": "admin", "addr": "127.0.0.1:6744"},
            ],
            "connections": 1, "session": "k7q2", "log": "/state/oriel.log",
            "ca": {"subject": "CN=oriel", "not_after": "2026-03-21T00:00:00Z"},
            "store": {"path": "/data/oriel.db", "bytes": 2_254_857_830_u64, "flows": 418_211,
                "oldest": "2026-01-31T00:00:00Z", "disk_free_bytes": 500_000_000, "lost_events": 2, "queued_events": 3,
                "queued_bytes": 2048, "last_error": "the disk is full",
                "spool": {"bytes": 5_000_000, "segments": 2, "flows": 412, "damaged": 1},
                "archive": {"url": "postgres://me@db/oriel", "state": "failing", "waiting_flows": 7,
                    "outbox_bytes": 4096, "refused_flows": 1, "last_error": "connection refused"}},
        });
        add_warnings(&mut status, now);
        assert_eq!(status["warnings"][0]["code"], "ORL0227");
        insta::assert_snapshot!(render(&status, now, Pen::plain()), @r"
        ● running   pid 4021 · up 3 d 04:11 · oriel 0.1.0
          proxy     127.0.0.1:6743
          reverse   127.0.0.1:6746 -> http://127.0.0.1:4000
          admin     127.0.0.1:6744
          log       /state/oriel.log
          traffic   1 connection open
          store     /data/oriel.db · session k7q2
                    2.0 GiB · 418,211 flows · the oldest 30 d 09:00 ago
          queue     3 events · 2.0 KiB
          spool     412 flows · 2 files · 4.7 MiB
          ! 1 file of the spool could not be read to the end (spool/*.damaged)
          ! 2 events could not be stored
          ! cannot write now: the disk is full
          archive   postgres://me@db/oriel · 7 flows wait in 4.0 KiB
          ! the archive refuses 1 flow
          ! cannot copy now: connection refused
          ca        CN=oriel · expires in 18 d
          ! the disk has 476.8 MiB left      fix: oriel db prune --older-than 14d
          ! the certificate authority expires in 18 d      fix: oriel ca rotate
        ");
        status["ca"]["not_after"] = json!("2026-03-01T00:00:00Z");
        status["store"]["disk_free_bytes"] = json!(u64::MAX);
        add_warnings(&mut status, now);
        let warnings = status["warnings"].as_array().unwrap();
        assert_eq!(warnings.len(), 1, "{status}");
        assert_eq!(warnings[0]["code"], "ORL0303");
    }

    #[test]
    fn times_are_read_at_a_glance() {
        for (millis, expected) in [
            (900, "0 s"),
            (59_999, "59 s"),
            (3_661_000, "01:01"),
            (90_000_000, "1 d 01:00"),
        ] {
            assert_eq!(up(millis), expected);
        }
    }
}
