//! Which requests a route takes, and what becomes of their paths.

use proptest::prelude::*;

use super::*;
use crate::rules::pattern::HostPattern;

fn hosts(patterns: &[&str]) -> HostPatterns {
    let parse = |text: &&str| HostPattern::parse(text).unwrap();
    HostPatterns::new(patterns.iter().map(parse).collect::<Vec<_>>())
}

fn route(name: &str, host: &str, methods: &[&str], paths: &[&str]) -> GatewayRoute {
    let parse = |text: &&str| PathPattern::parse(text).unwrap();
    GatewayRoute {
        name: name.to_owned(),
        hosts: hosts(&[host]),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        paths: paths.iter().map(parse).collect(),
        action: GatewayAction::Refuse,
    }
}

#[test]
fn the_first_route_that_matches_decides() {
    let routes = GatewayRoutes::new(vec![
        route(
            "messages",
            "api.anthropic.com",
            &["POST"],
            &["/v1/messages", "/v1/*/batches"],
        ),
        route(
            "models",
            "*.anthropic.com",
            &["GET", "HEAD"],
            &["/v1/models*"],
        ),
        route("rest", "api.anthropic.com", &[], &[]),
    ]);
    for (host, method, path, expected) in [
        (
            "api.anthropic.com:443",
            "POST",
            "/v1/messages",
            Some("messages"),
        ),
        (
            "api.anthropic.com:443",
            "POST",
            "/v1/messages?beta=true",
            Some("messages"),
        ),
        (
            "api.anthropic.com:443",
            "POST",
            "/v1/a/b/batches",
            Some("messages"),
        ),
        // Another spelling of the same path.
        (
            "api.anthropic.com:443",
            "POST",
            "/v1/%6dessages",
            Some("messages"),
        ),
        (
            "api.anthropic.com:443",
            "POST",
            "/v1/messages%2f",
            Some("rest"),
        ),
        (
            "api.anthropic.com:443",
            "post",
            "/v1/messages",
            Some("rest"),
        ),
        (
            "api.anthropic.com:443",
            "GET",
            "/v1/models/x",
            Some("models"),
        ),
        ("x.anthropic.com:443", "GET", "/v1/models", Some("models")),
        ("x.anthropic.com:443", "GET", "/v1/messages", None),
        ("anthropic.com:443", "GET", "/v1/models", None),
        ("API.anthropic.com:8443", "OPTIONS", "*", Some("rest")),
    ] {
        let target = Target::parse(host, 443).unwrap();
        let found = routes.find(&target, method, path).unwrap();
        assert_eq!(
            found.map(|route| &*route.name),
            expected,
            "{method} {host}{path}"
        );
    }
}

#[test]
fn another_spelling_of_a_path_does_not_lead_past_its_route() {
    let routes = GatewayRoutes::new(vec![
        route(
            "files",
            "api.openai.com",
            &[],
            &["/v1/files", "/v1/files/*"],
        ),
        route("org", "api.openai.com", &[], &["/org/*"]),
    ]);
    let target = Target::parse("api.openai.com", 443).unwrap();
    let find = |path| {
        let found = routes.find(&target, "GET", path)?;
        Ok(found.map(|route| &*route.name))
    };
    for path in [
        "//v1/files",
        "/v1//files?q",
        "///v1///%66iles/",
        "/v1/files//x",
    ] {
        assert_eq!(find(path), Ok(Some("files")), "{path}");
    }
    for path in [
        "/v1/.../files",
        "/v1/filesystem",
        "/v1/a%2Fb",
        "/v1/files%20",
        "/v1/./models",
        "/v2/../v1/models",
        "/",
        "/..",
        "*",
        "",
    ] {
        assert_eq!(find(path), Ok(None), "{path}");
    }
    for path in [
        "/v1/./files",
        "/v1/%2E/files",
        "/./v1/files",
        "/x/../v1/files",
        "/x/%2e%2e/v1/files",
        "/../v1/files",
        "/x/y/.././../v1/files",
        "/v1/files/..",
        "/v1/files/../models",
        "/x/..%2fv1/files",
        "/v1%2Ffiles",
        "/v1\\files",
        "/x%5c..%5cv1/files",
        "/v1/files;x=1",
        "/v1/files%3bx",
        "/x/..;/v1/files",
        "/org/..%2fv1/files",
        "/v1/files/..%2f..%2forg/x",
    ] {
        assert_eq!(find(path), Err(Ambiguous), "{path}");
    }
    assert_eq!(find("/v1/files/./x"), Ok(Some("files")));
    // Both readers are led to the same route.
    assert_eq!(find("/org/a%2Fb;c"), Ok(Some("org")));
    let elsewhere = Target::parse("a.example", 443).unwrap();
    assert_eq!(
        routes
            .find(&elsewhere, "GET", "/v1\\files")
            .unwrap()
            .map(|_| ()),
        None
    );
    let unbound = GatewayRoutes::new(vec![route("all", "*", &[], &[])]);
    assert!(
        unbound
            .find(&target, "GET", "/v1\\files")
            .unwrap()
            .is_some()
    );
}

