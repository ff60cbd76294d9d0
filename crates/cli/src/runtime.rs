//! The async runtime of the commands that run an engine.

use crate::problem::Problem;

pub(crate) fn build() -> Result<tokio::runtime::Runtime, Problem> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("oriel")
        .build()
        .map_err(|error| Problem::bug(format!("cannot start the runtime: {error}")))
}
