//! How far a long piece of work is: a line that is rewritten on a terminal, else one every ten seconds.
//! It goes to stderr, and nothing is said of work that is done at once.

use std::time::Duration;

use traffic::Timestamp;

use crate::clock::now;
use crate::context::Context;
use crate::output::{say, say_line};
use crate::quantity::count;
use crate::terminal::Stream;

/// Work below this is done at once.
const QUIET_FOR: Duration = Duration::from_millis(500);
/// How often a line on a terminal is rewritten.
const REDRAW_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written elsewhere.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Characters of the bar.
const BAR_WIDTH: u64 = 20;

/// A piece of work.
#[derive(Debug)]
pub(crate) struct Progress {
    /// What is done: "exporting".
    verb: &'static str,
    /// What is counted: "flows".
    unit: &'static str,
    /// How many there are, where that is known.
    total: Option<u64>,
    began_at: Timestamp,
    told_at: Timestamp,
    is_shown: bool,
    /// `None` where nothing is to be said.
    stderr: Option<Stream>,
}

impl Progress {
    pub(crate) fn begin(
        context: &Context,
        verb: &'static str,
        unit: &'static str,
        total: Option<u64>,
    ) -> Self {
        Self {
            verb,
            unit,
            total,
            began_at: now(),
            told_at: now(),
            is_shown: false,
            stderr: context.shows_progress().then_some(context.terminal.stderr),
        }
    }

    /// So many are done.
    pub(crate) fn tell(&mut self, done: u64) {
        let Some(stderr) = self.stderr else {
            return;
        };
        let at = now();
        let pause = match (stderr.is_terminal, self.is_shown) {
            (true, false) => QUIET_FOR,
            (true, true) => REDRAW_EVERY,
            (false, _) => LINE_EVERY,
        };
        if at.micros_since(self.told_at) < i64::try_from(pause.as_micros()).unwrap_or(i64::MAX) {
            return;
        }
        let line = self.line(stderr, done, at);
        if stderr.is_terminal {
            say(&format!("\r{line}\u{1b}[K"));
        } else {
            say_line(&line);
        }
        self.told_at = at;
        self.is_shown = true;
    }

    /// Takes the line away: what follows stands in its place.
    pub(crate) fn finish(self) {
        if self.is_shown && self.stderr.is_some_and(|stderr| stderr.is_terminal) {
            say("\r\u{1b}[K");
        }
    }

    fn line(&self, stderr: Stream, done: u64, at: Timestamp) -> String {
        let (verb, unit) = (self.verb, self.unit);
        let Some(total) = self.total.filter(|total| *total > 0) else {
            return format!("{verb}  {} {unit}", count(done));
        };
        let part = |of: u64| {
            u64::try_from(u128::from(done.min(total)) * u128::from(of) / u128::from(total))
                .unwrap_or(of)
        };
        let filled = usize::try_from(part(BAR_WIDTH)).unwrap_or(0);
        let empty = usize::try_from(BAR_WIDTH).unwrap_or(0) - filled;
        let (full_mark, empty_mark) = if stderr.pen.ascii() {
            ("#", "-")
        } else {
            ("█", "░")
        };
        let bar = full_mark.repeat(filled) + &empty_mark.repeat(empty);
        let left = self.seconds_left(done, total, at);
        let left = left.map(|left| format!("  eta {}:{:02}", left / 60, left % 60));
        format!(
            "{verb}  {bar}  {:>3}%  {}/{} {unit}{}",
            part(100),
            count(done),
            count(total),
            left.unwrap_or_default()
        )
    }

    /// If it goes on as it went.
    fn seconds_left(&self, done: u64, total: u64, at: Timestamp) -> Option<u64> {
        let micros = u128::try_from(at.micros_since(self.began_at)).ok()?;
        let left = u128::from(total.saturating_sub(done));
        let micros = micros * left / u128::from(done.max(1));
        u64::try_from(micros / 1_000_000).ok().filter(|_| done > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Pen;

    #[test]
    fn a_line_says_how_far_it_is() {
        let stderr = Stream {
            is_terminal: true,
            pen: Pen::plain(),
            width: None,
        };
        let mut progress = Progress {
            verb: "exporting",
            unit: "flows",
            total: Some(4000),
            began_at: Timestamp(0),
            told_at: Timestamp(0),
            is_shown: false,
            stderr: None,
        };
        let at = Timestamp(30_000_000);
        assert_eq!(
            progress.line(stderr, 1000, at),
            "exporting  █████░░░░░░░░░░░░░░░   25%  1,000/4,000 flows  eta 1:30"
        );
        progress.total = None;
        assert_eq!(progress.line(stderr, 1000, at), "exporting  1,000 flows");
        progress.total = Some(0);
        assert_eq!(progress.line(stderr, 0, at), "exporting  0 flows");
    }
}
