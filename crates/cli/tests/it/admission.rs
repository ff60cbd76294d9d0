//! Who may use a service: users of a file, a program and a URL that are asked; with curl, at every
//! front.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::upstream::{HELLO, answering};
use crate::world::{Printed, Service, World};

const CONFIG: &str = ".config/oriel/config.toml";

/// What curl's proxy option says, and the status that curl got: from the proxy if it refused.
fn status(proxy: &str, url: &str, further: &[&str]) -> String {
    let curl = Command::new("curl")
        .args([
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{http_connect}",
        ])
        .args(["--noproxy", "", "-x", proxy, url])
        .args(further)
        .output()
        .unwrap();
    String::from_utf8(curl.stdout).unwrap()
}

fn of(service: &Service, login: &str) -> String {
    format!("http://{login}@{}", service.proxy)
}

/// The line of a user, as the program writes it.
pub(crate) fn line_of(world: &World, user: &str, password: &str) -> String {
    let mut command = world.command(&["auth", "hash", user]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{password}").unwrap();
    drop(input);
    let printed = Printed::of(child.wait_with_output().unwrap()).succeeded();
    printed.stdout
}

fn narrow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_of_users_says_who_may() {
    let world = World::new();
    let upstream = answering(HELLO);
    let url = format!("http://{upstream}/");
    let users = world.file("users", &line_of(&world, "dana", "pass word"));
    world.file(
        CONFIG,
        &format!(
            "[proxy.auth]\nusers_file = \"{}\"\nrealm = \"house\"\n",
            users.display()
        ),
    );

    narrow(&users, 0o644);
    let refused = world.oriel(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    assert!(refused.stderr.contains("ORL0107") && refused.stderr.contains("chmod 600"));
    narrow(&users, 0o600);

    let mut service = world.serve_port(upstream.port(), &["--admin", "off"]);
    let tunnel = ["--proxytunnel"];
    for (login, plain, through) in [
        ("dana:pass%20word", "200 000", "200 200"),
        ("dana:password", "407 000", "000 407"),
        ("erik:pass%20word", "407 000", "000 407"),
    ] {
        let proxy = of(&service, login);
        assert_eq!(status(&proxy, &url, &[]), plain, "{login}");
        assert_eq!(status(&proxy, &url, &tunnel), through, "{login}");
    }
    let socks = |login: &str| {
        let proxy = format!("socks5h://{login}@{}", service.proxy);
        status(&proxy, &url, &[])
    };
    assert_eq!(socks("dana:pass%20word"), "200 000");
    assert_eq!(socks("dana:no"), "000 000");
    let (erik, dana) = (["user:erik"], ["user:dana"]);
    let fronts = |filter: [&str; 1]| {
        let list = world.json(&["flows", "list", filter[0], "--json", "--all"]);
        let items = list["items"].as_array().unwrap().iter().map(|flow| {
            let id = flow["id"].as_str().unwrap();
            let shown = world.json(&["flows", "show", id, "--json"]);
            assert_eq!(shown["client"]["user"], "dana");
            let text = world.oriel(&["flows", "show", id]).stdout;
            assert!(text.contains("user     dana"), "{text}");
            shown["client"]["front"].as_str().unwrap().to_owned()
        });
        items.collect::<Vec<_>>()
    };
    assert_eq!(fronts(dana), ["socks5", "connect", "absolute_form"]);
    assert_eq!(fronts(erik), [""; 0]);
    let challenge = Command::new("curl")
        .args(["-s", "-D", "-", "-o", "/dev/null", "--noproxy", ""])
        .args(["-x", &format!("http://{}", service.proxy), &url])
        .output()
        .unwrap();
    let challenge = String::from_utf8(challenge.stdout).unwrap();
    let expected = "Proxy-Authenticate: Basic realm=\"house\", charset=\"UTF-8\"\r\n";
    assert!(challenge.contains(expected), "{challenge}");

    // One more user, taken without a restart.
    let both = format!(
        "{}{}",
        line_of(&world, "dana", "other"),
        line_of(&world, "erik", "e")
    );
    world.file("users", &both);
    service.wait_for("took the configuration anew");
    assert_eq!(status(&of(&service, "erik:e"), &url, &[]), "200 000");
    let old = of(&service, "dana:pass%20word");
    assert_eq!(status(&old, &url, &[]), "407 000");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_program_says_who_may() {
    let world = World::new();
    let url = format!("http://{}/", answering(HELLO));
    let script = "read -r line; case \"$line\" in *'\"right\"'*) exit 0;; *'\"wrong\"'*) exit 1;; esac; echo down >&2; exit 9";
    let log = world.path("asked");
    let script = format!("echo asked >> {}; {script}", log.display());
    let command = toml::Value::from(vec!["sh".to_owned(), "-c".to_owned(), script]);
    world.file(CONFIG, &format!("[proxy.auth]\ncommand = {command}\n"));
    let mut service = world.serve(&["--admin", "off"]);
    assert_eq!(status(&of(&service, "me:wrong"), &url, &[]), "407 000");
    let said = service.wait_for("a login to the proxy was wrong");
    assert!(said["user"].as_str().unwrap().contains("me"), "{said}");
    for _ in 0..3 {
        assert_eq!(status(&of(&service, "me:right"), &url, &[]), "200 000");
    }
    // Once for the wrong one, once for the right one.
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 2);
    assert_eq!(status(&of(&service, "me:broken"), &url, &[]), "503 000");
    let said = service.wait_for("who may use the proxy cannot be found out");
    assert!(said["error"].as_str().unwrap().ends_with("down"), "{said}");
}

#[test]
fn a_url_says_who_may() {
    let world = World::new();
    let url = format!("http://{}/", answering(HELLO));
    let yes = answering(HELLO);
    let no =
        answering(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    for (verifier, expected) in [(yes, "200 000"), (no, "407 000")] {
        let text = format!("[proxy.auth]\nurl = \"http://{verifier}/me\"\nheader = \"X-Token\"\n");
        world.file(CONFIG, &text);
        let service = world.serve(&["--admin", "off"]);
        assert_eq!(status(&of(&service, ":token"), &url, &[]), expected);
        assert_eq!(status(&of(&service, "me:"), &url, &[]), "407 000");
    }
}

#[test]
fn contradictions_are_told() {
    let world = World::new();
    for (text, told) in [
        (
            "[proxy]\ncredentials = \"a:b\"\nauth = { any_password = true }\n",
            "both say",
        ),
        ("[proxy.auth]\nrealm = \"x\"\n", "exactly one"),
        (
            "[proxy.auth]\nany_password = true\nurl = \"https://a.test\"\n",
            "exactly one",
        ),
        (
            "[proxy.auth]\nany_password = true\nheader = \"X\"\n",
            "header is for",
        ),
        ("[proxy.auth]\ncommand = []\n", "no program"),
        ("[proxy.auth]\nurl = \"http://a.test/\"\n", "https://"),
        (
            "[proxy.auth]\nusers_file = \"none\"\n",
            "cannot read the users",
        ),
    ] {
        world.file(CONFIG, text);
        let refused = world.oriel(&["serve", "--listen", "127.0.0.1:0", "--admin", "off"]);
        assert_eq!(refused.code, Some(2), "{text}: {}", refused.stderr);
        assert!(refused.stderr.contains("ORL0107"), "{}", refused.stderr);
        assert!(refused.stderr.contains(told), "{text}: {}", refused.stderr);
    }
    // Any password keeps nobody out.
    world.file(CONFIG, "[proxy.auth]\nany_password = true\n");
    let refused = world.oriel(&["serve", "--listen", "0.0.0.0:0", "--admin", "off"]);
    assert!(refused.stderr.contains("ORL0102"), "{}", refused.stderr);
}
