//! Finds the process that holds a socket. Looking through all processes is the dear part of a
//! lookup, so those that had a connection before are asked first, and what was read of one is
//! kept for a moment.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::{AttributionError, ProcessInfo};

use super::proc::{self, Descriptors, Holds, Stat};
use crate::limits::{PROCESS_DESCRIBED_AGE_MAX, PROCESS_DESCRIPTORS_AROUND, PROCESS_OWNERS_MAX};

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

/// Where among the descriptors of a process its connections were found: the latest, and the latest before it
/// that lay elsewhere. A process that opens hundreds numbers most of them one after the other, and gives some
/// the numbers of those that it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Areas([u32; 2]);

impl Areas {
    fn note(&mut self, found: u32) {
        let Self([latest, other]) = self;
        if latest.abs_diff(found) > PROCESS_DESCRIPTORS_AROUND {
            *other = *latest;
        }
        *latest = found;
    }

    /// Where to begin to look, the likeliest first.
    fn starts(self) -> impl Iterator<Item = u32> {
        let Self([latest, other]) = self;
        let is_elsewhere = latest.abs_diff(other) > PROCESS_DESCRIPTORS_AROUND;
        std::iter::once(latest).chain(is_elsewhere.then_some(other))
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
    /// The number of the process that holds the socket with this inode, which the user `uid` made.
    pub(super) fn find(
        &self,
        inode: u64,
        uid: u32,
        deadline: Instant,
    ) -> Result<u32, AttributionError> {
        let link = format!("socket:[{inode}]");
        let link = link.as_bytes();
        let (pid, descriptor) = match self.find_known(link) {
            Some(found) => found,
            None => find_among_all(link, uid, deadline)?,
        };
        self.remember(pid, descriptor);
        Ok(pid)
    }

    fn find_known(&self, link: &[u8]) -> Option<(u32, u32)> {
        let known: Vec<(u32, Areas)> = {
            let latest = self.latest.lock();
            let known = latest.iter().map(|known| (known.pid, known.areas));
            known.collect()
        };
        for (pid, areas) in &known {
            match Descriptors::open(*pid) {
                Ok(descriptors) => {
                    let mut starts = areas.starts();
                    let found = starts.find_map(|start| descriptors.find_near(start, link));
                    if let Some(descriptor) = found {
                        return Some((*pid, descriptor));
                    }
                }
                // It ended, or is another's by now.
                Err(_) => self.latest.lock().retain(|known| known.pid != *pid),
            }
        }
        if let Some((pid, areas)) = known.first()
            && let Ok(descriptors) = Descriptors::open(*pid)
            && let mut starts = areas.starts()
            && let Some(descriptor) = starts.find_map(|start| descriptors.find_around(start, link))
        {
            return Some((*pid, descriptor));
        }
        known
            .into_iter()
            .find_map(|(pid, Areas([latest, _]))| match proc::holds(pid, link) {
                Holds::Yes(descriptor) => Some((pid, descriptor)),
                Holds::No | Holds::Hidden => {
                    proc::holds_as_standard(pid, link).then_some((pid, latest))
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
        let mut known = known.unwrap_or(Known {
            pid,
            areas: Areas([descriptor, FIRST_DESCRIPTOR]),
            described: None,
        });
        known.areas.note(descriptor);
        latest.push_front(known);
        latest.truncate(PROCESS_OWNERS_MAX);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<u32> {
        self.latest.lock().iter().map(|known| known.pid).collect()
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
    fn an_area_is_left_for_another_and_not_for_its_neighbour() {
        let mut areas = Areas([7, 3]);
        areas.note(9);
        assert_eq!(areas, Areas([9, 3]));
        assert_eq!(areas.starts().collect::<Vec<_>>(), [9]);
        areas.note(5000);
        areas.note(5001);
        assert_eq!(areas, Areas([5001, 9]));
        areas.note(8);
        assert_eq!(areas, Areas([8, 5001]));
        assert_eq!(areas.starts().collect::<Vec<_>>(), [8, 5001]);
    }
}
