//! Work of which nothing can be counted: what is done now and for how long, on a line that is rewritten on a
//! terminal, else one every ten seconds. It goes to stderr, and nothing is said of work that is done at once.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use traffic::Timestamp;

use crate::clock::now;
use crate::context::Context;
use crate::output::{say, say_line};

/// When something is said first, and how often then.
#[derive(Clone, Copy, Debug)]
struct Pace {
    first: Duration,
    then: Duration,
}

/// On a terminal.
const REWRITTEN: Pace = Pace {
    first: Duration::from_millis(500),
    then: Duration::from_secs(1),
};
/// Elsewhere.
const WRITTEN: Pace = Pace {
    first: Duration::from_secs(10),
    then: Duration::from_secs(10),
};

/// What is done now.
#[derive(Debug)]
pub(crate) struct Phase(Mutex<String>);

impl Phase {
    /// Something else is done from now on.
    pub(crate) fn begin(&self, what: impl Into<String>) {
        *self.0.lock() = what.into();
    }

    fn line(&self, micros: i64) -> String {
        let seconds = micros / 1_000_000;
        format!("{}  {}:{:02}", self.0.lock(), seconds / 60, seconds % 60)
    }
}

/// Does some work, which begins with this phase, and tells how it goes meanwhile.
pub(crate) fn in_phases<T>(
    context: &Context,
    what: impl Into<String>,
    work: impl FnOnce(&Phase) -> T,
) -> T {
    let phase = Phase(Mutex::new(what.into()));
    if !context.shows_progress() {
        return work(&phase);
    }
    let is_terminal = context.terminal.stderr.is_terminal;
    let pace = if is_terminal { REWRITTEN } else { WRITTEN };
    let mut is_shown = false;
    let done = telling(&phase, pace, work, |line| {
        is_shown = true;
        match is_terminal {
            true => say(&format!("\r{line}\u{1b}[K")),
            false => say_line(line),
        }
    });
    if is_shown && is_terminal {
        // What follows stands in its place.
        say("\r\u{1b}[K");
    }
    done
}

fn telling<T>(
    phase: &Phase,
    pace: Pace,
    work: impl FnOnce(&Phase) -> T,
    mut tell: impl FnMut(&str) + Send,
) -> T {
    thread::scope(|scope| {
        // Closed when the work is done, however it ends.
        let (going_on, end) = sync_channel::<()>(0);
        scope.spawn(move || tell_until(phase, pace, &end, &mut tell));
        let done = work(phase);
        drop(going_on);
        done
    })
}

fn tell_until(phase: &Phase, pace: Pace, end: &Receiver<()>, tell: &mut impl FnMut(&str)) {
    let began: Timestamp = now();
    let mut pause = pace.first;
    while end.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        tell(&phase.line(now().micros_since(began)));
        pause = pace.then;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn what_is_done_is_told_while_it_lasts() {
        let (told, lines) = channel();
        let phase = Phase(Mutex::new("checking pages".to_owned()));
        let pace = Pace {
            first: Duration::from_millis(1),
            then: Duration::from_millis(1),
        };
        let work = |phase: &Phase| {
            let first: String = lines.recv().unwrap();
            phase.begin("checking bodies");
            let mut later = lines.recv().unwrap();
            while later == first {
                later = lines.recv().unwrap();
            }
            (first, later)
        };
        let (first, later) = telling(&phase, pace, work, |line| {
            told.send(line.to_owned()).unwrap();
        });
        assert_eq!(first, "checking pages  0:00");
        assert!(later.starts_with("checking bodies  0:"), "{later}");
        assert_eq!(phase.line(83_000_000), "checking bodies  1:23");
    }

    #[test]
    fn nothing_is_said_of_what_is_done_at_once() {
        let phase = Phase(Mutex::new(String::new()));
        let mut lines = 0;
        assert_eq!(telling(&phase, WRITTEN, |_| 7, |_| lines += 1), 7);
        assert_eq!(lines, 0);
    }
}
