//! What the Linux scheduler tells of the threads of this process.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// Processor time of the threads that have this name.
pub(crate) fn time_of_threads(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks
        .map(|task| task.unwrap().path())
        .filter(|task| fs::read_to_string(task.join("comm")).unwrap().trim() == name)
        .map(|task| time_of(&task))
        .sum()
}

/// Processor time of the thread of this folder in `/proc`.
pub(crate) fn time_of(task: &Path) -> Duration {
    let schedstat = fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}
