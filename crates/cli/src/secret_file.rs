//! Files with a secret in them, which nobody but their owner may read.

use std::io::Read;
use std::path::Path;

use crate::exit::Exit;
use crate::problem::Problem;

/// Reads a file, of at most `bytes_max` bytes. `code` and `what` are those of the problem: "cannot
/// read the users of /etc/oriel/users".
pub(crate) fn read(
    path: &Path,
    bytes_max: u64,
    code: &'static str,
    what: &str,
) -> Result<String, Problem> {
    let problem = |exit: Exit, why: String| {
        let what = format!("cannot read {what} {}", path.display());
        Problem::new(code, exit, what).why(why)
    };
    let failed = |error: std::io::Error| problem(Exit::Usage, error.to_string());
    let file = std::fs::File::open(path).map_err(failed)?;
    // Of the file that is read, not of one that has taken its name meanwhile.
    let wide = wide_mode(&file.metadata().map_err(failed)?);
    if let Some(mode) = wide {
        let why = format!("others can read or change it (mode {mode:04o})");
        return Err(problem(Exit::Permission, why).fix(format!("chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    let read = file.take(bytes_max + 1).read_to_string(&mut text);
    if read.map_err(failed)? as u64 > bytes_max {
        let why = format!("it has more than {bytes_max} bytes");
        return Err(problem(Exit::Usage, why));
    }
    Ok(text)
}

#[cfg(unix)]
fn wide_mode(metadata: &std::fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode();
    (mode & 0o077 != 0).then_some(mode & 0o7777)
}

#[cfg(not(unix))]
fn wide_mode(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}
