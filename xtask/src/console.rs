//! The one place where these commands print.

/// Prints a line of result.
#[expect(clippy::print_stdout, reason = "the one place that prints")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints a line of progress or of complaint.
#[expect(clippy::print_stderr, reason = "the one place that prints")]
pub(crate) fn complain(text: &str) {
    eprintln!("{text}");
}
