//! Compiles, and where it ends by itself runs, what the documents that oriel was asked for by print
//! as their examples, with nothing but the crate's name changed.
//!
//! The documents are not part of the repository: where they do not lie beside it there is nothing
//! to check, and that is said.

use std::path::Path;

use crate::ci::{cargo, gate};
use crate::console;
use crate::failure::Failure;
use crate::tidy::workspace_root;

const FOLDER: &str = "../shared/seeds";

/// A Rust program that a document prints.
struct Example {
    /// How the binary is called.
    name: &'static str,
    document: &'static str,
    /// What the program has that no other block of the document has.
    mark: &'static str,
    /// What the document calls the crate.
    called: Option<&'static str>,
    /// What stands around it; `{}` is where it goes.
    frame: &'static str,
    /// Whether it ends by itself.
    ends: bool,
}

const EXAMPLES: &[Example] = &[
    Example {
        name: "minimal-integration",
        document: "2-soth-mitm.md",
        mark: "async fn main()",
        called: Some("soth_mitm"),
        frame: "{}",
        ends: true,
    },
    Example {
        name: "analyzers",
        document: "0-agentsight-mitm-proxy.md",
        mark: "MitmProxyRunner::builder()",
        called: None,
        frame: "use oriel_proxy::analysis::{ChunkMerger, FileLogger, HttpParser, MitmProxyRunner};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
{}
    Ok(())
}
",
        ends: false,
    },
];

/// Checks all of them.
pub(crate) fn run() -> Result<(), Failure> {
    let root = workspace_root();
    let documents = root.join(FOLDER);
    if !documents.is_dir() {
        console::complain("==> examples of the documents: they are not here, nothing to check");
        return Ok(());
    }
    let package = root.join("target/seeds");
    std::fs::create_dir_all(package.join("src/bin"))?;
    std::fs::write(package.join("Cargo.toml"), manifest(&root)?)?;
    // The versions of our own, so that nothing is built twice.
    std::fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock"))?;
    for example in EXAMPLES {
        let text = std::fs::read_to_string(documents.join(example.document))?;
        let program = example.program(&text)?;
        let path = package.join(format!("src/bin/{}.rs", example.name));
        std::fs::write(path, program)?;
    }
    let mut build = cargo(&["build", "--bins"]);
    build
        .current_dir(&package)
        .env("CARGO_TARGET_DIR", root.join("target"));
    gate("examples of the documents", build)?;
    for example in EXAMPLES.iter().filter(|example| example.ends) {
        let mut program = std::process::Command::new(root.join("target/debug").join(example.name));
        // It makes its files where it is started.
        program.current_dir(&package);
        gate(example.name, program)?;
    }
    Ok(())
}

impl Example {
    fn program(&self, document: &str) -> Result<String, Failure> {
        let block = blocks(document).find(|block| block.contains(self.mark));
        let block = block.ok_or_else(|| {
            let (document, mark) = (self.document, self.mark);
            Failure::new(format!("{document} has no Rust block with `{mark}`"))
        })?;
        let named = match self.called {
            Some(called) => block.replace(called, "oriel_proxy"),
            None => block.to_owned(),
        };
        Ok(self.frame.replace("{}\n", &named).replace("{}", &named))
    }
}

/// What stands between "```rust" and the end of the block.
fn blocks(document: &str) -> impl Iterator<Item = &str> {
    let beginnings = document.split("```rust\n").skip(1);
    beginnings.filter_map(|rest| Some(rest.split_once("```")?.0))
}

/// A package outside of the workspace with the profiles of the workspace.
fn manifest(root: &Path) -> Result<String, Failure> {
    let ours = std::fs::read_to_string(root.join("Cargo.toml"))?;
    let profiles = ours
        .split_once("[profile.dev]")
        .map_or("", |(_, rest)| rest);
    Ok(format!(
        "[package]
name = \"seed-examples\"
edition = \"2024\"

[dependencies]
oriel-proxy = {{ path = \"../../crates/proxy\" }}
bytes = \"1\"
tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\", \"time\"] }}

[workspace]

[profile.dev]{profiles}"
    ))
}
