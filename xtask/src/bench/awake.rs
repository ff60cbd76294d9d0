//! Keeps the cores from sleeping while delays are measured.
//!
//! A core with nothing to run sleeps, and on a virtual machine it is the host that puts it to
//! sleep and wakes it: on the machine of `docs/performance.md` that takes 50 to 100 µs each time,
//! several times what any proxy needs to pass an event on. A process of the idle class (`sched(7)`,
//! `SCHED_IDLE`) that never waits keeps the core from sleeping, and gives way to whatever else
//! becomes ready. Its CPU time is nobody's: the figures are read per process.

use std::process::{Child, Command, Stdio};

use super::{LOAD_CORE, PROXY_CORE};
use crate::failure::Failure;

/// The processes that do nothing without ever waiting. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Awake(Vec<Child>);

impl Awake {
    /// Keeps both cores awake.
    pub(super) fn keep() -> Result<Self, Failure> {
        let mut awake = Self(Vec::new());
        for core in [LOAD_CORE, PROXY_CORE] {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", core, "chrt", "--idle", "0"]);
            command.arg(std::env::current_exe()?).arg("bench-awake");
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
            awake.0.push(child?);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have been ended from outside, which does no harm.
            let _killed = child.kill();
            let _status = child.wait();
        }
    }
}

/// Is such a process: spins until it is killed, or whoever started it is gone.
pub(super) fn spin() {
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        for _ in 0..100_000 {
            std::hint::spin_loop();
        }
    }
}
