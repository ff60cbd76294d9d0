//! The project's own commands: `cargo xtask ci`, `tidy`, `deny`, `seeds`, `bench` and
//! `conformance`.
//!
//! Nothing here is shipped. What a check knows about the project stands in a table at the top of
//! its file.

mod bench;
mod ci;
mod conformance;
mod console;
mod failure;
mod seeds;
mod tidy;

use std::process::ExitCode;

use crate::failure::Failure;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci [--full]   what CI runs: fmt, tidy, clippy, docs, tests; --full adds deny, parquet and seeds
  test          the tests alone
  tidy          the project's own rules: crate edges, purity, names, licences, bans
  deny          licences, bans and sources by cargo-deny
  seeds         the examples of the documents that asked for oriel, where these are
  bench [--quick] [--only CASE]… [--proxy NAME]… [--write FILE]
                CPU per request and latency, beside other proxies
  conformance [--only SUITE]…
                the test suites of others, direct and through oriel
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            console::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ci"] => ci::run(ci::Scope::Usual),
        ["ci", "--full"] => ci::run(ci::Scope::Full),
        ["test"] => ci::test(),
        ["tidy"] => tidy::run(),
        ["deny"] => ci::deny(),
        ["seeds"] => seeds::run(),
        ["bench", rest @ ..] => bench::run(rest),
        // What the commands start themselves as.
        ["bench-run", rest @ ..] => bench::run_pinned(rest),
        ["conformance", rest @ ..] => conformance::run(rest),
        ["conformance-run", rest @ ..] => conformance::run_offline(rest),
        ["bench-peer", name, listen, folder] => bench::run_peer(name, listen, folder),
        ["bench-awake"] => {
            bench::run_awake();
            Ok(())
        }
        [] | ["help" | "--help" | "-h"] => {
            console::say(USAGE);
            Ok(())
        }
        _ => Err(Failure::new(format!(
            "do not know `{}`\n\n{USAGE}",
            words.join(" ")
        ))),
    }
}
