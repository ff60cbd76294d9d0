//! `cargo xtask tidy`: the rules of this project that no other tool knows. It reads text and
//! cargo's metadata, builds nothing, and lists all findings, not only the first.

mod edges;
mod licences;
mod sources;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ci::cargo;
use crate::console;
use crate::failure::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    let root = workspace_root();
    let metadata = metadata()?;
    let mut findings = Vec::new();
    edges::check(&metadata, &mut findings)?;
    licences::check(&metadata, &mut findings)?;
    sources::check(&root, &mut findings)?;
    if findings.is_empty() {
        return Ok(());
    }
    for finding in &findings {
        console::complain(&format!("tidy: {finding}"));
    }
    Err(Failure::new(format!(
        "tidy found {} things",
        findings.len()
    )))
}

/// Where the workspace's `Cargo.toml` is.
pub(crate) fn workspace_root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_path_buf()
}

fn metadata() -> Result<Value, Failure> {
    let output = cargo(&["metadata", "--format-version", "1"])
        .current_dir(workspace_root())
        .output()?;
    if !output.status.success() {
        return Err(Failure::new(String::from_utf8_lossy(&output.stderr)));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packages of a metadata document.
fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}
