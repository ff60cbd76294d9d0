//! The test suites of requests and urllib3: their clients against the servers that they start
//! themselves, with HTTP in clear, TLS, broken responses, retries and streams.
//!
//! `through_proxy.py` sends each connection to loopback through a CONNECT. So oriel reads all of
//! it, and what the suites test of proxies goes through both.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::place::{Place, Run, Way};
use super::python::{fetch_environment, fetch_source, interpreter, source, version_of};
use super::report::{Comparison, Reason};
use super::verdicts::Verdicts;
use crate::failure::Failure;
use crate::tidy::workspace_root;

/// One suite, as it is started.
struct Tests {
    name: &'static str,
    /// Arguments of pytest: what is tested, and what is left out.
    arguments: &'static [&'static str],
    reasons: &'static [Reason],
}

/// Where oriel is the one that meets a server that is not there, or not to be trusted.
const DIALS_LATER: &str = "A CONNECT that is opened is answered before the server is dialled, so a \
     refused connection is a 502 within it, and a connection that says nothing is never made.";
const VERIFIES: &str = "The client cannot see the server's certificate, so oriel verifies it: this \
     one has expired or is nobody's, and the answer is a 502.";

const PROXY_AUTHORIZATION: &str =
    "`Proxy-Authorization` is for the next proxy and ends at it (RFC 9110 section 11.7.2).";

const REQUESTS: Tests = Tests {
    name: "requests",
    arguments: &["tests"],
    reasons: &[
        Reason {
            cases: &[
                "tests/test_requests.py::TestRequests::test_errors[http://localhost:1-ConnectionError]",
                "tests/test_requests.py::TestRequests::test_respect_proxy_env_on_*",
                "tests/test_testserver.py::TestTestServer::test_multiple_requests",
                "tests/test_testserver.py::TestTestServer::test_requests_after_timeout_are_not_received",
                "tests/test_testserver.py::TestTestServer::test_server_closes",
            ],
            why: DIALS_LATER,
        },
        Reason {
            cases: &[
                "tests/test_requests.py::TestPreparingURLs::test_different_connection_pool_for_*",
            ],
            why: VERIFIES,
        },
        Reason {
            cases: &[
                "tests/test_lowlevel.py::test_chunked_encoding_error",
                "tests/test_lowlevel.py::test_conflicting_content_lengths",
            ],
            why: "The head of the response is cut short, or has two lengths (RFC 9112 section 6.3): \
                  it is not passed on, the answer is a 502.",
        },
        Reason {
            cases: &[
                "tests/test_requests.py::TestRequests::test_proxy_authorization_preserved_on_request",
            ],
            why: PROXY_AUTHORIZATION,
        },
        Reason {
            cases: &["tests/test_requests.py::TestRequests::test_response_iter_lines_reentrant"],
            why: "The suite expects it to fail; whether it does depends on the pieces in which the \
                  body arrives.",
        },
    ],
};

