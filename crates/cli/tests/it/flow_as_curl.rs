//! `oriel flows show --as curl` and `oriel export --format curl`: what they print is run by a shell, and
//! the upstream gets what it got before.

use std::path::Path;
use std::process::Command;

use testbed::upstream::Received;

use crate::site::{Site, text};
use crate::world::{Printed, World};

/// What the shell knows in the place of a masked credential.
const TOKEN: &str = "s3cret-token";

/// Runs a printed command where the record is, with nothing between it and the upstream.
fn run_back(world: &World, command: &str) -> Printed {
    let programs = Path::new(env!("CARGO_BIN_EXE_oriel")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-ec", command])
        .env_clear()
        .env("HOME", world.path(""))
        .env("PATH", format!("{}:{}", programs.display(), path.display()))
        .env("TOKEN", TOKEN)
        .env("AUTHORIZATION", TOKEN)
        .current_dir(world.path(""))
        .output();
    Printed::of(output.unwrap())
}

/// The body of a request, whole.
fn body(request: &Received) -> &[u8] {
    assert_eq!(request.body.kept.len() as u64, request.body.seen);
    &request.body.kept
}

/// Sends one request through oriel, runs what is printed for it, and gives that. The body is one that
/// the upstream is to get.
fn round_trip(target: &str, fields: &[&str], sent: Option<&[u8]>) -> String {
    let world = World::new();
    let site = Site::http(&world);
    world.file("secret.txt", "what nobody asked for");
    let url = site.url(target);
    let mut words = vec![
        "curl",
        "-sS",
        "--globoff",
        "--path-as-is",
        "-o",
        "/dev/null",
    ];
    for field in fields {
        words.extend(["-H", field]);
    }
    let file = world.path("sent");
    let data = format!("@{}", text(&file));
    if let Some(sent) = sent {
        std::fs::write(&file, sent).unwrap();
        words.extend(["--data-binary", &data]);
    }
    words.push(&url);
    let printed = site.run(&world, &words);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);

    let shown = world.done(&["flows", "show", "@last.1", "--as", "curl"]);
    let exported = world.done(&["export", "@last.1", "--format", "curl"]);
    assert_eq!(shown, exported);
    let said = run_back(&world, &shown);
    assert_eq!(said.code, Some(0), "{shown}\n{}", said.stderr);

    let received = site.upstream.received();
    assert_eq!(received.len(), 2, "{shown}: {received:?}");
    let (before, after) = (&received[0], &received[1]);
    assert_eq!(after.method, before.method, "{shown}");
    assert_eq!(after.target, before.target, "{shown}");
    assert_eq!(body(before), sent.unwrap_or_default());
    assert_eq!(body(after), body(before), "{shown}");
    for name in [
        "x-odd",
        "x-empty",
        "content-type",
        "content-encoding",
        "authorization",
    ] {
        assert_eq!(after.headers.get(name), before.headers.get(name), "{shown}");
    }
    shown
}

#[test]
fn a_body_is_never_read_as_the_name_of_a_file() {
    let shown = round_trip("/upload", &[], Some(b"@secret.txt"));
    assert!(shown.contains("--data-raw '@secret.txt'"), "{shown}");
}

#[test]
fn lines_tabs_and_quotes_arrive_as_they_were() {
    let sent = "{\n\t\"it's\": \"$HOME `id` \\n 50%\"\n}\n\n";
    round_trip(
        "/upload",
        &["content-type: application/json"],
        Some(sent.as_bytes()),
    );
    round_trip("/upload", &["content-type:"], Some(b"no type"));
    round_trip("/upload", &[], Some("naïve 日本語 🦀".as_bytes()));
    round_trip("/upload", &[], Some(b""));
}

#[test]
fn a_url_is_no_pattern_and_its_credentials_are_variables() {
    round_trip("/echo?a[]=1&b={x,y}&c=[1-3]", &[], None);
    round_trip("/echo/../a/./b?c=it's", &[], None);
    let shown = round_trip(
        &format!("/echo?token={TOKEN}&after=[1]"),
        &[&format!("authorization: Bearer {TOKEN}")],
        None,
    );
    assert!(shown.contains("token='\"$TOKEN\"'&after=[1]'"), "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[test]
fn fields_arrive_that_a_terminal_would_obey() {
    let shown = round_trip(
        "/echo",
        &["x-odd: a\u{9b}31m\u{202e}b % \\ it's", "x-empty;"],
        None,
    );
    assert!(!shown.contains(['\u{9b}', '\u{202e}']), "{shown:?}");
}

#[test]
fn bytes_that_no_shell_holds_arrive() {
    let every: Vec<u8> = (0..=255).collect();
    let shown = round_trip("/upload", &[], Some(&every));
    assert!(shown.contains("base64 -d"), "{shown}");
    round_trip("/upload", &[], Some(b"text with\0 a zero\x1b[2J"));
    round_trip("/upload", &["content-encoding: gzip"], Some(b"not in gzip"));
    let large: Vec<u8> = every.iter().copied().cycle().take(300_000).collect();
    let shown = round_trip("/upload", &[], Some(&large));
    assert!(shown.contains(".body &&\ncurl "), "{shown}");
}

#[test]
fn a_body_that_was_not_kept_is_said_to_be_missing() {
    let world = World::new();
    let site = Site::http(&world);
    for flags in [&["--no-bodies"][..], &["--max-body", "4B"]] {
        let url = site.url("/upload");
        let command = ["curl", "-sS", "-d", "some words", &url];
        let sent = site.command_with(&world, flags, &command).output().unwrap();
        assert!(sent.status.success());
        let shown = world.done(&["flows", "show", "@last.1", "--as", "curl"]);
        assert!(
            shown.contains("# not all of the body was kept"),
            "{flags:?}: {shown}"
        );
    }
}
