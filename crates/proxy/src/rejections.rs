//! Remembers which programs refuse our certificate for which hosts: to say so once it is plain
//! that they will not take it, and, where that is switched on, to leave those hosts unopened for a
//! while.
//!
//! Where it stands: beside the TLS handshake with clients. Only a client that says that it refuses
//! the certificate counts, with an alert; one that goes away without a word may have had another
//! reason. It remembers nothing across restarts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::{CertificateRefused, Host, ProcessCell, ProcessInfo, Timestamp};

use crate::config::{AutoBypass, Rejections as Config};
use crate::limits::{ACCEPTED_MAX, REJECTIONS_FORGOTTEN, REJECTIONS_MAX};
use crate::tls::der::Civil;

/// Microseconds by which the start of one process may differ from look-up to look-up: it is known
/// within tens of milliseconds. No number is given anew so soon.
const SAME_START_US: u64 = 1_000_000;

/// What is remembered. One for a proxy: it outlasts reloads.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    refused: HashMap<Refusing, Count>,
    /// The processes of the latest connections whose clients took our certificate.
    accepted: VecDeque<ProcessCell>,
}

/// A program, by its path or name, and the host for which it refuses our certificate. A program
/// and not a process: a tool that is started for each request is one that refuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Refusing {
    program: Option<String>,
    host: Host,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    times: u32,
    last: Instant,
    bypass: Option<Bypass>,
}

#[derive(Clone, Copy, Debug)]
struct Bypass {
    ends: Instant,
    until: Timestamp,
}

/// What a refusal means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The same process took our certificate for another connection.
    pub(crate) pinned: bool,
    /// It is time to say that the program refuses.
    pub(crate) told: Option<CertificateRefused>,
}

impl Rejections {
    /// A client took our certificate. Its process need not be known yet.
    pub(crate) fn accepted(&self, process: Option<&ProcessCell>) {
        let Some(process) = process else {
            return;
        };
        let mut state = self.state.lock();
        if state.accepted.len() >= ACCEPTED_MAX {
            state.accepted.pop_front();
        }
        state.accepted.push_back(process.clone());
    }

    /// A client refused our certificate for this host.
    pub(crate) fn refused(
        &self,
        host: &Host,
        process: Option<&ProcessInfo>,
        config: &Config,
        at: Timestamp,
    ) -> Refused {
        let mut state = self.state.lock();
        let pinned = process.is_some_and(|process| state.has_accepted(process));
        let key = Refusing {
            program: process.map(program),
            host: host.clone(),
        };
        let now = Instant::now();
        let count = state.count(key.clone(), now);
        count.times = count.times.saturating_add(1);
        count.last = now;
        if count.times != config.times.get() {
            return Refused { pinned, told: None };
        }
        let known = match config.auto_bypass {
            AutoBypass::Off => false,
            AutoBypass::Process => process.is_some(),
            AutoBypass::Host => true,
        };
        count.bypass = known.then(|| Bypass {
            ends: now + config.bypass_for,
            until: after(at, config.bypass_for),
        });
        let told = CertificateRefused {
            at,
            host: key.host,
            program: key.program,
            times: count.times,
            bypassed_until: count.bypass.map(|bypass| bypass.until),
        };
        Refused {
            pinned,
            told: Some(told),
        }
    }

    /// Whether any client refused our certificate for this host. Who asks for it then is looked up
    /// before the connection goes on: one that refuses is gone soon, and with it its name.
    pub(crate) fn knows(&self, host: &Host) -> bool {
        let state = self.state.lock();
        state.refused.keys().any(|key| key.host == *host)
    }

    /// Why this host passes unopened for this process, if it does.
    pub(crate) fn bypass(
        &self,
        host: &Host,
        process: Option<&ProcessInfo>,
        scope: AutoBypass,
    ) -> Option<String> {
        let (now, own) = (Instant::now(), process.map(program));
        let state = self.state.lock();
        let mut entries = state.refused.iter();
        let (key, count) = entries.find(|(key, count)| {
            let is_meant = match scope {
                AutoBypass::Off => false,
                AutoBypass::Process => own.is_some() && key.program == own,
                AutoBypass::Host => true,
            };
            is_meant && key.host == *host && count.is_bypassed(now)
        })?;
        let until = Civil::from(count.bypass?.until);
        Some(format!(
            "intercept.auto_bypass until {until}: {} refused oriel's certificate {} times",
            key.program.as_deref().unwrap_or("an unknown program"),
            count.times,
        ))
    }
}

impl State {
    /// The count of a program and host, begun anew if the last refusal is long past or its bypass
    /// has ended.
    fn count(&mut self, key: Refusing, now: Instant) -> &mut Count {
        if self.refused.len() >= REJECTIONS_MAX && !self.refused.contains_key(&key) {
            let entries = self.refused.iter();
            let oldest = entries.min_by_key(|(_, count)| count.last);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.refused.remove(&oldest);
            }
        }
        let fresh = Count {
            times: 0,
            last: now,
            bypass: None,
        };
        let count = self.refused.entry(key).or_insert(fresh);
        let is_past = now.duration_since(count.last) > REJECTIONS_FORGOTTEN;
        let has_ended = count.bypass.is_some_and(|bypass| bypass.ends <= now);
        if is_past || has_ended {
            *count = fresh;
        }
        count
    }

    /// Whether this very process took our certificate on a connection that is remembered. Of a
    /// number that was given anew, the start tells the two processes apart.
    fn has_accepted(&self, process: &ProcessInfo) -> bool {
        let began = |process: &ProcessInfo| process.started_at.map_or(0, |at| at.0);
        let same = |known: &ProcessInfo| {
            let apart = began(known).abs_diff(began(process));
            known.pid == process.pid && apart < SAME_START_US
        };
        let mut known = self.accepted.iter().filter_map(ProcessCell::get);
        known.any(|answer| answer.as_ref().is_ok_and(|known| same(known)))
    }
}

impl Count {
    fn is_bypassed(&self, now: Instant) -> bool {
        self.bypass.is_some_and(|bypass| now < bypass.ends)
    }
}

/// The path of a process's program, or its name where the path is not known.
fn program(process: &ProcessInfo) -> String {
    let path = process.exe_path.as_ref();
    path.unwrap_or(&process.exe_name).clone()
}

fn after(at: Timestamp, period: Duration) -> Timestamp {
    let micros = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
    Timestamp(at.0.saturating_add(micros))
}

#[cfg(test)]
mod tests;
