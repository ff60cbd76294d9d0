//! The certificates that oriel shows, and whether the clock fits them.

use std::path::Path;

use proxy::Authority;
use proxy::tls::authority::read_certificates;
use proxy::tls::chain::{Link, links};
use traffic::Timestamp;

use super::storage::open_to_others;
use super::{Area, Check, Repair, State};
use crate::authority::{AuthorityFiles, is_own, load};
use crate::flow_text::{Clock, moment};
use crate::limits::EXPIRES_SOON_DAYS;
use crate::paths::{ca_folder, database};
use crate::settings::Settings;

/// The time, and the zone that it is told in.
#[derive(Clone, Copy)]
pub(super) struct When<'a> {
    pub(super) now: Timestamp,
    pub(super) zone: &'a jiff::tz::TimeZone,
}

impl When<'_> {
    fn moment(self, at: Timestamp) -> String {
        moment(at, self.now, self.zone, Clock::Full)
    }
}

pub(super) fn checks(settings: &Settings, when: When<'_>) -> Vec<Check> {
    let mut checks = of_authority(settings, when);
    let own = settings.tls.value.iter();
    let reverse = settings.reverse.value.iter();
    let given = own.chain(reverse.filter_map(|one| one.tls.as_ref()));
    for path in given.filter_map(|tls| tls.certificate.as_deref()) {
        checks.push(of_file(&LISTENER, path, when).0);
    }
    for shown in &settings.client_certificates.value {
        checks.push(of_file(&CLIENT, &shown.certificate, when).0);
    }
    let routes = settings.upstream_proxy_routes.value.iter();
    let routes = routes.filter_map(|route| route.ca.as_ref());
    let roots = settings.upstream_ca_files.value.iter();
    let roots = roots.chain(&settings.upstream_proxy_ca.value);
    let mut seen: Vec<&Path> = Vec::new();
    for path in roots.chain(routes) {
        if !seen.contains(&path.as_path()) {
            seen.push(path);
            checks.extend(of_roots(path, when));
        }
    }
    checks
}

/// What a file of certificates is for.
struct Purpose {
    name: &'static str,
    /// The code of one that cannot be read.
    code: &'static str,
    renew: &'static str,
}

const LISTENER: Purpose = Purpose {
    name: "the listener's certificate",
    code: "ORL0106",
    renew: "renew the file; oriel serve takes it without a restart",
};
const CLIENT: Purpose = Purpose {
    name: "the certificate for upstreams",
    code: "ORL0305",
    renew: "renew the file; oriel serve takes it without a restart",
};
const ROOTS: Purpose = Purpose {
    name: "the authorities of upstreams in",
    code: "ORL0305",
    renew: "ask who runs that authority for its new certificate, and put it into the file",
};

/// Each that has ended, ends soon or is not valid yet; the first one if there is none such.
fn of_roots(path: &Path, when: When<'_>) -> Vec<Check> {
    let (first, links) = of_file(&ROOTS, path, when);
    let checks = links.iter().map(|link| lasts(link, when, ROOTS.renew));
    let (well, mut checks): (Vec<_>, Vec<_>) = checks.partition(|check| check.state == State::Ok);
    if !well.is_empty() {
        // What is signed by the others is taken still.
        for check in &mut checks {
            check.state = State::Warning;
        }
    }
    if checks.is_empty() {
        checks.push(first);
    }
    checks
}

fn of_authority(settings: &Settings, when: When<'_>) -> Vec<Check> {
    let files = match AuthorityFiles::of(settings) {
        Ok(files) => files,
        Err(problem) => return vec![Check::of_problem(Area::Trust, &problem)],
    };
    if is_own(settings) && !files.key.exists() {
        let text = "no authority yet; the first run makes one";
        return vec![Check::new(Area::Trust, State::Ok, text)];
    }
    let authority = match load(&files) {
        Ok(authority) => authority,
        Err(problem) => {
            let mut check = Check::of_problem(Area::Trust, &problem);
            // Others can read the key.
            check.repair = (problem.code == "ORL0301").then(|| Repair {
                path: files.key.clone(),
                mode: 0o600,
            });
            return vec![check];
        }
    };
    let renew = match is_own(settings) {
        true => "oriel ca rotate",
        false => "oriel ca import CERTIFICATE, with one that lasts longer",
    };
    let links = authority.links();
    let mut checks: Vec<_> = links.iter().map(|link| lasts(link, when, renew)).collect();
    checks.extend(faults(&authority, when));
    if is_own(settings) {
        let folder = ca_folder(&settings.data_folder.value);
        checks.extend(open_to_others(&folder, 0o700).map(|check| Check {
            area: Area::Trust,
            ..check
        }));
    }
    checks
}

