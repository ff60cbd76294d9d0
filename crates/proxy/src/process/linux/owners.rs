//! Finds the process that holds a socket. Looking through all processes is the dear part of a
//! lookup, so those that had a connection before are asked first.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::AttributionError;

use super::proc::{self, Holds};
use crate::limits::PROCESS_OWNERS_MAX;

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
    latest: Mutex<VecDeque<Owner>>,
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
        let owner = match self.find_known(link.as_bytes()) {
            Some(owner) => owner,
            None => find_among_all(link.as_bytes(), uid, deadline)?,
        };
        self.remember(owner);
        Ok(owner)
    }

    fn find_known(&self, link: &[u8]) -> Option<Owner> {
        let known = self.latest.lock().clone();
        let is_alive =
            |owner: &Owner| proc::stat(owner.pid).is_some_and(|stat| stat.start == owner.start);
        let (alive, ended): (Vec<_>, Vec<_>) = known.into_iter().partition(is_alive);
        if !ended.is_empty() {
            self.latest.lock().retain(|owner| !ended.contains(owner));
        }
        alive.into_iter().find(|owner| {
            proc::holds(owner.pid, link) == Holds::Yes || proc::holds_as_standard(owner.pid, link)
        })
    }

    pub(super) fn remember(&self, owner: Owner) {
        let mut latest = self.latest.lock();
        latest.retain(|known| *known != owner);
        latest.push_front(owner);
        latest.truncate(PROCESS_OWNERS_MAX);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> Vec<Owner> {
        self.latest.lock().iter().copied().collect()
    }
}

fn find_among_all(link: &[u8], uid: u32, deadline: Instant) -> Result<Owner, AttributionError> {
    let mut hidden = Vec::new();
    // The tools of an agent live shortly: the youngest first.
    let mut processes = proc::processes();
    processes.reverse();
    for pid in processes.iter().copied() {
        check(deadline)?;
        match proc::holds(pid, link) {
            Holds::Yes => return owner(pid),
            Holds::Hidden => hidden.push(pid),
            Holds::No => {}
        }
    }
    for pid in processes {
        check(deadline)?;
        if proc::holds_as_standard(pid, link) {
            return owner(pid);
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

fn owner(pid: u32) -> Result<Owner, AttributionError> {
    let stat = proc::stat(pid).ok_or(AttributionError::Gone)?;
    let start = stat.start;
    Ok(Owner { pid, start })
}

fn check(deadline: Instant) -> Result<(), AttributionError> {
    match Instant::now() > deadline {
        true => Err(AttributionError::TimedOut),
        false => Ok(()),
    }
}
