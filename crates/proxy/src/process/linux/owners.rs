//! Finds the process that holds a socket. Looking through all processes is the dear part of a
//! lookup, so those that had a connection before are asked first, and what was read of one is
//! kept for a moment.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::{AttributionError, ProcessInfo};

use super::ClientSocket;
use super::proc::{self, Descriptors, Holds, Stat};
use crate::limits::{
    PROCESS_AREAS_MAX, PROCESS_DESCRIBED_AGE_MAX, PROCESS_DESCRIPTORS_NEAR, PROCESS_OWNERS_MAX,
};

/// The first that a program opens by itself.
const FIRST_DESCRIPTOR: u32 = 3;

/// At most [`PROCESS_OWNERS_MAX`] processes that had connections, the latest first.
#[derive(Debug, Default)]
pub(super) struct Owners {
    latest: Mutex<VecDeque<Known>>,
}

/// A process that had a connection.
#[derive(Clone, Debug)]
struct Known {
    pid: u32,
    areas: Areas,
    described: Option<Described>,
}

/// Where among the descriptors of a process its connections were found, the latest first, each beyond
/// [`PROCESS_DESCRIPTORS_NEAR`] of the others. A process that opens many numbers them one after the other, or gives
/// them the numbers of those that it closed, which lie here and there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Areas(Vec<u32>);

impl Areas {
    fn note(&mut self, found: u32) {
        let is_elsewhere = |area: &u32| area.abs_diff(found) > PROCESS_DESCRIPTORS_NEAR;
        self.0.retain(is_elsewhere);
        self.0.insert(0, found);
        self.0.truncate(PROCESS_AREAS_MAX);
    }

    /// Where to begin to look.
    fn latest(&self) -> u32 {
        self.0.first().copied().unwrap_or(FIRST_DESCRIPTOR)
    }
}

/// What was read of a process.
#[derive(Clone, Debug)]
struct Described {
    at: Instant,
    /// Of that moment; it tells the process from one with the same number, and its program from one
    /// that it began later.
    stat: Stat,
    info: Arc<ProcessInfo>,
}

impl Owners {
    /// The number of the process that holds this socket. `is_held` says whether any still does: it is asked
    /// before the dear search for what may be gone.
    pub(super) fn find(
        &self,
        ClientSocket { inode, uid }: ClientSocket,
        is_held: impl Fn() -> bool,
        deadline: Instant,
    ) -> Result<u32, AttributionError> {
        let link = format!("socket:[{inode}]");
        let link = link.as_bytes();
        let (pid, descriptor) = match self.find_where_others_were(link) {
            Some(found) => found,
            None if !is_held() => return Err(AttributionError::Gone),
            None => match self.find_in_known(link) {
                Some(found) => found,
                None => find_among_all(link, uid, deadline)?,
            },
        };
        self.remember(pid, descriptor);
        Ok(pid)
    }

    fn known(&self) -> Vec<(u32, Areas)> {
        let latest = self.latest.lock();
        let known = latest.iter();
        known
            .map(|known| (known.pid, known.areas.clone()))
            .collect()
    }

    /// Looks where processes had their connections.
    fn find_where_others_were(&self, link: &[u8]) -> Option<(u32, u32)> {
        for (pid, Areas(areas)) in self.known() {
            match Descriptors::open(pid) {
                Ok(descriptors) => {
                    let mut areas = areas.into_iter();
                    let found = areas.find_map(|area| descriptors.find_near(area, link));
                    if let Some(descriptor) = found {
                        return Some((pid, descriptor));
                    }
                }
                // It ended, or is another's by now.
                Err(_) => self.latest.lock().retain(|known| known.pid != pid),
            }
        }
        None
    }

