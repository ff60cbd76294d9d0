//! Notices that what a SOCKS proxy is asked for comes back to oriel. SOCKS has no place to say what a
//! connection came through (`hops.rs`). But a tunnel that comes back is made only once the one that it
//! leads to is, and so on: more and more of them to one target are being made, and none comes about.
//!
//! What is opened shows in other ways: TLS by a certificate that oriel itself has issued, plain requests
//! by as many connections as `pool.connections_per_target_max` allows.

use std::collections::HashMap;

use parking_lot::Mutex;
use traffic::{Failure, FailureKind, Side, Stage, Target};

use crate::error;
use crate::limits::NESTED_MAX;

/// The connections that one proxy is being asked for.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// There are at most as many as dials under way.
    by_target: Mutex<HashMap<Target, BeingMade>>,
}

#[derive(Debug, Default)]
struct BeingMade {
    /// Since the last one came about.
    count: usize,
    /// There were too many.
    leads_back: bool,
}

/// One that is being made, until this is dropped.
struct Making<'a> {
    nesting: &'a Nesting,
    target: &'a Target,
    came_about: bool,
}

impl Nesting {
    /// Waits for a connection to the target, unless too many are being made. Those that wait then fail
    /// for the same reason, whatever those within them made of it.
    ///
    /// Dropping it abandons the connection.
    pub(super) async fn watch<T>(
        &self,
        target: &Target,
        proxy: &str,
        connecting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(mut making) = self.begin(target) else {
            return Err(leads_back(target, proxy));
        };
        let connected = connecting.await;
        making.came_about = connected.is_ok();
        connected.map_err(|failure| match making.leads_back() {
            true => leads_back(target, proxy),
            false => failure,
        })
    }

    fn begin<'a>(&'a self, target: &'a Target) -> Option<Making<'a>> {
        let mut by_target = self.by_target.lock();
        let being_made = by_target.entry(target.clone()).or_default();
        if being_made.count >= NESTED_MAX {
            being_made.leads_back = true;
            return None;
        }
        being_made.count += 1;
        Some(Making {
            nesting: self,
            target,
            came_about: false,
        })
    }
}

impl Making<'_> {
    fn leads_back(&self) -> bool {
        let by_target = self.nesting.by_target.lock();
        let being_made = by_target.get(self.target);
        being_made.is_some_and(|being_made| being_made.leads_back)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut by_target = self.nesting.by_target.lock();
        let Some(being_made) = by_target.get_mut(self.target) else {
            return;
        };
        being_made.count = match self.came_about {
            true => 0,
            false => being_made.count.saturating_sub(1),
        };
        if being_made.count == 0 {
            by_target.remove(self.target);
        }
    }
}

fn leads_back(target: &Target, proxy: &str) -> Failure {
    let text = format!(
        "the upstream proxy {proxy} was asked for {target} {NESTED_MAX} times at once and has not \
         led there: it leads back to oriel, or nowhere"
    );
    let (side, stage) = (Side::Oriel, Stage::UpstreamProxy);
    error::failure(side, stage, FailureKind::Loop, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text, 443).unwrap()
    }

    fn fill<'a>(nesting: &'a Nesting, target: &'a Target) -> Vec<Making<'a>> {
        let nested: Vec<_> = (0..NESTED_MAX)
            .map_while(|_| nesting.begin(target))
            .collect();
        assert_eq!(nested.len(), NESTED_MAX);
        nested
    }

    #[test]
    fn as_many_as_never_come_about_are_a_loop() {
        let (nesting, a) = (Nesting::default(), target("a.example"));
        let mut nested = fill(&nesting, &a);
        assert!(!nested[0].leads_back());
        assert!(nesting.begin(&a).is_none());
        // All that wait for it are told, to the outermost.
        while let Some(making) = nested.pop() {
            assert!(making.leads_back());
        }
        assert!(nesting.by_target.lock().is_empty());
        assert!(!nesting.begin(&a).unwrap().leads_back());
    }

    #[test]
    fn one_that_comes_about_makes_room_and_other_targets_have_their_own() {
        let (nesting, a, b) = (Nesting::default(), target("a.example"), target("b.example"));
        let mut nested = fill(&nesting, &a);
        assert!(nesting.begin(&b).is_some());
        nested.pop().unwrap().came_about = true;
        assert!(nesting.begin(&a).is_some());
        drop(nested);
        assert!(nesting.by_target.lock().is_empty());
    }
}
