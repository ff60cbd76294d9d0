//! How a run ends: what it recorded is made durable, summed up and said.

use rustix::process::Signal;
use serde_json::Value;
use store::{EndRun, Recorder, Run, RunKind, RunSummary, StoreError};
use tokio::time::Instant;

use super::Job;
use super::supervise::{Outcome, Stop, broken};
use crate::args::SummaryForm;
use crate::assertion::judge;
use crate::child::Ended;
use crate::clock::now;
use crate::config::values::Redact;
use crate::diagnosis::{self, Circumstances, Finding};
use crate::exit::Exit;
use crate::limits::{SHARED_SIGNAL, STORE_FLUSH};
use crate::output::{report, say, say_line};
use crate::problem::Problem;
use crate::signals::{Came, Signals};
use crate::store_problem::store_problem;
use crate::summary::Summary;
use crate::wiring::{Recording, Unsummed};

impl Job<'_> {
    /// Makes everything durable and says what it was. A second Ctrl-C skips it; the first one may have ended the
    /// child, and be heard by us after that.
    pub(super) async fn finish(
        &self,
        outcome: Outcome,
        recording: Option<Recording>,
        signals: &mut Signals,
        elsewhere: bool,
    ) -> Result<Exit, Problem> {
        let exit = outcome.ended.exit();
        let Some(recording) = recording else {
            let why = "nothing is stored (--no-capture)";
            self.summary_file.write_without_figures(&outcome, None, why);
            return Ok(exit);
        };
        let recorder = recording.recorder().clone();
        let session = Some(recording.run());
        let figures = tokio::select! {
            figures = close(recording, outcome.ended) => figures,
            came = skip(signals) => {
                tracing::debug!(?came, "the summary was skipped");
                let why = "it was not waited for the end";
                self.summary_file.write_without_figures(&outcome, session, why);
                return Ok(exit);
            }
        };
        let hole = match (&outcome.stopped, &figures) {
            (Some(Stop::Broken(why)), _) => Some(why.clone()),
            (_, Err(unsummed)) => Some(unsummed.problem.what.clone()),
            (_, Ok(_)) => broken(&recorder),
        };
        let failed = match &figures {
            Ok(figures) => self.tell(&outcome, figures, None, elsewhere),
            Err(Unsummed { problem, stored }) => match stored {
                Some(stored) => self.tell(&outcome, stored, Some(&problem.what), elsewhere),
                None => self.tell_without_figures(&outcome, &recorder, &problem.what),
            },
        };
        match (hole, figures) {
            (Some(why), _) if self.arguments.strict => return Err(self.incomplete(&outcome, why)),
            // stderr of a program has one document, and that error names this one.
            (_, Err(_)) if self.context.json() && !failed.is_empty() => {}
            (_, Err(unsummed)) => report(self.context, &unsummed.problem),
            (_, Ok(_)) => {}
        }
        if failed.is_empty() {
            return Ok(exit);
        }
        Err(
            Problem::new("ORL0206", Exit::FailedOn, "the run is to fail on this")
                .why(failed.join("; "))
                .fix(format!("oriel flows --session {}", recorder.run())),
        )
    }

    /// Says what the run sums up to, where that is wanted, and gives what it is to fail on. With a gap there is
    /// more that is not known.
    fn tell(
        &self,
        outcome: &Outcome,
        figures: &RunSummary,
        gap: Option<&str>,
        elsewhere: bool,
    ) -> Vec<String> {
        let findings = self.findings(outcome, figures, elsewhere || gap.is_some());
        let summary = Summary {
            figures,
            gap,
            ended: Some(outcome.ended),
            timed_out: outcome.stopped == Some(Stop::Timeout),
            findings: &findings,
            direct: outcome.sightings.outward(),
            secrets_stored: self.settings.redact.value == Redact::None,
        };
        let mut document = summary.to_json();
        let failed = self.failed(outcome, &mut document);
        self.summary_file.write(&document);
        self.say_summary(&document, &summary, !failed.is_empty());
        failed
    }

    /// Says what is known of a run of which nothing can be read.
    fn tell_without_figures(
        &self,
        outcome: &Outcome,
        recorder: &Recorder,
        why: &str,
    ) -> Vec<String> {
        let run = recorder.run();
        let mut document = self
            .summary_file
            .write_without_figures(outcome, Some(run), why);
        let figures = RunSummary {
            lost_events: recorder.losses().events,
            ..nothing_of(Run {
                id: run,
                uuid: String::new(),
                name: self.arguments.name.clone(),
                argv: self.program.words(),
                kind: RunKind::Run,
                pid: std::process::id(),
                started_at: self.summary_file.began(),
                ended_at: Some(now()),
                exit_code: outcome.ended.code(),
                signal: outcome.ended.signal(),
                flows: 0,
            })
        };
        let summary = Summary {
            figures: &figures,
            gap: Some(why),
            ended: Some(outcome.ended),
            timed_out: outcome.stopped == Some(Stop::Timeout),
            findings: &[],
            direct: outcome.sightings.outward(),
            secrets_stored: self.settings.redact.value == Redact::None,
        };
        let failed = self.failed(outcome, &mut document);
        self.say_summary(&document, &summary, !failed.is_empty());
        failed
    }

    /// Notes in the summary what became of the conditions that were asked for, and gives those that fail a run whose
    /// command succeeded.
    fn failed(&self, outcome: &Outcome, document: &mut Value) -> Vec<String> {
        let mut failed = judge(&self.arguments.fail_on, document);
        if outcome.ended.exit().code() != 0 {
            failed.clear();
        }
        failed
    }

    /// Says a summary in the form that is wanted.
    fn say_summary(&self, document: &Value, summary: &Summary<'_>, fails: bool) {
        let form = self.arguments.summary;
        let is_auto = form == SummaryForm::Auto;
        if is_auto && self.context.global.quiet {
            return;
        }
        let is_json = is_auto && self.context.json();
        if is_json && (summary.gap.is_some() || fails) {
            // stderr has one document, and the error comes yet.
            return;
        }
        match is_json {
            true => say_line(&document.to_string()),
            false => say(&summary.render(form, self.context.terminal.stderr)),
        }
    }

    fn findings(&self, outcome: &Outcome, figures: &RunSummary, elsewhere: bool) -> Vec<Finding> {
        let circumstances = Circumstances {
            environment: &self.context.environment,
            sightings: &outcome.sightings,
            program: &self.program.name(),
            proxy_set: self.arguments.env_mode.sets_proxy(),
            base_urls_set: self.arguments.env_mode.sets_base_urls(),
            trust_set: !self.arguments.no_ca_env,
            include_loopback: self.arguments.include_loopback,
        };
        let mut findings = diagnosis::distrusted(figures, &circumstances);
        findings.extend(diagnosis::unverified(figures, &circumstances));
        findings.extend(diagnosis::upstream_proxy(figures, &circumstances));
        // What goes to the gateway of a service is in the service's run.
        if figures.run.flows == 0 && !elsewhere {
            findings.push(diagnosis::nothing_captured(&circumstances));
        }
        findings
    }

    /// The problem of a strict run whose record has a hole.
    fn incomplete(&self, outcome: &Outcome, why: String) -> Problem {
        let name = self.program.name();
        let what = match outcome.stopped {
            Some(Stop::Broken(_)) => format!("capturing broke, so {name} was stopped"),
            Some(Stop::Timeout) | None => format!("capturing broke while {name} ran"),
        };
        Problem::new("ORL0204", Exit::BeforeChild, what)
            .why(why)
            .fix("let it go on with what can be recorded: leave out --strict")
    }
}

