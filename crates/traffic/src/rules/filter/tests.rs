//! Tables of the filter language, and what holds for any text.

use proptest::prelude::*;

use super::*;

/// 2026-03-02T09:00:00Z.
const NOW: Timestamp = Timestamp(1_772_442_000_000_000);

fn parse(text: &str) -> Expression {
    match Filter::parse(text, NOW) {
        Ok(filter) => filter.expression,
        Err(error) => panic!("{text}: {error} at {:?}", error.span),
    }
}

/// A short form of an expression, to compare.
fn short(expression: &Expression) -> String {
    let join = |parts: &[Expression], between: &str| {
        let parts: Vec<String> = parts.iter().map(short).collect();
        format!("({})", parts.join(between))
    };
    match expression {
        Expression::All(parts) => join(parts, " & "),
        Expression::Any(parts) => join(parts, " | "),
        Expression::Not(inner) => format!("!{}", short(inner)),
        Expression::Test(Test::Anywhere(pattern)) => short_pattern(pattern),
        Expression::Test(Test::Text(key, pattern)) => format!("{key:?}={}", short_pattern(pattern)),
        Expression::Test(Test::Header(name, pattern)) => {
            format!("[{name}]={}", short_pattern(pattern))
        }
        Expression::Test(Test::Number(key, bounds)) => format!("{key:?}={bounds}"),
        Expression::Test(Test::Words(words)) => {
            let star = if words.is_open { "*" } else { "" };
            format!("words'{}'{star}", words.text)
        }
    }
}

fn short_pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Plain(text) => format!("'{text}'"),
        Pattern::Glob(parts) => format!("glob{parts:?}"),
        Pattern::Regex(regex) => format!("/{regex}/"),
    }
}

fn check(text: &str, expected: &str) {
    assert_eq!(short(&parse(text)), expected, "for {text}");
}

fn check_error(text: &str, place: &str, message: &str, suggestion: Option<&str>) {
    let error = Filter::parse(text, NOW).unwrap_err();
    assert_eq!(error.message, message, "for {text}");
    assert_eq!(text.get(error.span), Some(place), "for {text}");
    assert_eq!(error.suggestion.as_deref(), suggestion, "for {text}");
}

#[test]
fn the_client_is_asked_about() {
    check("process:node", "Process='node'");
    check("user:dana", "User='dana'");
    check("front:socks5", "Front='socks5'");
    check(
        "instance:build-* -owner:dana",
        "(Instance=glob[\"build-\", \"\"] & !Owner='dana')",
    );
    check("text:\"rm -rf\"", "words'rm -rf'");
    check("-text:dead*", "!words'dead'*");
    check("pid:4711", "Pid=4711..4711");
    check(
        "sni:a.com tls:t13d*",
        "(Sni='a.com' & Fingerprint=glob[\"t13d\", \"\"])",
    );
    check_error(
        "pid:-1",
        "-1",
        "pid takes for example 4711, >=1000 or 1000..2000",
        None,
    );
}

#[test]
fn words_keys_and_groups() {
    check("", "()");
    check("  api  ", "'api'");
    check("a b", "('a' & 'b')");
    check("a AND b", "('a' & 'b')");
    check("a b OR c", "(('a' & 'b') | 'c')");
    check("a (b OR -c)", "('a' & ('b' | !'c'))");
    check("-(a b)", "!('a' & 'b')");
    check("ORANGE", "'ORANGE'");
    check("\"two words\"", "'two words'");
    check("host:api.openai.com", "Host='api.openai.com'");
    check("-method:GET,HEAD", "!(Method='GET' | Method='HEAD')");
    check("path:/v1/messages", "Path='/v1/messages'");
    check("path:/v1/*", "Path=glob[\"/v1/\", \"\"]");
    check("path:\"a * (b), c\"", "Path='a * (b), c'");
    check("https://x/y", "'https://x/y'");
    check("header.X-Request-Id:7", "[x-request-id]='7'");
    check("kind:tunnel", "Kind='tunnel'");
    check("proto:h2", "Proto='HTTP/2'");
}

#[test]
fn regular_expressions() {
    check("url:/v[12]/", "Url=/v[12]/");
    check("(url:/a(b|c)/)", "Url=/a(b|c)/");
    check("/x.y/ z", "(/x.y/ & 'z')");
    check(r"path:/a\/b/", r"Path=/a\/b/");
    // A path that has a slash at its end reads as an expression that finds the same.
    check("path:/v1/", "Path=/v1/");
    check("path:/", "Path='/'");
    check_error(
        "a url:/(/",
        "/(/",
        "this is not a regular expression: unclosed group",
        None,
    );
}

