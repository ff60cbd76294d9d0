//! `oriel version`: what this program is.

use crate::context::Context;
use crate::exit::Exit;
use crate::output::{print_json, print_line};
use crate::problem::Problem;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(context: &Context) -> Result<Exit, Problem> {
    if context.json() {
        print_json(&document())?;
    } else {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        print_line(&format!("oriel {VERSION} ({os} {arch})"))?;
    }
    Ok(Exit::Success)
}

/// The version for programs.
pub(crate) fn document() -> serde_json::Value {
    serde_json::json!({
        "schema": "oriel.version/1",
        "version": VERSION,
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
    })
}
