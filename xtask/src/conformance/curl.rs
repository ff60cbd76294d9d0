//! curl's own tests of HTTP, by the proxy option of their runner: curl sends the absolute form, and
//! each byte that its servers receive and that curl writes is compared.
//!
//! Where two texts differ only in what a proxy must change, `curl_tests.sh` says so: those cases
//! need no list of their own.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::{Place, Run, Way, fetch as fetch_by};
use super::report::{Comparison, Reason};
use super::verdicts::{Verdict, Verdicts};
use crate::failure::Failure;
use crate::tidy::workspace_root;

/// What is run: HTTP in clear and no other proxy, as one would stand in the way of the other.
/// Bounded by number, as each difference is looked at once.
const TESTS: &[&str] = &[
    "HTTP",
    "!FTP",
    "!HTTP proxy",
    "!proxytunnel",
    "!HTTP CONNECT",
    "!SOCKS4",
    "!SOCKS5",
    "!HTTPS",
    "!HTTP/2",
    "1",
    "to",
    "400",
];

const HOP_FIELDS: &str = "Only fields of one connection differ: `Connection`, `Keep-Alive` (RFC 9110 \
     section 7.6.1). All else that the test compares is the same.";
const LINE_ENDS: &str = "Lines of a head ended in LF alone and left with CRLF; fields of one \
     connection may differ as well. All else that the test compares is the same.";

const REASONS: &[Reason] = &[
    Reason {
        cases: &["19 *", "20 *"],
        why: "The server is not there: it is oriel that finds out, and answers with a 502.",
    },
    Reason {
        cases: &["31 *", "46 *", "389 *"],
        why: "curl is told an address for a name, or knows one by itself. In the absolute form the \
              proxy resolves the name, and it has none.",
    },
    Reason {
        cases: &["346 *"],
        why: "The test names a proxy itself, with credentials, and this one takes its place.",
    },
    Reason {
        cases: &["30 *", "37 *", "158 *"],
        why: "The server closes without a final answer: a 502 says so.",
    },
    Reason {
        cases: &["36 *", "341 *"],
        why: "A chunk's size is no number, or ends in LF alone: refused, and the body is cut there.",
    },
    Reason {
        cases: &["47 *", "180 *", "181 *"],
        why: "A request of HTTP/1.0 goes on as HTTP/1.1 (RFC 9110 section 6.2). That its field \
              names come out in lower case is a weakness of oriel.",
    },
    Reason {
        cases: &["48 *", "338 *"],
        why: "Two connections where curl would have used one: in this run oriel keeps none, as the \
              test server waits for the end of each before the next test.",
    },
    Reason {
        cases: &["193 *"],
        why: "It counts curl's connections: the server closes its own after the redirect, that \
              to the proxy stays.",
    },
    Reason {
        cases: &["56 *"],
        why: "A head of 100 KiB: oriel takes 64 KiB and answers 431.",
    },
    Reason {
        cases: &["60 *"],
        why: "A request with Transfer-Encoding and Content-Length is refused (RFC 9112 section 6.3).",
    },
    Reason {
        cases: &["365 *"],
        why: "A response with Transfer-Encoding and Content-Length is refused (RFC 9112 section \
              6.3): a 502.",
    },
    Reason {
        cases: &["61 *", "62 *", "73 *", "329 *"],
        why: "The authority of the absolute form replaces the Host field (RFC 9112 section 3.2.2).",
    },
    Reason {
        cases: &["66 *"],
        why: "The response is HTTP/0.9, without a head: a 502.",
    },
    Reason {
        cases: &["129 *"],
        why: "The response says HTTP/1.2, which curl refuses as well: oriel does so first, with a \
              502.",
    },
    Reason {
        cases: &["178 *", "393 *", "394 *"],
        why: "Content-Length is no number, or none that 64 bits hold: a 502.",
    },
    Reason {
        cases: &["262 *", "398 *"],
        why: "A field with a NUL, or a line without a colon, which curl refuses as well: oriel does \
              so first, with a 502.",
    },
    Reason {
        cases: &["319 *", "387 *"],
        why: "A transfer coding other than chunked has an end that oriel cannot know (RFC 9112 \
              section 6.3): a 502.",
    },
    Reason {
        cases: &["357 *"],
        why: "An answer in the place of `100 Continue` ends the client's connection, and with that \
              curl does not ask again without its `Expect`.",
    },
];

pub(super) fn fetch(place: &Place) -> Result<(), Failure> {
    let folder = place.path("curl");
    if folder.join("built").exists() {
        return Ok(());
    }
    let mut build = Command::new("sh");
    build.arg(script("fetch_curl.sh")).arg(&folder);
    fetch_by(place, "curl's source from Debian, and build it", build)
}

