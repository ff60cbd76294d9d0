//! Which process writes a run, so that another can tell whether it is still alive.

use std::fs;

use rustix::process::{Pid, getpid, test_kill_process};

/// Names a process across reuse of its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessMark {
    /// Its number.
    pub(crate) pid: i32,
    /// When it began, in clock ticks since boot, where the system tells.
    pub(crate) start: Option<i64>,
    /// The boot and the pid namespace its number is valid in, where the system tells.
    pub(crate) space: Option<String>,
}

impl ProcessMark {
    /// That of this process.
    pub(crate) fn own() -> Self {
        let pid = getpid().as_raw_nonzero().get();
        Self {
            pid,
            start: process_start(pid),
            space: process_space(),
        }
    }

    /// Whether the process has certainly ended. In doubt, as with a process of another container,
    /// it has not.
    pub(crate) fn has_ended(&self) -> bool {
        if self.is_of_another_boot() {
            return true;
        }
        if self.space != process_space() {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else {
            return true;
        };
        match test_kill_process(pid) {
            Ok(()) | Err(rustix::io::Errno::PERM) => {}
            Err(_) => return true,
        }
        match (self.start, process_start(self.pid)) {
            (Some(then), Some(now)) => then != now,
            _ => false,
        }
    }

    fn is_of_another_boot(&self) -> bool {
        let own = process_space();
        let boot = |space: &Option<String>| {
            let (boot, _) = space.as_deref()?.split_once(' ')?;
            Some(boot.to_owned())
        };
        match (boot(&self.space), boot(&own)) {
            (Some(then), Some(now)) => then != now,
            _ => false,
        }
    }
}

fn process_start(pid: i32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name of the program, may hold anything, a parenthesis too.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn process_space() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        assert!(!ProcessMark::own().has_ended());
    }

    #[test]
    fn a_number_used_again_is_another_process() {
        let own = ProcessMark::own();
        let Some(start) = own.start else { return };
        let earlier = ProcessMark {
            start: Some(start - 1),
            ..own
        };
        assert!(earlier.has_ended());
    }

    #[test]
    fn a_process_of_an_earlier_boot_has_ended() {
        let own = ProcessMark::own();
        let Some(space) = &own.space else { return };
        let other = format!("other {space}");
        let earlier = ProcessMark {
            space: Some(other),
            ..own
        };
        assert!(earlier.has_ended());
    }
}
