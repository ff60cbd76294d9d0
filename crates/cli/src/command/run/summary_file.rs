//! The file that `--summary-file` names. It is written whatever becomes of a run: with all figures, or with
//! what is known without the record.

use std::cell::Cell;
use std::path::Path;

use serde_json::{Value, json};
use store::{Redaction, RunId};
use traffic::Timestamp;

use super::supervise::{Outcome, Stop};
use crate::args::Run;
use crate::assertion::judge;
use crate::clock::now;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::report;
use crate::problem::Problem;

/// Where the summary of a run goes, and whether it is there.
pub(super) struct SummaryFile<'a> {
    context: &'a Context,
    arguments: &'a Run,
    /// When the run was asked for.
    began: Timestamp,
    is_written: Cell<bool>,
}

impl<'a> SummaryFile<'a> {
    pub(super) fn new(context: &'a Context, arguments: &'a Run) -> Self {
        Self {
            context,
            arguments,
            began: now(),
            is_written: Cell::new(false),
        }
    }

    /// Writes a summary, if a file was asked for. That it fails is said and changes nothing: the code of
    /// the child is what counts now.
    pub(super) fn write(&self, summary: &Value) {
        self.is_written.set(true);
        let Some(path) = &self.arguments.summary_file else {
            return;
        };
        if let Err(error) = std::fs::write(path, format!("{summary}\n")) {
            report(self.context, &unwritable(path, &error));
        }
    }

    /// When the run was asked for.
    pub(super) fn began(&self) -> Timestamp {
        self.began
    }

    /// Writes what is known of a run that is not summed up, for the reason `why`, and gives it.
    pub(super) fn write_without_figures(
        &self,
        outcome: &Outcome,
        session: Option<RunId>,
        why: &str,
    ) -> Value {
        let mut summary = self.without_figures(why);
        summary["session"] = json!(session.map(|run| run.to_string()));
        summary["exit_code"] = json!(outcome.ended.code());
        summary["signal"] = json!(outcome.ended.signal());
        summary["timed_out"] = json!(outcome.stopped == Some(Stop::Timeout));
        let direct = outcome.sightings.outward();
        summary["capture"]["direct_connections_seen"] = json!(direct);
        let _said_by_others = judge(&self.arguments.fail_on, &mut summary);
        self.write(&summary);
        summary
    }

    /// Writes what is known of a run that failed, unless its summary was written before.
    pub(super) fn write_failed(&self, problem: &Problem) {
        if !self.is_written.get() {
            let mut summary = self.without_figures(&problem.what);
            summary["exit_code"] = json!(problem.exit.code());
            self.write(&summary);
        }
    }

    /// Schema `oriel.run.summary/1`, with null for what only the record knows.
    fn without_figures(&self, why: &str) -> Value {
        let ended = now();
        let words = self.arguments.command.iter();
        let words: Vec<String> = words
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a run of 285 years is exact to the microsecond"
        )]
        let millis = ended.micros_since(self.began).max(0) as f64 / 1000.0;
        json!({
            "schema": "oriel.run.summary/1",
            "session": null,
            "uuid": null,
            "name": self.arguments.name,
            // Whether credentials may be shown is a setting, and there may be none yet.
            "argv": Redaction::Basic.mask_arguments(&words),
            "exit_code": null,
            "signal": null,
            "timed_out": false,
            "started_at": store::json::rfc3339(self.began),
            "duration_ms": millis,
            "requests": null,
            "sizes": null,
            "latency_ms": null,
            "hosts": null,
            "failures": null,
            "capture": {
                "complete": false,
                "why": why,
                "dropped_events": null,
                "truncated_bodies": null,
                "direct_connections_seen": null,
                "danger_unverified": null,
                "redaction": null,
            },
            "findings": [],
            "assertions": [],
        })
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Problem {
    let what = format!("cannot write the summary to {}", path.display());
    Problem::new("ORL0008", Exit::Storage, what).why(error.to_string())
}
