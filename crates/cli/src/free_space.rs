//! How much room is left where files are written.

use std::path::Path;

/// Bytes that this user can still write below a path; that of the nearest folder above it which is there.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let space = path
        .ancestors()
        .find_map(|above| rustix::fs::statvfs(above).ok())?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}