#[test]
fn stars_stand_for_any_text() {
    for (pattern, path, matches) in [
        ("/", "/", true),
        ("/", "", false),
        ("/v1", "/v1/", false),
        ("/v1/*", "/v1/", true),
        ("/v1/*", "/v1", false),
        ("*", "", true),
        ("*.json", "/a/b.json", true),
        ("/*/x/*", "/a/x/x/", true),
        ("/*/x/*", "/a/x", false),
        ("/a*a", "/a", false),
        ("/a*b*b", "/abb", true),
        ("/a*b*b", "/ab", false),
        ("/a**b", "/ab", true),
        ("/%7Ea", "/~a", true),
        ("/%2fa", "/%2Fa", true),
    ] {
        let parsed = PathPattern::parse(pattern).unwrap();
        assert_eq!(
            parsed.matches(&path::normal(path)),
            matches,
            "{pattern} {path}"
        );
    }
    for wrong in [
        "",
        "v1/*",
        "/v1?x",
        "/v1#x",
        "//v1",
        "/v1//x",
        "/./v1",
        "/a/%2e%2e/v1",
        "/..",
    ] {
        assert!(PathPattern::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_path_goes_into_the_url_as_it_came() {
    let provider = Some("anthropic");
    for (url, asked, expected) in [
        (
            "https://gw.example/api/v2/aibridge/{provider}{path}",
            "/v1/messages",
            "/api/v2/aibridge/anthropic/v1/messages",
        ),
        (
            "https://gw.example/coder/{path}",
            "/v1//a%2Fb/?q=1&r",
            "/coder/v1//a%2Fb/?q=1&r",
        ),
        ("https://gw.example{path}", "/", "/"),
        ("https://gw.example/{path}", "/x", "/x"),
        ("https://gw.example", "/x?y", "/?y"),
        ("https://gw.example/one", "/../x?y=/../", "/one?y=/../"),
        ("https://gw.example/a{path}/end", "/x?", "/a/x/end?"),
        (
            "http://gw.example:8080/{provider}.{provider}{path}",
            "/...",
            "/anthropic.anthropic/...",
        ),
    ] {
        let url = GatewayUrl::parse(url, provider).unwrap();
        assert_eq!(url.path(asked).unwrap(), expected, "{url} {asked}");
    }
}

#[test]
fn a_path_does_not_lead_out_of_the_url() {
    let url = GatewayUrl::parse("https://gw.example/in{path}", None).unwrap();
    for asked in [
        "/..",
        "/.",
        "/../x",
        "/a/../b",
        "/a/..",
        "/a/./b",
        "/%2e%2e/x",
        "/.%2E/x",
        "/a%2f..%2fb",
        "/a\\..\\b",
        "/a%5c..",
        "/é/../b",
        "/..;x=1/b",
        "/%2e%2e%3bx/b",
    ] {
        assert_eq!(url.path(asked), Err(NotRoutable::DotSegment), "{asked}");
    }
    for asked in [
        "/.well-known",
        "/a..b",
        "/...",
        "/..a",
        "/%",
        "/%2",
        "/%zz..",
        "/a?/../",
    ] {
        assert!(url.path(asked).is_ok(), "{asked}");
    }
    for asked in ["*", "", "?x"] {
        assert_eq!(url.path(asked), Err(NotRoutable::NoPath), "{asked}");
    }
}

#[test]
fn what_is_no_url_is_told() {
    let provider = Some("a");
    for (url, error) in [
        ("gw.example", GatewayUrlError::Scheme),
        ("ftp://gw.example", GatewayUrlError::Scheme),
        ("https://gw.example/a?b", GatewayUrlError::Character),
        ("https://gw.example/a b", GatewayUrlError::Character),
        ("https://me:pw@gw.example/", GatewayUrlError::Character),
        (
            "https://gw.example/{host}",
            GatewayUrlError::Placeholder("/{host}".to_owned()),
        ),
        (
            "https://gw.example{path}{path}",
            GatewayUrlError::Placeholder("{path}".to_owned()),
        ),
    ] {
        assert_eq!(GatewayUrl::parse(url, provider), Err(error), "{url}");
    }
    assert!(GatewayUrl::parse("https://", provider).is_err());
    let with_provider = "https://gw.example/{provider}";
    let parse = |provider| GatewayUrl::parse(with_provider, provider);
    assert_eq!(parse(None), Err(GatewayUrlError::NoProvider));
    for wrong in ["a/b", "..", "", "a%2f"] {
        assert_eq!(
            parse(Some(wrong)),
            Err(GatewayUrlError::Provider),
            "{wrong}"
        );
    }
    let shown = "https://gw.example/a/b{path}";
    assert_eq!(GatewayUrl::parse(shown, None).unwrap().to_string(), shown);
}

proptest! {
    #[test]
    fn whatever_is_asked_stays_below_the_prefix(asked in "/[a-z./%2eE5cf;\\\\?]{0,24}") {
        let url = GatewayUrl::parse("https://gw.example/in{path}", None).unwrap();
        if let Ok(path) = url.path(&asked) {
            let (path, _query) = path.split_once('?').unwrap_or((&path, ""));
            let mut depth = 0_i32;
            for segment in path::normal(path).split(['/', '\\']).skip(1) {
                depth += if segment == ".." { -1 } else { 1 };
                prop_assert!(depth > 0, "{asked}");
            }
        }
    }

    #[test]
    fn any_path_is_compared_without_panic(pattern in "/[a*/%]{0,8}", path in "\\PC{0,16}") {
        let Ok(pattern) = PathPattern::parse(&pattern) else {
            return Ok(());
        };
        let plain = path::normal(&path);
        let all = PathPattern::parse("*").unwrap();
        prop_assert!(all.matches(&plain));
        pattern.matches(&plain);
    }
}