pub(super) fn run(place: &Place) -> Result<Vec<Comparison>, Failure> {
    let (direct, _) = run_tests(place, Way::Direct)?;
    let (through, flows) = run_tests(place, Way::Through)?;
    Ok(vec![Comparison {
        suite: "curl",
        version: format!("{}, HTTP tests 1 to 400", version(place)?),
        way: "absolute form (`runtests.pl -P`)",
        direct: direct.verdicts,
        through: through.verdicts,
        flows,
        reasons: REASONS,
        classed: through.per_hop,
    }])
}

fn run_tests(place: &Place, way: Way) -> Result<(Said, u64), Failure> {
    let tests = place.path("curl/source/tests");
    let script = script("curl_tests.sh");
    let word = match way {
        Way::Direct => "direct",
        Way::Through => "absolute",
    };
    let mut words: Vec<&OsStr> = vec!["sh".as_ref(), script.as_ref(), word.as_ref()];
    words.extend(TESTS.iter().map(OsStr::new));
    let run = Run {
        name: "curl",
        way,
        options: &[OsStr::new("--no-ca-env")],
        variables: &[
            ("ORIEL_INTERCEPT_IP_TARGETS", "true".as_ref()),
            // The test server holds back its log, and so the test, while a connection is open.
            ("ORIEL_POOL_IDLE_PER_TARGET_MAX", "0".as_ref()),
        ],
        folder: &tests,
    };
    let outcome = place.run(&run, &words)?;
    let said = read_output(&outcome.text, &|number| title_of(&tests, number))?;
    Ok((said, outcome.flows()))
}

/// Debian's testing branch moves, so the version is what was fetched.
fn version(place: &Place) -> Result<String, Failure> {
    let header = std::fs::read_to_string(place.path("curl/source/include/curl/curlver.h"))?;
    let mut lines = header.lines();
    let version = lines.find_map(|line| line.strip_prefix("#define LIBCURL_VERSION "));
    Ok(version.unwrap_or_default().trim_matches('"').to_owned())
}

/// What the tests said one way.
#[derive(Debug, Default)]
struct Said {
    verdicts: Verdicts,
    /// The cases that failed, but only by what a proxy must change, and what that was.
    per_hop: BTreeMap<String, &'static str>,
}

/// Reads what `runtests.pl -am` prints. Failures are read from the list at its end, as not each of
/// them has a line. A case is its number and title; it passed if all it compares is the same to the
/// byte.
fn read_output(text: &str, title_of: &dyn Fn(&str) -> String) -> Result<Said, Failure> {
    let mut said = Said::default();
    let case = |number: &str| format!("{number} {}", title_of(number));
    let number_of = |rest: &str| rest.split(' ').next().unwrap_or_default().to_owned();
    let mut per_hop = BTreeMap::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("PERHOP: ") else {
            continue;
        };
        let why = per_hop.entry(number_of(rest)).or_insert(HOP_FIELDS);
        if rest.contains(" - line ends - ") {
            *why = LINE_ENDS;
        }
    }
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("PASS: ").map(number_of) {
            if let Some(why) = per_hop.get(&number) {
                said.verdicts.add(case(&number), Verdict::Failed);
                said.per_hop.insert(case(&number), why);
            } else {
                said.verdicts.add(case(&number), Verdict::Passed);
            }
        } else if let Some(failed) = line.strip_prefix("TESTFAIL: These test cases failed: ") {
            for number in failed.split_whitespace() {
                said.verdicts.add(case(number), Verdict::Failed);
            }
        }
    }
    match text.contains("\nTESTDONE: ") {
        true => Ok(said),
        false => Err(Failure::new("curl's tests did not run to their end")),
    }
}

/// The title of a test, from its file.
fn title_of(tests: &Path, number: &str) -> String {
    let bytes = std::fs::read(tests.join(format!("data/test{number}"))).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let title = text
        .split("<name>")
        .nth(1)
        .and_then(|rest| rest.split("</name>").next());
    title.unwrap_or_default().trim().replace('|', "\\|")
}

fn script(name: &str) -> PathBuf {
    workspace_root().join("xtask/src/conformance").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_from_the_end_and_classed_by_the_runner() {
        let text = "PASS: 1 - get\nFAIL: 2 - put - protocol\nPERHOP: 12 - line ends - data\nPASS: 12 - head\n\
                    PERHOP: 2 - fields - data\nTESTDONE: 2 tests out of 4 reported OK: 50%\n\
                    \nTESTFAIL: These test cases failed: 2 3 \n";
        let said = read_output(text, &|number| format!("title {number}")).unwrap();
        let counts = [Verdict::Passed, Verdict::Failed].map(|verdict| said.verdicts.count(verdict));
        assert_eq!(counts, [1, 3]);
        // One that failed in something else as well has no reason yet.
        assert_eq!(
            said.per_hop,
            BTreeMap::from([("12 title 12".to_owned(), LINE_ENDS)])
        );
        assert!(read_output("PASS: 1 - get\n", &|_| String::new()).is_err());
    }
}
