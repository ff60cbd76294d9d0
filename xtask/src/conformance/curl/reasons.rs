//! Why tests of curl's differ through oriel.

use super::super::report::Reason;

/// Tests that failed in nothing but what `curl_tests.sh` takes away.
pub(super) const HOP_FIELDS: &str = "Only fields of one connection differ: `Connection`, \
     `Keep-Alive` (RFC 9110 section 7.6.1); or there is the answer to CONNECT as well. All else that \
     the test compares is the same.";
pub(super) const LINE_ENDS: &str = "Lines of a head ended in LF alone and left with CRLF; fields of \
     one connection may differ as well. All else that the test compares is the same.";

/// Tests whose request oriel has recorded with a failure: a part of what it said, and why that is.
pub(super) const FAILURES: &[(&str, &str)] = &[
    (
        "cannot be resolved",
        "curl is told an address for a name, or knows one by itself. Through a proxy it is the proxy \
         that resolves the name, and it has none.",
    ),
    (
        "the upstream's certificate is for",
        "The certificate is for another name, which curl refuses as well, or is told to: oriel does \
         so first, with a 502.",
    ),
    (
        "the upstream wants a certificate of the client",
        "The server asks for a certificate of the client. oriel has none to show: a 502.",
    ),
    (
        "a transfer coding other than chunked",
        "Transfer-Encoding has something beside one `chunked`, which may end where oriel cannot know \
         (RFC 9112 section 6.3): a 502. curl takes some of these.",
    ),
    (
        "Transfer-Encoding and Content-Length",
        "A response with Transfer-Encoding and Content-Length is refused (RFC 9112 section 6.3): a \
         502.",
    ),
    (
        "Content-Length is",
        "Content-Length is no number, none that 64 bits hold, or a list of them: a 502.",
    ),
    (
        "a chunk size is not",
        "A chunk's size is no number, or ends in LF alone: refused, and the body is cut there.",
    ),
    (
        "a line of the chunked body",
        "A trailer has a NUL or ends in LF alone: refused, and the body is cut there.",
    ),
    (
        "does not begin with `HTTP/`",
        "The response is HTTP/0.9, without a head, or of a protocol that the test made up: a 502.",
    ),
    (
        "the status line cannot be read",
        "The status line has no code of three digits, or a NUL, which curl mostly refuses as well: \
         oriel does so first, with a 502.",
    ),
    (
        "the HTTP version is neither",
        "The response says HTTP/1.2 or a version of 100 digits, which curl refuses as well: oriel \
         does so first, with a 502.",
    ),
    (
        "a field name has a character",
        "A field has no colon, which curl refuses as well, or is folded over two lines, which curl \
         unfolds and oriel refuses (RFC 9112 section 5.2 lets it): a 502.",
    ),
    (
        "a field value has a control character",
        "A field has a control character, or a CR alone: a 502.",
    ),
    (
        "the head is larger than 64 KiB",
        "oriel takes 64 KiB of a head and answers more with a 502. curl takes 300 KiB.",
    ),
    (
        "the upstream closed the connection",
        "The server closes without a final answer or in its head: a 502 says so.",
    ),
    (
        "Connection refused",
        "The server is not there: it is oriel that finds out, and answers with a 502.",
    ),
];

/// Tests that oriel has recorded no failure of, or one that does not say why.
pub(super) const REASONS: &[Reason] = &[
    Reason {
        cases: &["19 *", "20 *", "507 *"],
        why: "The server is not there: it is oriel that finds out, and answers with a 502.",
    },
    Reason {
        cases: &["46 *", "556 *", "696 *", "779 *", "795 *"],
        why: "curl is told an address for a name, or the test writes a request to a host of its own. \
              Through a proxy it is the proxy that resolves the name, and it has none.",
    },
    Reason {
        cases: &[
            "346 *", "478 *", "479 *", "486 *", "744 *", "755 *", "998 *", "999 *", "1628 *",
            "2006 *", "2008 *",
        ],
        why: "The test names a proxy itself, and this one takes its place.",
    },
    Reason {
        cases: &["47 *", "180 *", "181 *", "1052 *", "1074 *"],
        why: "A request of HTTP/1.0 goes on as HTTP/1.1 (RFC 9110 section 6.2).",
    },
    Reason {
        cases: &["48 *", "338 *", "1134 *", "1419 *", "3224 *", "3226 *"],
        why: "Two connections where curl would have used one: in this run oriel keeps none, as the \
              test server waits for the end of each before the next test.",
    },
    Reason {
        cases: &["193 *", "1089 *"],
        why: "It counts curl's connections: the server closes its own after the redirect, that to \
              the proxy stays.",
    },
    Reason {
        cases: &["1671 *", "3014 *", "3015 *"],
        why: "It lists or counts the fields of the response, and the `Connection` of the server is \
              not among them (RFC 9110 section 7.6.1).",
    },
    Reason {
        cases: &["767 *"],
        why: "Two equal Content-Length fields leave as one (RFC 9110 section 8.6).",
    },
    Reason {
        cases: &[
            "435 *", "1223 *", "1542 *", "2082 *", "2084 *", "2085 *", "2086 *",
        ],
        why: "It prints the address that curl is connected to: the proxy's.",
    },
    Reason {
        cases: &[
            "1400 *", "1401 *", "1402 *", "1403 *", "1404 *", "1465 *", "1481 *",
        ],
        why: "curl writes the code of its call (`--libcurl`), and there is the proxy in it.",
    },
    Reason {
        cases: &["56 *", "3228 *"],
        why: "A request head of 100 KiB or more: oriel takes 64 KiB and answers 431.",
    },
    Reason {
        cases: &["60 *"],
        why: "A request with Transfer-Encoding and Content-Length is refused (RFC 9112 section 6.3).",
    },
    Reason {
        cases: &["461 *"],
        why: "A request without a Host field is refused (RFC 9112 section 3.2).",
    },
    Reason {
        cases: &["470 *", "1147 *"],
        why: "A request with a field name that is no token, or a field folded over two lines, is \
              refused (RFC 9112 sections 5.1 and 5.2).",
    },
    Reason {
        cases: &["1056 *", "1298 *", "1543 *"],
        why: "A request target with a space, with the zone of an address, or that is no URL and goes \
              to a proxy nevertheless, is refused (RFC 9112 section 3.2).",
    },
    Reason {
        cases: &[
            "61 *", "62 *", "73 *", "329 *", "1121 *", "1258 *", "1292 *", "1561 *", "2504 *",
        ],
        why: "The authority of the absolute form replaces the Host field (RFC 9112 section 3.2.2).",
    },
    Reason {
        cases: &["1046 *"],
        why: "curl is bound to an address of IPv6, and the proxy listens on one of IPv4.",
    },
    Reason {
        cases: &["1533 *"],
        why: "The server answers before it has read the body, and oriel sends it no more of that.",
    },
    Reason {
        cases: &["1721 *"],
        why: "curl itself leaves out the `?` of an empty query in the absolute form.",
    },
    Reason {
        cases: &["1960 *"],
        why: "The test connects its socket itself, past the proxy.",
    },
    Reason {
        cases: &["357 *"],
        why: "An answer in the place of `100 Continue` ends the client's connection, and with that \
              curl does not ask again without its `Expect`.",
    },
    Reason {
        cases: &["417 *", "2034 *", "2037 *", "2041 *"],
        why: "It prints or pins the certificate of the server, and oriel shows one of its own.",
    },
    Reason {
        cases: &["313 *"],
        why: "curl is given a revocation list with the certificate of the server, which it does not \
              see. oriel reads no such lists.",
    },
];
