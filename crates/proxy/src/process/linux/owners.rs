//! Finds the process that holds a socket. Looking through all processes is the dear part of a
//! lookup, so those that had a connection before are asked first, at the descriptors where the next
//! one is likely, and what was read of one is kept for a moment.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use traffic::{AttributionError, ProcessInfo};

use super::ClientSocket;
use super::places::Places;
use super::proc::{self, Holds, Kept, Stat};
use crate::limits::{PROCESS_DESCRIBED_AGE_MAX, PROCESS_GUESSES_MAX, PROCESS_OWNERS_MAX};

/// At most [`PROCESS_OWNERS_MAX`] processes that had connections, the latest first.
#[derive(Debug, Default)]
pub(super) struct Owners {
    latest: Mutex<VecDeque<Known>>,
}

/// A process that had a connection. Two files are open for it.
#[derive(Debug)]
struct Known {
    process: Arc<Kept>,
    places: Places,
    described: Option<Described>,
}

/// What was read of a process.
#[derive(Debug)]
struct Described {
    at: Instant,
    /// Of that moment; it tells the process from one with the same number, and its program from one
    /// that it began later.
    stat: Stat,
    info: Arc<ProcessInfo>,
}

/// A descriptor that may be the socket that is looked for.
struct Guess {
    process: Arc<Kept>,
    descriptor: u32,
}

impl Known {
    fn guesses(&self, descriptors: impl Iterator<Item = u32>) -> impl Iterator<Item = Guess> {
        descriptors.map(|descriptor| Guess {
            process: Arc::clone(&self.process),
            descriptor,
        })
    }

    /// What was read of it a moment ago, if it runs the same program since.
    fn described(&self, stat: &Stat) -> Option<Arc<ProcessInfo>> {
        let described = self.described.as_ref()?;
        let is_fresh = described.at.elapsed() < PROCESS_DESCRIBED_AGE_MAX;
        (is_fresh && described.stat.is_same_program(stat)).then(|| Arc::clone(&described.info))
    }
}

impl Owners {
    /// What was read a moment ago of the process that holds this socket, if it is found by looking at
    /// [`PROCESS_GUESSES_MAX`] descriptors at most. `port` is that of the socket.
    pub(super) fn find_at_once(
        &self,
        ClientSocket { inode, .. }: ClientSocket,
        port: u16,
    ) -> Option<Arc<ProcessInfo>> {
        let found = self.guess(link(inode).as_bytes())?;
        let stat = found.process.stat()?;
        let mut latest = self.latest.lock();
        let known = bring_forward(&mut latest, &found.process)?;
        known.places.note(found.descriptor, port);
        known.described(&stat)
    }

    fn guess(&self, link: &[u8]) -> Option<Guess> {
        let is_it = |guess: &Guess| guess.process.descriptors.has(guess.descriptor, link);
        let likely = self.likely();
        let left = PROCESS_GUESSES_MAX.saturating_sub(likely.len());
        let found = likely.into_iter().find(is_it);
        found.or_else(|| self.possible(left).into_iter().find(is_it))
    }

    fn likely(&self) -> Vec<Guess> {
        let latest = self.latest.lock();
        let guesses = latest
            .iter()
            .flat_map(|known| known.guesses(known.places.likely()));
        guesses.take(PROCESS_GUESSES_MAX).collect()
    }

    fn possible(&self, max: usize) -> Vec<Guess> {
        let latest = self.latest.lock();
        let guesses = latest
            .iter()
            .flat_map(|known| known.guesses(known.places.possible()));
        guesses.take(max).collect()
    }

    /// The process that holds this socket, and what it is now. `port` is that of the socket; `is_held` says
    /// whether any still holds it: it is asked before the dear search for what may be gone.
    pub(super) fn find(
        &self,
        ClientSocket { inode, uid }: ClientSocket,
        port: u16,
        is_held: impl Fn() -> bool,
        deadline: Instant,
    ) -> Result<(Arc<Kept>, Stat), AttributionError> {
        let link = link(inode);
        let link = link.as_bytes();
        let (process, descriptor) = match self.find_where_others_were(link) {
            Some(Guess {
                process,
                descriptor,
            }) => (process, Some(descriptor)),
            None if !is_held() => return Err(AttributionError::Gone),
            None => {
                let (pid, descriptor) = match self.find_in_known(link) {
                    Some(found) => found,
                    None => find_among_all(link, uid, deadline)?,
                };
                (self.keep(pid)?, descriptor)
            }
        };
        let stat = process.stat().ok_or(AttributionError::Gone)?;
        self.remember(&process, descriptor.map(|descriptor| (descriptor, port)));
        Ok((process, stat))
    }

