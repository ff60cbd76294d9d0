//! Finds the process that holds a socket. Looking through all processes is the dear part of a
//! lookup, so those that had a connection before are asked first.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::AttributionError;

use super::proc::{self, Holds};
use crate::limits::PROCESS_OWNERS_MAX;

/// The first that a program opens by itself.
const FIRST_DESCRIPTOR: u32 = 3;

/// A process, told from an earlier one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// In ticks since the system started.
    pub(super) start: u64,
}

/// At most [`PROCESS_OWNERS_MAX`] processes that had connections, the latest first.
#[derive(Debug, Default)]
pub(super) struct Owners {
    latest: Mutex<VecDeque<Known>>,
}

/// A process that had a connection.
#[derive(Clone, Copy, Debug)]
struct Known {
    owner: Owner,
    /// The descriptor of the latest of them, or where to begin to look.
    descriptor: u32,
}

impl Owners {
    /// The process that holds the socket with this inode, which the user `uid` made.
    pub(super) fn find(
        &self,
        inode: u64,
        uid: u32,
        deadline: Instant,
    ) -> Result<Owner, AttributionError> {
        let link = format!("socket:[{inode}]");
        let known = match self.find_known(link.as_bytes()) {
            Some(known) => known,
            None => find_among_all(link.as_bytes(), uid, deadline)?,
        };
        self.remember(known);
        Ok(known.owner)
    }

    fn find_known(&self, link: &[u8]) -> Option<Known> {
        let known = self.latest.lock().clone();
        let is_alive = |known: &Known| {
            proc::stat(known.owner.pid).is_some_and(|stat| stat.start == known.owner.start)
        };
        let (alive, ended): (Vec<_>, Vec<_>) = known.into_iter().partition(is_alive);
        if !ended.is_empty() {
            let has_ended = |known: &Known| ended.iter().any(|ended| ended.owner == known.owner);
            self.latest.lock().retain(|known| !has_ended(known));
        }
        alive.into_iter().find_map(|known| {
            let Known { owner, descriptor } = known;
            if let Some(descriptor) = proc::holds_near(owner.pid, descriptor, link) {
                return Some(Known { owner, descriptor });
            }
            match proc::holds(owner.pid, link) {
                Holds::Yes(descriptor) => Some(Known { owner, descriptor }),
                Holds::No | Holds::Hidden => {
                    proc::holds_as_standard(owner.pid, link).then_some(known)
                }
            }
        })
    }

    fn remember(&self, known: Known) {
        let mut latest = self.latest.lock();
        latest.retain(|other| other.owner != known.owner);
        latest.push_front(known);
        latest.truncate(PROCESS_OWNERS_MAX);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<Owner> {
        self.latest.lock().iter().map(|known| known.owner).collect()
    }

    #[cfg(test)]
    pub(super) fn remember_owner(&self, owner: Owner) {
        self.remember(Known {
            owner,
            descriptor: FIRST_DESCRIPTOR,
        });
    }
}

fn find_among_all(link: &[u8], uid: u32, deadline: Instant) -> Result<Known, AttributionError> {
    let mut hidden = Vec::new();
    // The tools of an agent live shortly: the youngest first.
    let mut processes = proc::processes();
    processes.reverse();
    for pid in processes.iter().copied() {
        check(deadline)?;
        match proc::holds(pid, link) {
            Holds::Yes(descriptor) => return known(pid, descriptor),
            Holds::Hidden => hidden.push(pid),
            Holds::No => {}
        }
    }
    for pid in processes {
        check(deadline)?;
        if proc::holds_as_standard(pid, link) {
            return known(pid, FIRST_DESCRIPTOR);
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

fn known(pid: u32, descriptor: u32) -> Result<Known, AttributionError> {
    let stat = proc::stat(pid).ok_or(AttributionError::Gone)?;
    let start = stat.start;
    let owner = Owner { pid, start };
    Ok(Known { owner, descriptor })
}

fn check(deadline: Instant) -> Result<(), AttributionError> {
    match Instant::now() > deadline {
        true => Err(AttributionError::TimedOut),
        false => Ok(()),
    }
}
