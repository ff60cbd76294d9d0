//! The async runtime of the commands that run an engine.

use crate::problem::Problem;
use crate::signals;

pub(crate) fn build() -> Result<tokio::runtime::Runtime, Problem> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("oriel")
        .build()
        .map_err(|error| Problem::bug(format!("cannot start the runtime: {error}")))?;
    {
        let _entered = runtime.enter();
        signals::survive_file_limits()?;
    }
    Ok(runtime)
}