    fn processes(&self) -> Vec<Arc<Kept>> {
        let latest = self.latest.lock();
        let processes = latest.iter().map(|known| Arc::clone(&known.process));
        processes.collect()
    }

    fn areas(&self, process: &Arc<Kept>) -> Vec<u32> {
        let latest = self.latest.lock();
        let known = latest
            .iter()
            .find(|known| Arc::ptr_eq(&known.process, process));
        known.map_or_else(Vec::new, |known| known.places.areas().to_vec())
    }

    /// Looks where processes had their connections.
    fn find_where_others_were(&self, link: &[u8]) -> Option<Guess> {
        for process in self.processes() {
            let mut areas = self.areas(&process).into_iter();
            let found = areas.find_map(|area| process.descriptors.find_near(area, link));
            if let Some(descriptor) = found {
                return Some(Guess {
                    process,
                    descriptor,
                });
            }
            if process.stat().is_none() {
                let mut latest = self.latest.lock();
                latest.retain(|known| !Arc::ptr_eq(&known.process, &process));
            }
        }
        None
    }

    /// Looks at all that processes hold which had connections.
    fn find_in_known(&self, link: &[u8]) -> Option<(u32, Option<u32>)> {
        let processes = self.processes();
        if let Some(process) = processes.first()
            && let Some(area) = self.areas(process).first()
            && let Some(descriptor) = process.descriptors.find_around(*area, link)
        {
            return Some((process.pid, Some(descriptor)));
        }
        processes
            .into_iter()
            .find_map(|process| match proc::holds(process.pid, link) {
                Holds::Yes(descriptor) => Some((process.pid, Some(descriptor))),
                Holds::No | Holds::Hidden => process
                    .descriptors
                    .has_as_standard(link)
                    .then_some((process.pid, None)),
            })
    }

    /// Keeps a process in sight that was found by its number.
    fn keep(&self, pid: u32) -> Result<Arc<Kept>, AttributionError> {
        let known = self.processes().into_iter();
        let mut known = known.filter(|known| known.pid == pid);
        match known.find(|known| known.stat().is_some()) {
            Some(known) => Ok(known),
            None => Kept::open(pid)
                .map(Arc::new)
                .or(Err(AttributionError::Gone)),
        }
    }

    /// What was read of this process a moment ago, if it runs the same program since.
    pub(super) fn described(&self, process: &Arc<Kept>, stat: &Stat) -> Option<Arc<ProcessInfo>> {
        let mut latest = self.latest.lock();
        bring_forward(&mut latest, process)?.described(stat)
    }

    /// Keeps what was read of a process that was found.
    pub(super) fn note(&self, process: &Arc<Kept>, stat: Stat, info: &Arc<ProcessInfo>) {
        let mut latest = self.latest.lock();
        if let Some(known) = bring_forward(&mut latest, process) {
            known.described = Some(Described {
                at: Instant::now(),
                stat,
                info: Arc::clone(info),
            });
        }
    }

    /// The connection of this process from this port has ended.
    pub(super) fn note_end(&self, pid: u32, port: u16) {
        let mut latest = self.latest.lock();
        let known = latest.iter_mut().find(|known| known.process.pid == pid);
        if let Some(known) = known {
            known.places.note_end(port);
        }
    }

