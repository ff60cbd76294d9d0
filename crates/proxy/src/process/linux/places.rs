//! Where among the descriptors of a process its connections are and were, and so where the next one is
//! likely to be. The kernel gives a new descriptor the lowest number that is free.

use std::collections::VecDeque;

use crate::limits::{PROCESS_AREAS_MAX, PROCESS_DESCRIPTORS_NEAR, PROCESS_PLACES_MAX};

/// The first that a program opens by itself.
const FIRST_DESCRIPTOR: u32 = 3;

/// Of the numbers that were given free, how many of the first are tried before anything else. A client that
/// opens a connection for each one that it closes takes them in this order.
const FREE_TRIED: usize = 3;
/// After how many connections with a higher number one that was given free is not tried first any more: the
/// process has given it to something else. One alone says little, as connections are not looked up in the
/// order in which they were opened.
const PASSED_MAX: u8 = 16;

/// Of one process.
#[derive(Debug, Default)]
pub(super) struct Places {
    areas: Areas,
    /// Of connections that have not ended as far as is known, the oldest first; at most
    /// [`PROCESS_PLACES_MAX`].
    held: VecDeque<Held>,
    /// Of those that ended, the first to end first; at most [`PROCESS_PLACES_MAX`].
    free: VecDeque<Free>,
}

/// Where among the descriptors of a process its connections were found, the latest first, each beyond
/// [`PROCESS_DESCRIPTORS_NEAR`] of the others. A process that opens many numbers them one after the other, or gives
/// them the numbers of those that it closed, which lie here and there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Areas(Vec<u32>);

#[derive(Clone, Copy, Debug)]
struct Held {
    descriptor: u32,
    /// Of the client's end, which tells it from the others of the process.
    port: u16,
}

#[derive(Clone, Copy, Debug)]
struct Free {
    descriptor: u32,
    /// See [`PASSED_MAX`].
    passed: u8,
}

impl Places {
    /// A connection was found there.
    pub(super) fn note(&mut self, descriptor: u32, port: u16) {
        self.areas.note(descriptor);
        let before = |held: &Held| held.descriptor == descriptor;
        if let Some(position) = self.held.iter().position(before) {
            self.held.remove(position);
        }
        if self.held.len() == PROCESS_PLACES_MAX {
            self.held.pop_front();
        }
        self.held.push_back(Held { descriptor, port });
        self.free.retain(|free| free.descriptor != descriptor);
        for free in &mut self.free {
            free.passed = free
                .passed
                .saturating_add(u8::from(free.descriptor < descriptor));
        }
    }

    /// The connection from this port has ended.
    pub(super) fn note_end(&mut self, port: u16) {
        let is_it = |held: &Held| held.port == port;
        let position = self.held.iter().rposition(is_it);
        let Some(Held { descriptor, .. }) = position.and_then(|at| self.held.remove(at)) else {
            return;
        };
        if self.free.len() == PROCESS_PLACES_MAX {
            self.free.pop_front();
        }
        let passed = 0;
        self.free.push_back(Free { descriptor, passed });
    }

    /// Where the next one most likely is: at a number that was given free, of which the lowest is the one that
    /// the kernel gives; or else past the others.
    pub(super) fn likely(&self) -> impl Iterator<Item = u32> {
        let free = self.free.iter().filter(|free| free.passed < PASSED_MAX);
        let free = free.map(|free| free.descriptor);
        let lowest = free.clone().min();
        let others = match lowest {
            None => [Some(self.past()), Some(self.areas.latest())],
            Some(_) => [lowest, None],
        };
        let first = free.take(FREE_TRIED);
        let tried = first.clone();
        let others = others.into_iter().flatten();
        first.chain(others.filter(move |other| tried.clone().all(|tried| tried != *other)))
    }

    /// Where else it may be: at the other numbers that were given free; at one that was without our knowing
    /// yet, most likely that of the oldest connection; or a little past the others.
    pub(super) fn possible(&self) -> impl Iterator<Item = u32> {
        let free = self.free.iter().map(|free| free.descriptor);
        let held = self.held.iter().map(|held| held.descriptor);
        let past = self.past();
        let past = past..past.saturating_add(PROCESS_DESCRIPTORS_NEAR);
        free.chain(held).chain(past)
    }

    /// The lowest number that none of the connections has had which are open.
    fn past(&self) -> u32 {
        let highest = self.held.iter().map(|held| held.descriptor).max();
        let highest = highest.unwrap_or_else(|| self.areas.latest());
        highest.saturating_add(1)
    }

    /// Around which to search, the latest first.
    pub(super) fn areas(&self) -> &[u32] {
        &self.areas.0
    }
}

impl Areas {
    fn note(&mut self, found: u32) {
        let is_elsewhere = |area: &u32| area.abs_diff(found) > PROCESS_DESCRIPTORS_NEAR;
        self.0.retain(is_elsewhere);
        self.0.insert(0, found);
        self.0.truncate(PROCESS_AREAS_MAX);
    }

    fn latest(&self) -> u32 {
        self.0.first().copied().unwrap_or(FIRST_DESCRIPTOR)
    }
}

impl Default for Areas {
    fn default() -> Self {
        Self(vec![FIRST_DESCRIPTOR])
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

    /// With connections at 10, 11 and so on, from ports with the same numbers.
    fn places(count: u16) -> Places {
        let mut places = Places::default();
        for port in 10..10 + count {
            places.note(port.into(), port);
        }
        places
    }

    fn likely(places: &Places) -> Vec<u32> {
        places.likely().collect()
    }

    #[test]
    fn what_was_given_free_is_tried_first() {
        let mut places = places(64);
        assert_eq!(likely(&places), [74, 73]);
        for port in [33, 20, 40, 50, 15] {
            places.note_end(port);
        }
        assert_eq!(likely(&places), [33, 20, 40, 15]);
        // Two at once, of which the later was looked up first.
        places.note(33, 4711);
        assert_eq!(likely(&places), [20, 40, 50, 15]);
        places.note(15, 4712);
        assert_eq!(likely(&places), [20, 40, 50]);
        for (descriptor, port) in [(20, 4713), (40, 4714), (50, 4715)] {
            places.note(descriptor, port);
        }
        assert_eq!(likely(&places), [74, 50]);
        assert_eq!(places.possible().next(), Some(10), "the oldest");
    }

    #[test]
    fn a_number_that_was_given_to_something_else_is_tried_later() {
        let mut places = places(2);
        places.note_end(10);
        for port in 20..20 + u16::from(PASSED_MAX) {
            assert_eq!(likely(&places)[0], 10);
            places.note(11, port);
        }
        assert_eq!(likely(&places), [12, 11]);
        assert_eq!(places.possible().next(), Some(10));
        places.note_end(9);
        assert_eq!(likely(&places), [12, 11], "of none that is known");
    }

    #[test]
    fn the_memory_of_places_is_bounded() {
        let mut places = places(5000);
        assert_eq!(places.held.len(), PROCESS_PLACES_MAX);
        for port in 10..6000 {
            places.note_end(port);
        }
        assert!(places.held.is_empty());
        for port in 10..6000 {
            places.note(port.into(), port);
            places.note_end(port);
        }
        assert_eq!(places.free.len(), PROCESS_PLACES_MAX);
        let mut places = Places::default();
        places.note(u32::MAX, 1);
        assert_eq!(likely(&places), [u32::MAX; 2]);
    }
}