    /// Looks at all that processes hold which had connections.
    fn find_in_known(&self, link: &[u8]) -> Option<(u32, u32)> {
        let known = self.known();
        if let Some((pid, areas)) = known.first()
            && let Ok(descriptors) = Descriptors::open(*pid)
            && let Some(descriptor) = descriptors.find_around(areas.latest(), link)
        {
            return Some((*pid, descriptor));
        }
        known
            .into_iter()
            .find_map(|(pid, areas)| match proc::holds(pid, link) {
                Holds::Yes(descriptor) => Some((pid, descriptor)),
                Holds::No | Holds::Hidden => {
                    proc::holds_as_standard(pid, link).then(|| (pid, areas.latest()))
                }
            })
    }

    /// What was read of this process a moment ago, if it runs the same program since.
    pub(super) fn described(&self, pid: u32, stat: &Stat) -> Option<Arc<ProcessInfo>> {
        let latest = self.latest.lock();
        let known = latest.iter().find(|known| known.pid == pid)?;
        let described = known.described.as_ref()?;
        let is_fresh = described.at.elapsed() < PROCESS_DESCRIBED_AGE_MAX;
        (is_fresh && described.stat.is_same_program(stat)).then(|| Arc::clone(&described.info))
    }

    /// Keeps what was read of a process that was found.
    pub(super) fn note(&self, stat: Stat, info: &Arc<ProcessInfo>) {
        let mut latest = self.latest.lock();
        if let Some(known) = latest.iter_mut().find(|known| known.pid == info.pid) {
            known.described = Some(Described {
                at: Instant::now(),
                stat,
                info: Arc::clone(info),
            });
        }
    }

    fn remember(&self, pid: u32, descriptor: u32) {
        let mut latest = self.latest.lock();
        let position = latest.iter().position(|known| known.pid == pid);
        let known = position.and_then(|position| latest.remove(position));
        let mut known = known.unwrap_or_else(|| Known {
            pid,
            areas: Areas::default(),
            described: None,
        });
        known.areas.note(descriptor);
        latest.push_front(known);
        latest.truncate(PROCESS_OWNERS_MAX);
    }

    #[cfg(test)]
    pub(super) fn pids(&self) -> Vec<u32> {
        self.known().into_iter().map(|(pid, _)| pid).collect()
    }

    #[cfg(test)]
    pub(super) fn remember_owner(&self, pid: u32) {
        self.remember(pid, FIRST_DESCRIPTOR);
    }
}

/// The process and its descriptor.
fn find_among_all(
    link: &[u8],
    uid: u32,
    deadline: Instant,
) -> Result<(u32, u32), AttributionError> {
    let mut hidden = Vec::new();
    // The tools of an agent live shortly: the youngest first.
    let mut processes = proc::processes();
    processes.reverse();
    for pid in processes.iter().copied() {
        check(deadline)?;
        match proc::holds(pid, link) {
            Holds::Yes(descriptor) => return Ok((pid, descriptor)),
            Holds::Hidden => hidden.push(pid),
            Holds::No => {}
        }
    }
    for pid in processes {
        check(deadline)?;
        if proc::holds_as_standard(pid, link) {
            return Ok((pid, FIRST_DESCRIPTOR));
        }
    }
    // Most that are hidden are other users' and have nothing to do with it.
    for pid in hidden {
        check(deadline)?;
        if proc::uids(pid).is_some_and(|uids| uids.contains(&uid)) {
            return Err(AttributionError::Denied);
        }
    }
    Err(AttributionError::Gone)
}

fn check(deadline: Instant) -> Result<(), AttributionError> {
    match Instant::now() > deadline {
        true => Err(AttributionError::TimedOut),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_kept_apart_and_few() {
        let mut areas = Areas::default();
        assert_eq!(areas.latest(), FIRST_DESCRIPTOR);
        areas.note(7);
        areas.note(9);
        assert_eq!(areas.0, [9]);
        areas.note(5000);
        areas.note(5001);
        assert_eq!(areas.0, [5001, 9]);
        areas.note(8);
        assert_eq!(areas.0, [8, 5001]);
        for step in 1..100 {
            areas.note(step * 1000);
        }
        assert_eq!(areas.0.len(), PROCESS_AREAS_MAX);
        assert_eq!(areas.latest(), 99_000);
    }
}
