//! What is left of a mistake in oriel: a report in the state folder, and exit code 70. A panic in a task or
//! a thread ends no more than that one; the report is written all the same, and the log tells of it.

use std::backtrace::Backtrace;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use store::Redaction;

use crate::authority::make_private_folder;
use crate::clock::now;
use crate::command::version::VERSION;
use crate::exit::Exit;
use crate::limits::{CRASH_REPORTS_MAX, CRASH_WORDS_BYTES_MAX};
use crate::paths::Paths;
use crate::problem::Problem;

/// Writes a report of each panic of this process, of the first ones if there are many.
#[derive(Debug)]
pub(crate) struct Crashes {
    state: PathBuf,
    home: PathBuf,
    /// The command, with its credentials masked.
    command: String,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: usize,
    last: Option<Crash>,
}

/// One panic.
#[derive(Clone, Debug)]
struct Crash {
    /// What it said, with credentials masked.
    said: String,
    /// The line of the source.
    at: String,
    report: Option<PathBuf>,
}

impl Crashes {
    /// Takes the place of what Rust prints for a panic.
    pub(crate) fn watch(paths: &Paths, words: &[std::ffi::OsString]) -> Arc<Self> {
        let words: Vec<String> = words
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let crashes = Arc::new(Self {
            state: paths.state.clone(),
            home: paths.home.clone(),
            command: Redaction::Basic.mask_arguments(&words).join(" "),
            seen: Mutex::default(),
        });
        let hook = Arc::clone(&crashes);
        set_hook(Box::new(move |panic| hook.note(panic)));
        crashes
    }

    /// Does something, and makes a problem of a panic in it.
    pub(crate) fn caught<T>(&self, act: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
        // What was begun is dropped; nothing of it is used again.
        catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err(self.problem()))
    }

    fn note(&self, panic: &PanicHookInfo<'_>) {
        let thread = std::thread::current();
        let said = masked(panic.payload_as_str().unwrap_or("nothing that is a text"));
        let at = panic.location().map(ToString::to_string);
        let mut crash = Crash {
            said,
            at: at.unwrap_or_else(|| "an unknown place".to_owned()),
            report: None,
        };
        let mut seen = self.seen.lock();
        seen.count += 1;
        if seen.count <= CRASH_REPORTS_MAX {
            let thread = thread.name().unwrap_or("without a name");
            let text = self.text(&crash, thread, &Backtrace::force_capture());
            crash.report = self.write(&text, seen.count);
        }
        tracing::error!(
            at = crash.at,
            said = crash.said,
            report = crash.report.as_ref().map(|path| path.display().to_string()),
            "a mistake in oriel"
        );
        seen.last = Some(crash);
    }

    /// All that is known, with the home left out of paths.
    fn text(&self, crash: &Crash, thread: &str, backtrace: &Backtrace) -> String {
        let text = format!(
            "oriel {VERSION} ({} {})\ntime      {}\nthread    {thread}\nat        {}\nsaid      {}\n\
             command   {}\n\n{backtrace}\n",
            std::env::consts::OS,
            std::env::consts::ARCH,
            store::json::rfc3339(now()),
            crash.at,
            crash.said,
            self.command,
        );
        match self.home.to_str() {
            Some(home) if home.len() > 1 => text.replace(home, "~"),
            _ => text,
        }
    }

    /// Writes a report; nothing more can be done where that fails.
    fn write(&self, text: &str, number: usize) -> Option<PathBuf> {
        make_private_folder(&self.state).ok()?;
        let stamp = now().0;
        let name = format!("crash-{stamp}-{}-{number}.txt", std::process::id());
        let path = self.state.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.ok()?.write_all(text.as_bytes()).ok()?;
        Some(path)
    }

    /// What is said of the last one.
    fn problem(&self) -> Problem {
        let last = self.seen.lock().last.clone();
        let Some(crash) = last else {
            return Problem::bug("oriel ended by itself");
        };
        let what = "oriel made a mistake and could not go on";
        let problem = Problem::new("ORL7000", Exit::Internal, what)
            .why(format!("at {}: {}", crash.at, crash.said));
        let problem = match &crash.report {
            Some(report) => problem.fix(format!(
                "look through {} (credentials are masked in it), and send it with a report:",
                report.display()
            )),
            None => problem.fix("send these lines with a report:"),
        };
        problem.fix(issue(&crash.at))
    }
}

/// The text of a panic within bounds, with what looks like a credential masked.
fn masked(said: &str) -> String {
    let mut end = said.len().min(CRASH_WORDS_BYTES_MAX);
    while !said.is_char_boundary(end) {
        end -= 1;
    }
    let said = said.get(..end).unwrap_or_default().to_owned();
    // The first word of a command is its program.
    let words = Redaction::Basic.mask_arguments(&[String::new(), said]);
    words.into_iter().nth(1).unwrap_or_default()
}

/// Where it is reported, with a title.
fn issue(at: &str) -> String {
    let mut title = String::new();
    for byte in format!("oriel {VERSION} panicked at {at}").bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' => {
                title.push(char::from(byte));
            }
            _ => title.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{}/issues/new?title={title}", env!("CARGO_PKG_REPOSITORY"))
}

/// Panics where a test asks for it. There is none of this in a release.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "this is what it is for")]
pub(crate) fn panic_if_asked(environment: &crate::environment::Environment) {
    let said = "api_key='sk-of-a-test-0123456789' is in the way";
    match environment.text("ORIEL_DEBUG_PANIC") {
        Some("thread") => {
            let thread = std::thread::spawn(move || panic!("{said}"));
            // It is the report that counts.
            let _panicked = thread.join();
        }
        Some(_) => panic!("{said}"),
        None => {}
    }
}

/// Panics where a test asks for it: never in a release.
#[cfg(not(debug_assertions))]
pub(crate) fn panic_if_asked(_environment: &crate::environment::Environment) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_no_credentials_and_no_home() {
        let folder = tempfile::tempdir().unwrap();
        let crashes = Crashes {
            state: folder.path().join("state"),
            home: "/home/dana".into(),
            command: "oriel run".to_owned(),
            seen: Mutex::default(),
        };
        let crash = Crash {
            said: masked("api_key='sk-of-a-test' /home/dana/x"),
            at: "/home/dana/src/a.rs:1:2".to_owned(),
            report: None,
        };
        let text = crashes.text(&crash, "main", &Backtrace::disabled());
        assert!(text.contains("at        ~/src/a.rs:1:2\n"), "{text}");
        assert!(text.contains("[redacted:credential:"), "{text}");
        assert!(!text.contains("sk-of") && !text.contains("dana"), "{text}");
        let path = crashes.write(&text, 1).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }

    #[test]
    fn the_words_of_a_panic_are_bounded() {
        let long = "é".repeat(CRASH_WORDS_BYTES_MAX);
        assert!(masked(&long).len() <= CRASH_WORDS_BYTES_MAX);
        assert_eq!(masked("index out of bounds"), "index out of bounds");
    }

    #[test]
    fn an_issue_has_a_title() {
        let url = issue("a b/c.rs:1");
        assert!(
            url.ends_with("%20panicked%20at%20a%20b%2Fc.rs%3A1"),
            "{url}"
        );
    }
}
