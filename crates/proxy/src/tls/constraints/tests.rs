//! Which hosts constraints permit, and what can be written as one.

use super::*;

fn level(permitted: &[&str], excluded: &[&str]) -> Constraints {
    let parse = |texts: &[&str]| {
        let parsed = texts.iter().map(|text| match *text {
            "" => Subtree::every_name(),
            // What only other makers of authorities write.
            below if below.starts_with('.') => Subtree::Names(below.to_owned()),
            text => text.parse().unwrap(),
        });
        parsed.collect()
    };
    Constraints(vec![Level {
        permitted: parse(permitted),
        excluded: parse(excluded),
        subjects: false,
    }])
}

fn check(constraints: &Constraints, host: &str, expected: bool) {
    let host = Host::parse(host).unwrap();
    assert_eq!(constraints.permit(&host), expected, "{constraints}: {host}");
}

#[test]
fn names_permit_what_is_below_them() {
    let only = level(&["openai.com", ".corp.test"], &[]);
    for (host, expected) in [
        ("openai.com", true),
        ("api.openai.com", true),
        ("a.b.OpenAI.com", true),
        ("xopenai.com", false),
        ("openai.com.test", false),
        ("corp.test", false),
        ("a.corp.test", true),
        // Addresses are free where none are named.
        ("192.0.2.1", true),
    ] {
        check(&only, host, expected);
    }
    let but = level(&["openai.com"], &["files.openai.com"]);
    check(&but, "api.openai.com", true);
    check(&but, "x.files.openai.com", false);
    let none = level(&[], &[""]);
    check(&none, "a.test", false);
    check(&none, "::1", true);
}

#[test]
fn ranges_hold_addresses() {
    let only = level(&["10.0.0.0/9", "192.0.2.7", "2001:db8::/33"], &[]);
    for (host, expected) in [
        ("10.127.255.255", true),
        ("10.128.0.0", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("2001:db8:7fff::1", true),
        ("2001:db8:8000::1", false),
        ("a.test", true),
    ] {
        check(&only, host, expected);
    }
    check(&level(&["10.0.0.0/0"], &[]), "255.1.1.1", true);
}

#[test]
fn every_level_counts() {
    let mut both = level(&["a.test"], &[]);
    both.0.extend(level(&["b.a.test", "c.test"], &[]).0);
    check(&both, "a.test", false);
    check(&both, "b.a.test", true);
    check(&both, "c.test", false);
    assert_eq!(both.to_string(), "only a.test; only b.a.test, c.test");
    check(&Constraints::default(), "a.test", true);
}

#[test]
fn says_what_is_no_host() {
    let refused = ["*.a.test", "a b", "10.0.0.0/33", "a.test/8", "::/129", ""].map(|text| {
        let parsed: Result<Subtree, _> = text.parse();
        parsed.unwrap_err().to_string()
    });
    insta::assert_snapshot!(refused.join("\n"), @"
    `*.a.test` has a wildcard; write `a.test`, which stands for every name below it as well
    `a b` is neither a host name, nor an address, nor a range such as 10.0.0.0/8
    `10.0.0.0/33` is neither a host name, nor an address, nor a range such as 10.0.0.0/8
    `a.test/8` is neither a host name, nor an address, nor a range such as 10.0.0.0/8
    `::/129` is neither a host name, nor an address, nor a range such as 10.0.0.0/8
    `` is neither a host name, nor an address, nor a range such as 10.0.0.0/8
    ");
}
