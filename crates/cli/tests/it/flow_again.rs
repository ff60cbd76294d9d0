//! `oriel flows show --as` and `oriel export --format curl`: what they print is run by a shell, by Python
//! and by Node, and the upstream gets what it got before.

use std::path::Path;
use std::process::Command;

use testbed::upstream::Received;

use crate::site::{Site, text};
use crate::world::{Printed, World};

/// What the shell knows in the place of a masked credential.
const TOKEN: &str = "s3cret-token";

/// Runs what was printed where the record is, with nothing between it and the upstream. What it says has to be
/// done before is.
fn run_back(world: &World, form: &str, printed: &str) -> Printed {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/clients/bin");
    let programs = Path::new(env!("CARGO_BIN_EXE_oriel")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [folder.into(), programs.to_owned()].into_iter();
    let path = std::env::join_paths(own.chain(std::env::split_paths(&path))).unwrap();
    let run = |words: &[&str]| {
        let output = Command::new(words[0])
            .args(&words[1..])
            .env_clear()
            .env("HOME", world.path(""))
            .env("PATH", &path)
            .env("TOKEN", TOKEN)
            .env("AUTHORIZATION", TOKEN)
            .current_dir(world.path(""))
            .output();
        Printed::of(output.unwrap())
    };
    let mut lines = printed.lines();
    if let Some((_, before)) = lines.find_map(|line| line.split_once(" before: ")) {
        assert_eq!(run(&["sh", "-ec", before]).code, Some(0), "{before}");
    }
    match form {
        "curl" => run(&["sh", "-ec", printed]),
        "python" => run(&["python", "-c", printed]),
        "js" => run(&["node", "--input-type=module", "-e", printed]),
        _ => unreachable!("nothing runs {form}"),
    }
}

/// The body of a request, whole.
fn body(request: &Received) -> &[u8] {
    assert_eq!(request.body.kept.len() as u64, request.body.seen);
    &request.body.kept
}

/// Sends one request through oriel, runs what is printed for it in each of these forms, and gives that. The body
/// is one that the upstream is to get.
fn round_trips<const N: usize>(
    forms: [&str; N],
    target: &str,
    fields: &[&str],
    sent: Option<&[u8]>,
) -> [String; N] {
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
    let exported = world.done(&["export", "@last.1", "--format", "curl"]);
    forms.map(|form| {
        let shown = world.done(&["flows", "show", "@last.1", "--as", form]);
        assert!(form != "curl" || shown == exported, "{shown}{exported}");
        let said = run_back(&world, form, &shown);
        assert_eq!(said.code, Some(0), "{shown}\n{}", said.stderr);

        let received = site.upstream.received();
        let (before, after) = (&received[0], received.last().unwrap());
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
    })
}

/// The same in every form that runs.
fn round_trip(target: &str, fields: &[&str], sent: Option<&[u8]>) -> [String; 3] {
    round_trips(["curl", "python", "js"], target, fields, sent)
}

#[test]
fn a_body_is_never_read_as_the_name_of_a_file() {
    let [shown, ..] = round_trip("/upload", &[], Some(b"@secret.txt"));
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
    // The others take dots out, and escape brackets and braces, as they do in every URL.
    round_trips(["curl"], "/echo?a[]=1&b={x,y}&c=[1-3]", &[], None);
    round_trips(["curl"], "/echo/../a/./b?c=it's", &[], None);
    round_trips(["curl"], &format!("/echo?token={TOKEN}&c=[1]"), &[], None);
    let shown = round_trip(
        &format!("/echo?token={TOKEN}&after=1"),
        &[&format!("authorization: Bearer {TOKEN}")],
        None,
    );
    for shown in &shown {
        assert!(!shown.contains(TOKEN), "{shown}");
    }
    let [curl, python, js] = &shown;
    assert!(curl.contains("token='\"$TOKEN\"'&after=1'"), "{curl}");
    let python_text = "?token=\" + os.environ[\"TOKEN\"] + \"&after=1\"";
    assert!(python.contains(python_text), "{python}");
    let js_text = "?token=\" + variable(\"TOKEN\") + \"&after=1\"";
    assert!(js.contains(js_text), "{js}");
}

#[test]
fn fields_arrive_that_a_terminal_would_obey() {
    let shown = round_trip(
        "/echo",
        &["x-odd: a\u{9b}31m\u{202e}b % \\ it's", "x-empty;"],
        None,
    );
    for shown in shown {
        assert!(!shown.contains(['\u{9b}', '\u{202e}']), "{shown:?}");
    }
}

#[test]
fn bytes_that_no_shell_holds_arrive() {
    let every: Vec<u8> = (0..=255).collect();
    let [curl, python, js] = round_trip("/upload", &[], Some(&every));
    assert!(curl.contains("base64 -d"), "{curl}");
    assert!(python.contains("base64.b64decode"), "{python}");
    assert!(js.contains("\"base64\")"), "{js}");
    round_trip("/upload", &[], Some(b"text with\0 a zero\x1b[2J"));
    round_trip("/upload", &["content-encoding: gzip"], Some(b"not in gzip"));
    let large: Vec<u8> = every.iter().copied().cycle().take(300_000).collect();
    let [curl, python, js] = round_trip("/upload", &[], Some(&large));
    assert!(curl.contains(".body &&\ncurl "), "{curl}");
    assert!(python.contains(".body\", \"rb\")"), "{python}");
    assert!(js.contains("await readFile(\""), "{js}");
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

/// A flow that was sent with this body, in a form that nothing here runs.
fn shown_as(form: &str, sent: &[u8]) -> String {
    let world = World::new();
    let site = Site::http(&world);
    let file = world.path("sent");
    std::fs::write(&file, sent).unwrap();
    let data = format!("@{}", text(&file));
    let url = site.url(&format!("/upload?token={TOKEN}"));
    let key = format!("authorization: Bearer {TOKEN}");
    let command = [
        "curl",
        "-sS",
        "-H",
        &key,
        "-H",
        "x-odd: {{HOME}}",
        "--data-binary",
        &data,
        &url,
    ];
    assert_eq!(site.run(&world, &command).code, Some(0));
    world.done(&["flows", "show", "@last.1", "--as", form])
}

#[test]
fn an_editor_reads_one_request_and_no_more() {
    let shown = shown_as("http", b"{\"a\": 1}");
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("### ") && lines[0].ends_with(".1"),
        "{shown}"
    );
    assert_eq!(
        lines[1],
        "# left out, for its value cannot be written here: x-odd"
    );
    assert!(
        lines[2].starts_with("POST http://localhost:")
            && lines[2].ends_with("/upload?token={{TOKEN}} HTTP/1.1"),
        "{shown}"
    );
    assert!(
        lines.contains(&"authorization: Bearer {{AUTHORIZATION}}"),
        "{shown}"
    );
    assert!(shown.ends_with("\n\n{\"a\": 1}\n"), "{shown}");

    let shown = shown_as("http", b"a\n### b\nGET http://other.test/");
    assert!(shown.contains("\n# before: oriel flows show "), "{shown}");
    assert!(
        shown.contains("\n\n< ./") && !shown.contains("other.test"),
        "{shown}"
    );
}

#[test]
fn a_har_of_one_flow_is_a_har() {
    let har: serde_json::Value = serde_json::from_str(&shown_as("har", b"words")).unwrap();
    let entries = har["log"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["request"]["postData"]["text"], "words");
}

#[test]
fn what_is_no_request_is_not_made_one() {
    let world = World::new();
    assert_eq!(world.oriel(&["demo"]).code, Some(0));
    let tunnels = world.json(&["flows", "--json", "--all", "kind:tunnel"]);
    let id = tunnels["items"][0]["id"].as_str().unwrap();
    for form in ["curl", "python", "js", "http"] {
        let shown = world.done(&["flows", "show", id, "--as", form]);
        let (_, said) = shown.split_once(' ').unwrap();
        assert_eq!(
            said,
            format!("{id} is a tunnel: what passed through it is not known\n")
        );
    }
    let har = world.oriel(&["flows", "show", id, "--as", "har"]);
    assert!(
        har.stderr.contains("no place for a tunnel"),
        "{}",
        har.stderr
    );
    let har: serde_json::Value = serde_json::from_str(&har.stdout).unwrap();
    assert_eq!(har["log"]["entries"], serde_json::json!([]));
}