const URLLIB3: Tests = Tests {
    name: "urllib3",
    // Not its tests of TLS and of proxies: they bring authorities and proxies of their own, and
    // oriel's certificates would be what they look at. Nor those of single sockets
    // (`test_socketlevel.py`): their servers wait without end for connections that oriel, which
    // dials for a request, never makes. What is left out beside these uses no network.
    arguments: &[
        "test/with_dummyserver/test_chunked_transfer.py",
        "test/with_dummyserver/test_connection.py",
        "test/with_dummyserver/test_connectionpool.py",
        "test/with_dummyserver/test_no_ssl.py",
        "test/with_dummyserver/test_poolmanager.py",
    ],
    reasons: &[
        Reason {
            cases: &[
                "test/with_dummyserver/test_connectionpool.py::TestConnectionPool::test_connection_error_retries",
            ],
            why: DIALS_LATER,
        },
        Reason {
            cases: &[
                "test/with_dummyserver/test_connectionpool.py::TestConnectionPool::test_mixed_case_hostname",
            ],
            why: "Within a CONNECT to 127.0.0.1 it asks for `http://LoCaLhOsT/`: a target other than \
                  the tunnel's is refused with 400.",
        },
        Reason {
            cases: &[
                "test/with_dummyserver/test_poolmanager.py::TestPoolManager::test_redirect_cross_host_no_remove_headers",
                "test/with_dummyserver/test_poolmanager.py::TestPoolManager::test_redirect_cross_host_set_removed_headers",
            ],
            why: PROXY_AUTHORIZATION,
        },
        Reason {
            cases: &[
                "test/with_dummyserver/test_chunked_transfer.py::TestChunkedTransfer::test_preserve_chunked_on_broken_connection",
                "test/with_dummyserver/test_chunked_transfer.py::TestChunkedTransfer::test_preserve_chunked_on_redirect",
            ],
            why: "The client of the test sends a mark that is no HTTP behind its request, and the \
                  server waits for it.",
        },
        Reason {
            cases: &[
                "test/with_dummyserver/test_chunked_transfer.py::TestChunkedTransfer::test_preserve_transfer_encoding_header",
            ],
            why: "Nobody can tell where a body with `Transfer-Encoding: test-transfer-encoding` ends \
                  (RFC 9112 section 6.3), so the request is refused.",
        },
    ],
};

pub(super) fn fetch_requests(place: &Place) -> Result<(), Failure> {
    fetch_environment(place)?;
    fetch_source(place, "requests")
}

pub(super) fn fetch_urllib3(place: &Place) -> Result<(), Failure> {
    fetch_environment(place)?;
    fetch_source(place, "urllib3")
}

pub(super) fn run_requests(place: &Place) -> Result<Vec<Comparison>, Failure> {
    compare(place, &REQUESTS)
}

pub(super) fn run_urllib3(place: &Place) -> Result<Vec<Comparison>, Failure> {
    compare(place, &URLLIB3)
}

fn compare(place: &Place, tests: &Tests) -> Result<Vec<Comparison>, Failure> {
    let _authority = place.authority(tests.name)?;
    let (direct, _) = run(place, tests, Way::Direct)?;
    let (through, flows) = run(place, tests, Way::Through)?;
    Ok(vec![Comparison {
        suite: tests.name,
        version: version_of(tests.name)?.to_owned(),
        way: "CONNECT, TLS and clear text opened",
        direct,
        through,
        flows,
        reasons: tests.reasons,
        classed: BTreeMap::new(),
    }])
}

fn run(place: &Place, tests: &Tests, way: Way) -> Result<(Verdicts, u64), Failure> {
    let plugins = workspace_root().join("xtask/src/conformance");
    let authority = place.path(tests.name);
    let (certificate, key) = (
        authority.with_extension("pem"),
        authority.with_extension("key"),
    );
    let verdicts = place.fresh(&format!("{}.verdicts", tests.name))?;
    let python = interpreter(place);
    let mut words: Vec<&OsStr> = vec![python.as_ref()];
    let options = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "through_proxy",
        "-p",
        "no:cacheprovider",
        "--timeout=20",
    ];
    words.extend(options.iter().chain(tests.arguments).map(OsStr::new));
    let outcome = place.run(
        &Run {
            name: tests.name,
            way,
            options: &[
                "--no-ca-env".as_ref(),
                "--ca-cert".as_ref(),
                certificate.as_ref(),
                "--ca-key".as_ref(),
                key.as_ref(),
                "--upstream-ca".as_ref(),
                certificate.as_ref(),
            ],
            variables: &[
                ("PYTHONPATH", plugins.as_ref()),
                ("PYTHONDONTWRITEBYTECODE", "1".as_ref()),
                ("CONFORMANCE_AUTHORITY", authority.as_ref()),
                ("CONFORMANCE_VERDICTS", verdicts.as_ref()),
                ("ORIEL_INTERCEPT_IP_TARGETS", "true".as_ref()),
            ],
            folder: &source(place, tests.name)?,
        },
        &words,
    )?;
    Ok((Verdicts::read(&verdicts)?, outcome.flows()))
}