    /// Remembers the process as the latest that had a connection, and as which descriptor from which port.
    fn remember(&self, process: &Arc<Kept>, place: Option<(u32, u16)>) {
        let mut latest = self.latest.lock();
        if bring_forward(&mut latest, process).is_none() {
            // One that had the number before, or which another lookup found at the same time.
            latest.retain(|known| known.process.pid != process.pid);
            latest.push_front(Known {
                process: Arc::clone(process),
                places: Places::default(),
                described: None,
            });
            latest.truncate(PROCESS_OWNERS_MAX);
        }
        if let (Some(known), Some((descriptor, port))) = (latest.front_mut(), place) {
            known.places.note(descriptor, port);
        }
    }

    #[cfg(test)]
    pub(super) fn pids(&self) -> Vec<u32> {
        let processes = self.processes();
        processes.iter().map(|process| process.pid).collect()
    }

    #[cfg(test)]
    pub(super) fn remember_owner(&self, process: Kept) {
        self.remember(&Arc::new(process), None);
    }
}

/// Makes a process the latest, if it is remembered.
fn bring_forward<'a>(
    latest: &'a mut VecDeque<Known>,
    process: &Arc<Kept>,
) -> Option<&'a mut Known> {
    let is_it = |known: &Known| Arc::ptr_eq(&known.process, process);
    let position = latest.iter().position(is_it)?;
    if position > 0 {
        let known = latest.remove(position)?;
        latest.push_front(known);
    }
    latest.front_mut()
}

/// As what a socket is seen among the descriptors of a process.
fn link(inode: u64) -> String {
    format!("socket:[{inode}]")
}

/// The process, and the descriptor unless it is one of the first three.
fn find_among_all(
    link: &[u8],
    uid: u32,
    deadline: Instant,
) -> Result<(u32, Option<u32>), AttributionError> {
    let mut hidden = Vec::new();
    // The tools of an agent live shortly: the youngest first.
    let mut processes = proc::processes();
    processes.reverse();
    for pid in processes.iter().copied() {
        check(deadline)?;
        match proc::holds(pid, link) {
            Holds::Yes(descriptor) => return Ok((pid, Some(descriptor))),
            Holds::Hidden => hidden.push(pid),
            Holds::No => {}
        }
    }
    for pid in processes {
        check(deadline)?;
        if proc::holds_as_standard(pid, link) {
            return Ok((pid, None));
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

    fn own() -> Kept {
        Kept::open(std::process::id()).unwrap()
    }

    #[test]
    fn few_descriptors_are_guessed_however_many_are_known() {
        let owners = Owners::default();
        let guesses = || {
            let likely = owners.likely();
            let possible = owners.possible(PROCESS_GUESSES_MAX - likely.len());
            likely.len() + possible.len()
        };
        assert_eq!(guesses(), 0);
        for pid in 1..=3 {
            let process = Arc::new(own().with_number(pid));
            for port in 0..100 {
                owners.remember(&process, Some((port.into(), port)));
            }
        }
        assert_eq!(guesses(), PROCESS_GUESSES_MAX);
        for pid in 4..100 {
            let process = Arc::new(own().with_number(pid));
            owners.remember(&process, Some((3, 1)));
        }
        assert_eq!(guesses(), PROCESS_GUESSES_MAX);
        assert_eq!(owners.likely().len(), PROCESS_GUESSES_MAX);
    }

    #[test]
    fn the_end_of_a_connection_is_noted_with_its_process() {
        let owners = Owners::default();
        for pid in [1, 2] {
            let process = Arc::new(own().with_number(pid));
            owners.remember(&process, Some((70 + pid, 4711)));
        }
        owners.note_end(1, 4711);
        owners.note_end(3, 4711);
        let likely = owners.likely();
        let likely = likely
            .iter()
            .map(|guess| (guess.process.pid, guess.descriptor));
        assert_eq!(likely.collect::<Vec<_>>(), [(2, 73), (2, 72), (1, 71)]);
    }

    #[test]
    fn another_process_with_the_number_takes_the_place() {
        let owners = Owners::default();
        let (ended, process) = (Arc::new(own()), Arc::new(own()));
        owners.remember(&ended, Some((70, 4711)));
        owners.remember(&process, Some((80, 4712)));
        assert_eq!(owners.pids(), [std::process::id()]);
        assert_eq!(owners.areas(&process), [80, 3]);
        assert!(owners.areas(&ended).is_empty());
    }
}