#[test]
fn numbers() {
    check("status:404", "Status=404..404");
    check("status:4xx", "Status=400..499");
    check("status:>=400", "Status=400..");
    check("status:<400", "Status=..399");
    check("status:400..499", "Status=400..499");
    check("status:404,5xx", "(Status=404..404 | Status=500..599)");
    check("size:>50k", "Size=50001..");
    check("size:<=1.5KiB", "Size=..1536");
    check("req.size:0", "RequestSize=0..0");
    check("resp.size:1MiB..", "ResponseSize=1048576..");
    check("dur:>1.5s", "Duration=1500001..");
    check("dur:<200ms", "Duration=..199999");
    check("dur:100..1m", "Duration=100000..60000000");
    check_error(
        "x dur:long",
        "long",
        "dur takes for example >1.5s, <200ms or 1s..1m",
        None,
    );
    check_error(
        "status:..",
        "..",
        "status takes for example 404, 4xx, >=400 or 400..499",
        None,
    );
    assert!(Filter::parse("size:99999999999999999999k", NOW).is_err());
}

#[test]
fn times() {
    check("since:1h", "Time=1772438400000000..");
    check("until:2026-03-02", "Time=..1772495999999999");
    check("time:2026-03-02", "Time=1772409600000000..1772495999999999");
    check("since:2026-03-02T09:00:00Z", "Time=1772442000000000..");
    check("since:2026-03-02T10:00+01:00", "Time=1772442000000000..");
    check(
        "time:2026-03-02T09:00:00.5Z",
        "Time=1772442000500000..1772442000599999",
    );
    check("time:>2026-03-01", "Time=1772409600000000..");
    check("time:1970-01-01", "Time=0..86399999999");
    check("time:2000-02-29", "Time=951782400000000..951868799999999");
    for text in [
        "2026-02-29",
        "2026-13-01",
        "2026-3-1",
        "2026-03-02T25:00",
        "1x",
        "2026-03-02T",
    ] {
        assert!(
            Filter::parse(&format!("since:{text}"), NOW).is_err(),
            "{text}"
        );
    }
}

#[test]
fn errors_have_a_place_and_a_suggestion() {
    check_error(
        "a staus:404",
        "staus",
        "there is no key \"staus\"",
        Some("status"),
    );
    check_error(
        "metod:GET",
        "metod",
        "there is no key \"metod\"",
        Some("method"),
    );
    check_error(
        "header:x",
        "header",
        "there is no key \"header\"",
        Some("header.NAME"),
    );
    check_error(
        "localhost:8080",
        "localhost",
        "there is no key \"localhost\"; put quotes around a text that has a colon",
        None,
    );
    check_error(
        "kind:tunel",
        "tunel",
        "kind is one of http, websocket, tunnel",
        Some("tunnel"),
    );
    check_error("a (b", "(", "this parenthesis is not closed", None);
    check_error(
        "a) b",
        ")",
        "this closing parenthesis has no opening one",
        None,
    );
    check_error("a \"b", "\"", "this quote is not closed", None);
    check_error("a OR", "OR", "OR needs something on both sides", None);
    check_error("OR a", "OR", "OR needs something on both sides", None);
    check_error("a - b", "-", "a minus needs something behind it", None);
    check_error("host:", "host:", "host: needs a value", None);
    check_error(
        "host:a,,b",
        ",",
        "a value is missing beside this comma",
        None,
    );
}

#[test]
fn bounded() {
    assert!(Filter::parse(&"(".repeat(4000), NOW).is_err());
    assert!(Filter::parse(&"-(".repeat(2000), NOW).is_err());
    assert!(Filter::parse(&"a ".repeat(200), NOW).is_err());
    assert!(Filter::parse(&"a".repeat(5000), NOW).is_err());
    assert!(Filter::parse("url:/(a{1000}){1000}/", NOW).is_err());
}

#[test]
fn a_gap_beside_a_comma_is_pointed_to() {
    for (text, comma) in [("host:OR,", 7..8), ("host:,a", 5..6), ("host:a,,b", 6..7)] {
        assert_eq!(Filter::parse(text, NOW).unwrap_err().span, comma, "{text}");
    }
    let long = "ü".repeat(5000);
    let error = Filter::parse(&long, NOW).unwrap_err();
    assert!(long.get(error.span).is_some());
}

proptest! {
    /// No text brings it down, and an error points into the text.
    #[test]
    fn takes_any_text(text in "\\PC{0,60}") {
        if let Err(error) = Filter::parse(&text, NOW) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {text:?}", error.span);
        }
    }

    #[test]
    fn takes_any_mix_of_its_own_signs(text in "([-()\"/*,:.<>= ]|OR|AND|host:|status:|dur:|since:|[a-z0-9]|ü){0,40}") {
        if let Err(error) = Filter::parse(&text, NOW) {
            prop_assert!(text.get(error.span.clone()).is_some(), "{:?} in {text:?}", error.span);
        }
    }
}
