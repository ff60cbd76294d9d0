//! Every bound of the engine that is not a setting, with its reason.

/// Leaf certificates held ready. An agent talks to tens of hosts; 1,024 leaves take about 4 MiB.
pub const LEAVES_MAX: usize = 1024;
