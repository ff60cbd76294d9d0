//! What a process has used so far, read from `/proc`: CPU time in nanoseconds and peak memory.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::failure::Failure;

/// CPU time per thread at one moment.
#[derive(Debug)]
pub(super) struct CpuTime {
    nanoseconds: HashMap<u64, u64>,
    ticks: u64,
}

/// `USER_HZ`, which Linux has fixed at 100 for all programs.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

impl CpuTime {
    /// Reads the CPU time of all threads of a process.
    pub(super) fn read(process: u32) -> Result<Self, Failure> {
        let mut nanoseconds = HashMap::new();
        for entry in std::fs::read_dir(proc_path(process, "task"))? {
            let entry = entry?;
            // A thread may end between the listing and this line.
            let Ok(text) = std::fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            let thread = entry.file_name().to_string_lossy().parse()?;
            nanoseconds.insert(thread, first_number(&text)?);
        }
        let ticks = read_ticks(process)?;
        Ok(Self { nanoseconds, ticks })
    }

    /// Nanoseconds used between two readings; none where there is no process.
    pub(super) fn between(before: Option<&Self>, after: Option<&Self>) -> u64 {
        match (before, after) {
            (Some(before), Some(after)) => after.since(before),
            _ => 0,
        }
    }

    /// Nanoseconds used since an earlier reading.
    ///
    /// Threads that ended in between are only seen by the coarse clock, which counts them; it
    /// decides when it says clearly more.
    pub(super) fn since(&self, earlier: &Self) -> u64 {
        let of_thread = |(thread, now): (&u64, &u64)| {
            now.saturating_sub(earlier.nanoseconds.get(thread).copied().unwrap_or(0))
        };
        let precise: u64 = self.nanoseconds.iter().map(of_thread).sum();
        let coarse = self.ticks.saturating_sub(earlier.ticks) * NANOSECONDS_PER_TICK;
        let has_ended = |thread: &u64| !self.nanoseconds.contains_key(thread);
        if earlier.nanoseconds.keys().any(has_ended) {
            return precise.max(coarse);
        }
        precise
    }
}

/// The most memory a process has held, in bytes.
pub(super) fn peak_memory(process: u32) -> Result<u64, Failure> {
    memory(process, "VmHWM:")
}

/// The memory a process holds now, in bytes.
pub(super) fn current_memory(process: u32) -> Result<u64, Failure> {
    memory(process, "VmRSS:")
}

fn memory(process: u32, key: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(proc_path(process, "status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kibibytes = first_number(line.unwrap_or_default().trim())?;
    Ok(kibibytes * 1024)
}

/// User and system time of the whole process, ended threads included.
fn read_ticks(process: u32) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(proc_path(process, "stat"))?;
    // The name stands in parentheses and may hold spaces; times are the 12th and 13th after it.
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    let mut ticks = 0;
    for time in times {
        ticks += time.parse::<u64>()?;
    }
    Ok(ticks)
}

fn proc_path(process: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/{file}"))
}

fn first_number(text: &str) -> Result<u64, Failure> {
    Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_use_grows() {
        let process = std::process::id();
        let before = CpuTime::read(process).unwrap();
        let sum = (0..20_000_000_u64).fold(0, |sum: u64, next| sum.wrapping_mul(31) ^ next);
        assert_ne!(sum, 1);
        let used = CpuTime::read(process).unwrap().since(&before);
        assert!(used > 100_000, "{used} ns");
        assert!(peak_memory(process).unwrap() > 100_000);
        assert!(current_memory(process).unwrap() > 100_000);
    }
}
