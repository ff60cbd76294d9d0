//! Counts, bypasses and their ends, with the clock of the test.

use std::num::NonZeroU32;
use std::sync::Arc;

use traffic::secret::Secret;

use super::*;

const NOON: Timestamp = Timestamp(1_767_268_800_000_000);

fn process(pid: u32, path: &str) -> ProcessInfo {
    ProcessInfo {
        pid,
        parent_pid: None,
        exe_name: "tool".to_owned(),
        exe_path: Some(path.to_owned()),
        command_line: Secret::new(Vec::new()),
        command_line_cut: false,
        ancestors: Vec::new(),
        container: None,
        uid: None,
        started_at: Some(NOON),
        bundle_id: None,
    }
}

impl Rejections {
    fn is_bypassed(&self, host: &Host) -> bool {
        self.bypass(host, None, AutoBypass::Host).is_some()
    }
}

fn host(name: &str) -> Host {
    Host::parse(name).unwrap()
}

fn config(times: u32, auto_bypass: AutoBypass) -> Config {
    Config {
        times: NonZeroU32::new(times).unwrap(),
        auto_bypass,
        bypass_for: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn it_is_said_once_per_program_and_host() {
    let rejections = Rejections::default();
    let config = config(3, AutoBypass::Off);
    let (curl, node) = (process(1, "/bin/curl"), process(2, "/bin/node"));
    let told = |host: &Host, process: &ProcessInfo| {
        let refused = rejections.refused(host, Some(process), &config, NOON);
        refused.told.map(|told| (told.program.unwrap(), told.times))
    };
    let (a, b) = (host("a.test"), host("b.test"));
    assert_eq!((told(&a, &curl), told(&a, &curl)), (None, None));
    assert_eq!((told(&b, &curl), told(&a, &node)), (None, None));
    assert_eq!(told(&a, &curl), Some(("/bin/curl".to_owned(), 3)));
    assert_eq!(told(&a, &curl), None);
    assert!(rejections.knows(&a) && !rejections.knows(&host("c.test")));
    assert!(!rejections.is_bypassed(&a));
}

#[tokio::test(start_paused = true)]
async fn a_bypass_is_for_its_program_and_host_and_ends() {
    let rejections = Rejections::default();
    let scope = AutoBypass::Process;
    let config = config(2, scope);
    let (curl, node) = (process(1, "/bin/curl"), process(2, "/bin/node"));
    let (a, b) = (host("a.test"), host("b.test"));
    let refuse = || rejections.refused(&a, Some(&curl), &config, NOON).told;
    assert_eq!(refuse(), None);
    let until = refuse().unwrap().bypassed_until.unwrap();
    assert_eq!(until.micros_since(NOON), 60_000_000);
    let rule = rejections.bypass(&a, Some(&process(9, "/bin/curl")), scope);
    assert_eq!(
        rule.unwrap(),
        "intercept.auto_bypass until 2026-01-01 12:01:00 UTC: /bin/curl refused oriel's \
         certificate 2 times"
    );
    assert_eq!(rejections.bypass(&a, Some(&node), scope), None);
    assert_eq!(rejections.bypass(&a, None, scope), None);
    assert_eq!(rejections.bypass(&b, Some(&curl), scope), None);
    assert!(rejections.bypass(&a, None, AutoBypass::Host).is_some());
    assert_eq!(rejections.bypass(&a, Some(&curl), AutoBypass::Off), None);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(!rejections.is_bypassed(&a));
    assert_eq!(rejections.bypass(&a, Some(&curl), scope), None);
    // It is counted anew.
    assert_eq!(refuse(), None);
    assert!(refuse().is_some());
}

#[tokio::test]
async fn without_a_known_program_only_the_scope_of_everybody_bypasses() {
    for (scope, expected) in [(AutoBypass::Process, false), (AutoBypass::Host, true)] {
        let rejections = Rejections::default();
        let told = rejections.refused(&host("a.test"), None, &config(1, scope), NOON);
        assert_eq!(told.told.unwrap().bypassed_until.is_some(), expected);
        assert_eq!(rejections.is_bypassed(&host("a.test")), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_long_past_do_not_count() {
    let rejections = Rejections::default();
    let config = config(2, AutoBypass::Off);
    let refuse = || {
        rejections
            .refused(&host("a.test"), None, &config, NOON)
            .told
    };
    assert_eq!(refuse(), None);
    tokio::time::advance(REJECTIONS_FORGOTTEN + Duration::from_secs(1)).await;
    assert_eq!(refuse(), None);
    assert!(refuse().is_some());
}

#[tokio::test]
async fn a_process_that_took_the_certificate_before_pins() {
    let rejections = Rejections::default();
    let config = config(3, AutoBypass::Off);
    let known = ProcessCell::default();
    rejections.accepted(Some(&known));
    rejections.accepted(None);
    let pinned = |process: &ProcessInfo| {
        let refused = rejections.refused(&host("a.test"), Some(process), &config, NOON);
        refused.pinned
    };
    let own = process(7, "/bin/app");
    assert!(!pinned(&own));
    known.set(Ok(Arc::new(own.clone())));
    assert!(pinned(&own));
    assert!(!pinned(&process(8, "/bin/app")));
    let later = ProcessInfo {
        started_at: Some(Timestamp(NOON.0 + 2_000_000)),
        ..own
    };
    assert!(!pinned(&later));
}

#[tokio::test]
async fn no_more_is_remembered_than_the_bound() {
    let rejections = Rejections::default();
    let config = config(1, AutoBypass::Host);
    for number in 0..=REJECTIONS_MAX {
        let _told = rejections.refused(&host(&format!("h{number}.test")), None, &config, NOON);
    }
    assert_eq!(rejections.state.lock().refused.len(), REJECTIONS_MAX);
    for _ in 0..=ACCEPTED_MAX {
        rejections.accepted(Some(&ProcessCell::default()));
    }
    assert_eq!(rejections.state.lock().accepted.len(), ACCEPTED_MAX);
}
