//! How many files and sockets the process may have open: a served client takes two descriptors, a
//! tunnel up to six, and the usual soft limit of 1,024 is soon used up.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Not for `run`: the child would inherit it, and it is to
/// run as it would without oriel.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit on open descriptors");
    }
}