/// The child was not started: its run has ended before it began.
pub(super) fn abandon(recording: Option<Recording>, problem: Problem) -> Problem {
    if let Some(recording) = recording {
        let ended = recording.end(EndRun {
            ended_at: now(),
            exit_code: Some(i32::from(problem.exit.code())),
            signal: None,
        });
        if let Err(error) = ended {
            tracing::warn!(error = %error.what, "the run could not be ended");
        }
    }
    problem
}

/// Ends the run in the store and reads what it sums up to.
async fn close(recording: Recording, ended: Ended) -> Result<RunSummary, Unsummed> {
    let recorder = recording.recorder().clone();
    let closing = tokio::task::spawn_blocking(move || {
        recording.sum_up(EndRun {
            ended_at: now(),
            exit_code: ended.code(),
            signal: ended.signal(),
        })
    });
    match tokio::time::timeout(STORE_FLUSH, closing).await {
        Ok(Ok(figures)) => figures,
        Ok(Err(error)) => Err(Problem::bug(format!("the store ended by itself: {error}")).into()),
        Err(_late) => Err(unsettled(&recorder).into()),
    }
}

/// A sum of nothing, for a run of which nothing can be read.
fn nothing_of(run: Run) -> RunSummary {
    RunSummary {
        run,
        requests: 0,
        ok: 0,
        error_status: 0,
        failed: 0,
        blocked: 0,
        open: 0,
        interrupted: 0,
        tunnels: 0,
        tunnel_bytes: 0,
        request_bytes: 0,
        response_bytes: 0,
        duration_ms: None,
        first_byte_ms: None,
        hosts: Vec::new(),
        hosts_total: 0,
        slowest: Vec::new(),
        lost_events: 0,
        truncated_flows: 0,
        danger_unverified: 0,
        failures: Vec::new(),
    }
}

/// The problem of a store that did not take what was queued.
fn unsettled(recorder: &Recorder) -> Problem {
    store_problem(&recorder.trouble().unwrap_or(StoreError::Deadline))
}

/// Done when the person does not want to wait. The terminal sends one signal to the child and to us: the end of
/// the one may be seen before the other is.
async fn skip(signals: &mut Signals) -> Came {
    let child_ended = Instant::now();
    loop {
        let came = signals.next().await;
        let is_second = child_ended.elapsed() > SHARED_SIGNAL;
        if is_second && matches!(came, Came::Interrupt | Came::ForChild(Signal::TERM)) {
            return came;
        }
    }
}
