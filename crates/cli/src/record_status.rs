//! How keeping the record goes: what waits for it, what is lost, what is wrong. Told by `/status` and
//! `/metrics`.

use std::fmt::Write as _;

use serde_json::{Value, json};
use store::Recorder;

/// The fields that `/status` tells of the store.
pub(crate) fn to_json(recorder: &Recorder) -> Value {
    let queued = recorder.queued();
    let spooled = recorder.spooled();
    let lost = recorder.losses();
    let trouble = recorder.trouble().or_else(|| recorder.detour());
    json!({
        "lost_events": lost.events,
        "lost_body_bytes": lost.body_bytes,
        "queued_events": queued.events,
        "queued_bytes": queued.bytes,
        "spool": {
            "bytes": spooled.bytes,
            "segments": spooled.segments,
            "flows": spooled.flows,
            "damaged": spooled.damaged,
        },
        "last_error": trouble.map(|trouble| trouble.in_one_line()),
    })
}

/// What `/metrics` tells.
pub(crate) fn to_openmetrics(recorder: &Recorder) -> String {
    let queued = recorder.queued();
    let spooled = recorder.spooled();
    let lost = recorder.losses();
    let is_up = recorder.trouble().is_none() && recorder.detour().is_none();
    let families = [
        (
            "up",
            "gauge",
            "1 if the database took what was written last.",
            u64::from(is_up),
        ),
        (
            "queue_events",
            "gauge",
            "Events that wait to be written.",
            queued.events,
        ),
        (
            "queue_bytes",
            "gauge",
            "Memory that these take.",
            queued.bytes,
        ),
        (
            "spool_bytes",
            "gauge",
            "Bytes of the files beside the database.",
            spooled.bytes,
        ),
        (
            "spool_segments",
            "gauge",
            "Files that wait to be merged into the database.",
            spooled.segments,
        ),
        (
            "spool_flows",
            "gauge",
            "Flows in these that the database does not have.",
            spooled.flows,
        ),
        (
            "spool_damaged",
            "gauge",
            "Files that could not be read to their end and were set aside.",
            spooled.damaged,
        ),
        (
            "lost_events",
            "counter",
            "Events that the store had no room for.",
            lost.events,
        ),
        (
            "lost_body_bytes",
            "counter",
            "Bytes of heads and bodies in these.",
            lost.body_bytes,
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, number) in families {
        let unit = match name.ends_with("_bytes") {
            true => format!("# UNIT oriel_store_{name} bytes\n"),
            false => String::new(),
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        let _infallible = write!(
            text,
            "# TYPE oriel_store_{name} {kind}\n{unit}# HELP oriel_store_{name} {help}\n\
             oriel_store_{name}{suffix} {number}\n"
        );
    }
    text
}
