//! curl's own tests of HTTP, by the proxy option of their runner: curl sends the absolute form, or
//! CONNECT where it wants TLS, and each byte that its servers receive and that curl writes is
//! compared.
//!
//! Where two texts differ only in what a proxy must change, `curl_tests.sh` says so, and where oriel
//! has refused something, its own record does: those cases need no list of their own.

mod reasons;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use self::reasons::{FAILURES, HOP_FIELDS, LINE_ENDS, REASONS};
use super::place::{Place, Run, Way, fetch as fetch_by};
use super::report::Comparison;
use super::verdicts::{Verdict, Verdicts};
use crate::failure::Failure;
use crate::tidy::workspace_root;

/// What is run: HTTP in clear and within TLS, and no other proxy, as one would stand in the way of
/// the other. curl is built without HTTP/2.
const TESTS: &[&str] = &[
    "HTTP",
    "HTTPS",
    "!FTP",
    "!HTTP proxy",
    "!HTTPS proxy",
    "!haproxy",
    "!proxytunnel",
    "!HTTP CONNECT",
    "!SOCKS4",
    "!SOCKS5",
    "!HTTP/2",
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
    let (through, recorded) = run_tests(place, Way::Through)?;
    let mut classed = through.per_hop;
    for difference in direct.verdicts.differences(&through.verdicts) {
        if let Some(why) = recorded.failures.get(number_of(difference.case)) {
            classed.entry(difference.case.to_owned()).or_insert(why);
        }
    }
    Ok(vec![Comparison {
        suite: "curl",
        version: format!("{}, its tests of HTTP and HTTPS", version(place)?),
        way: "absolute form, CONNECT for TLS (`runtests.pl -P`)",
        direct: direct.verdicts,
        through: through.verdicts,
        flows: recorded.flows,
        reasons: REASONS,
        classed,
    }])
}

fn run_tests(place: &Place, way: Way) -> Result<(Said, Recorded), Failure> {
    let tests = place.path("curl/source/tests");
    let script = script("curl_tests.sh");
    let word = match way {
        Way::Direct => "direct",
        Way::Through => "through",
    };
    let mut words: Vec<&OsStr> = vec!["sh".as_ref(), script.as_ref(), word.as_ref()];
    words.extend(TESTS.iter().map(OsStr::new));
    let certificate = tests.join("certs/test-ca.cacert");
    let key = tests.join("certs/test-ca.key");
    let run = Run {
        name: "curl",
        way,
        options: &[
            "--no-ca-env".as_ref(),
            "--ca-cert".as_ref(),
            certificate.as_ref(),
            "--ca-key".as_ref(),
            key.as_ref(),
            "--upstream-ca".as_ref(),
            certificate.as_ref(),
            // The certificates are for `localhost`; where a test uses the address, curl does not
            // verify either.
            "--danger-accept-invalid-upstream".as_ref(),
            "127.0.0.1".as_ref(),
        ],
        variables: &[
            ("ORIEL_INTERCEPT_IP_TARGETS", "true".as_ref()),
            // The test server holds back its log, and so the test, while a connection is open.
            ("ORIEL_POOL_IDLE_PER_TARGET_MAX", "0".as_ref()),
        ],
        folder: &tests,
    };
    let outcome = place.run(&run, &words)?;
    let said = read_output(&outcome.text, &|number| title_of(&tests, number))?;
    let mut recorded = Recorded {
        flows: outcome.flows(),
        failures: BTreeMap::new(),
    };
    if way == Way::Through {
        let flows = place.ask_oriel(&run, &["flows", "--all"])?;
        recorded.failures = read_failures(&flows);
    }
    Ok((said, recorded))
}

/// What oriel recorded.
#[derive(Debug)]
struct Recorded {
    flows: u64,
    /// Why requests failed, by the numbers in their paths, which name the test.
    failures: BTreeMap<String, &'static str>,
}

fn read_failures(flows: &Value) -> BTreeMap<String, &'static str> {
    let mut failures = BTreeMap::new();
    for flow in flows["items"].as_array().into_iter().flatten() {
        let message = flow["error"]["message"].as_str().unwrap_or_default();
        let known = FAILURES.iter().find(|(part, _)| message.contains(part));
        let path = flow["path"].as_str().unwrap_or_default();
        let numbers = path.split(|character: char| !character.is_ascii_digit());
        for number in numbers.filter(|number| !number.is_empty()) {
            let Some((_, why)) = known else { continue };
            failures.insert(number.to_owned(), *why);
            // The second request of test 12 asks for 120002.
            if let Some(test) = number
                .len()
                .checked_sub(4)
                .and_then(|end| number.get(..end))
            {
                failures.insert(test.to_owned(), *why);
            }
        }
    }
    failures
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
            if let Some(why) = per_hop.get(number) {
                said.verdicts.add(case(number), Verdict::Failed);
                said.per_hop.insert(case(number), why);
            } else {
                said.verdicts.add(case(number), Verdict::Passed);
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

/// What stands before the title of a test.
fn number_of(case: &str) -> &str {
    case.split(' ').next().unwrap_or_default()
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

    #[test]
    fn a_failure_on_record_is_of_the_test_in_the_path() {
        let flows = serde_json::json!({"items": [
            {"path": "/want/12", "error": null},
            {"path": "/a/340002.txt?b=7", "error": {"message": "a.b cannot be resolved: no"}},
            {"path": "/56", "error": {"message": "news"}},
        ]});
        let failures = read_failures(&flows);
        let tests: Vec<&str> = failures.keys().map(String::as_str).collect();
        assert_eq!(tests, ["34", "340002", "7"]);
    }
}
