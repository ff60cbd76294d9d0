//! What `oriel doctor` and `oriel ca verify` find out. Every mark of a tool is a request that was
//! made just now, over loopback, against an upstream that lives as long as the command; nothing is
//! recorded, and nothing but a folder of our own is written.
//!
//! The rest are checks without traffic: each gives [`Check`]s, with why and how to fix it.

mod bench;
mod canary;
mod environment;
mod overrides;
mod ports;
mod process;
mod repair;
mod report;
mod storage;
mod streams;
mod tools;
mod trust;
mod verdict;

pub(crate) use bench::{ToolReport, examine, for_probes};
pub(crate) use repair::Repair;
pub(crate) use report::{Diagnosis, check_lines, matrix, tool_document};
pub(crate) use streams::checks as stream_checks;
pub(crate) use tools::{Choice, NAMES};

use crate::context::Context;
use crate::settings::Settings;
use crate::terminal::Glyph;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Ok,
    /// It could not be found out, or is only to be known.
    Note,
    Warning,
    Failed,
}

/// Where a check belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Area {
    Environment,
    Ports,
    Trust,
    Storage,
    Clock,
    Network,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) area: Area,
    pub(crate) state: State,
    pub(crate) text: String,
    /// The code that `oriel explain` knows, of what is not well.
    pub(crate) code: Option<&'static str>,
    pub(crate) fix: Vec<String>,
    /// What `--fix` does about it.
    pub(crate) repair: Option<Repair>,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn glyph(self) -> Option<Glyph> {
        match self {
            Self::Ok => Some(Glyph::Ok),
            Self::Note => None,
            Self::Warning => Some(Glyph::Warning),
            Self::Failed => Some(Glyph::Failed),
        }
    }
}

impl Area {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Ports => "ports",
            Self::Trust => "trust",
            Self::Storage => "storage",
            Self::Clock => "clock",
            Self::Network => "network",
        }
    }
}

impl Check {
    fn new(area: Area, state: State, text: impl Into<String>) -> Self {
        Self {
            area,
            state,
            text: text.into(),
            code: None,
            fix: Vec::new(),
            repair: None,
        }
    }

    fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix.push(fix.into());
        self
    }

    /// A fix that can be done by itself.
    fn repair(mut self, repair: Repair) -> Self {
        self.fix.push(repair.command());
        self.repair = Some(repair);
        self
    }

    /// A problem as a check that failed.
    fn of_problem(area: Area, problem: &crate::problem::Problem) -> Self {
        let text = match &problem.why {
            Some(why) => format!("{}: {why}", problem.what),
            None => problem.what.clone(),
        };
        Self {
            area,
            state: State::Failed,
            text,
            code: Some(problem.code),
            fix: problem.fix.clone(),
            repair: None,
        }
    }
}

/// All checks that need no tool. `settings` are those of `oriel serve`, `of_run` those of a run.
pub(crate) fn checks(context: &Context, settings: &Settings, of_run: &Settings) -> Vec<Check> {
    // What programs read is in UTC.
    let zone = match context.json() {
        true => jiff::tz::TimeZone::UTC,
        false => context.zone(),
    };
    let when = trust::When {
        now: crate::clock::now(),
        zone: &zone,
    };
    let mut checks = environment::checks(&context.environment, settings);
    checks.extend(ports::checks(settings));
    checks.extend(trust::checks(settings, when));
    checks.extend(storage::checks(settings));
    checks.extend(trust::clock(settings, when));
    checks.extend(ports::upstream_proxy(of_run));
    checks
}