/// What is wrong with the chain besides the time, which is told of each certificate.
fn faults(authority: &Authority, when: When<'_>) -> Vec<Check> {
    let now = when.now;
    let links = authority.links();
    let in_time = |link: &Link| link.not_before <= now && now < link.not_after;
    if !links.iter().all(in_time) {
        return Vec::new();
    }
    let faults = authority.check_chain(now).into_iter();
    faults
        .map(|fault| {
            Check::new(Area::Trust, State::Failed, fault.to_string())
                .code("ORL0309")
                .fix("oriel ca verify")
        })
        .collect()
}

/// How long the first certificate of a file lasts, and what all of them say.
fn of_file(purpose: &Purpose, path: &Path, when: When<'_>) -> (Check, Vec<Link>) {
    let unreadable = |why: String| {
        let text = format!("{} {} cannot be read: {why}", purpose.name, path.display());
        Check::new(Area::Trust, State::Failed, text).code(purpose.code)
    };
    let links = match read_certificates(path) {
        Ok(certificates) => links(&certificates),
        Err(error) => return (unreadable(error.to_string()), Vec::new()),
    };
    let check = match links.first() {
        Some(link) => lasts(link, when, purpose.renew),
        None => unreadable("there is no certificate in it".to_owned()),
    };
    (check, links)
}

/// Whether a certificate is valid, and for how long yet.
fn lasts(link: &Link, when: When<'_>, renew: &str) -> Check {
    let now = when.now;
    let day = |at| -> String { when.moment(at).chars().take(10).collect() };
    let left = link.not_after.micros_since(now) / 86_400_000_000;
    let subject = &link.subject;
    let (state, code, text) = if now < link.not_before {
        let text = format!("{subject} is not valid before {}", day(link.not_before));
        (State::Failed, "ORL0225", text)
    } else if now >= link.not_after {
        let text = format!("{subject} has expired on {}", day(link.not_after));
        (State::Failed, "ORL0303", text)
    } else if left < EXPIRES_SOON_DAYS {
        let text = format!("{subject} ends on {}, in {left} d", day(link.not_after));
        (State::Warning, "ORL0224", text)
    } else {
        let text = format!(
            "{subject} is valid to {}, for {left} d",
            day(link.not_after)
        );
        return Check::new(Area::Trust, State::Ok, text);
    };
    let fix = match code {
        "ORL0225" => "set the clock of this machine",
        _ => renew,
    };
    Check::new(Area::Trust, state, text).code(code).fix(fix)
}

/// What can be known of the clock without asking anybody: nothing that oriel wrote is from the
/// future.
pub(super) fn clock(settings: &Settings, when: When<'_>) -> Vec<Check> {
    let data = &settings.data_folder.value;
    let files = [ca_folder(data).join("authority.pem"), database(data)];
    let newest = files.iter().filter_map(|path| modified(path)).max();
    let now = when.now;
    let today = when.moment(now);
    vec![match newest {
        Some(newest) if newest.micros_since(now) > CLOCK_SLACK_MICROS => {
            let written = when.moment(newest);
            let text = format!("it is {today} here, and oriel's files were written at {written}");
            Check::new(Area::Clock, State::Failed, text)
                .code("ORL0225")
                .fix("set the clock of this machine")
        }
        Some(_) => {
            let text = format!("{today}, after all that oriel wrote");
            Check::new(Area::Clock, State::Ok, text)
        }
        None => {
            let text = format!("{today}; there is nothing to compare it with yet");
            Check::new(Area::Clock, State::Note, text)
        }
    }]
}

/// File systems of other machines have clocks of their own.
const CLOCK_SLACK_MICROS: i64 = 60_000_000;

fn modified(path: &Path) -> Option<Timestamp> {
    let at = path.metadata().ok()?.modified().ok()?;
    let at = jiff::Timestamp::try_from(at).ok()?;
    Some(Timestamp(at.as_microsecond()))
}
