//! What of the traffic is kept is a setting; what passes does not depend on it.

use testbed::upstream::Protocols;

use crate::site::{NAME, Site, flows, only_flow};
use crate::world::{Printed, World};

const CONFIG: &str = ".config/oriel/config.toml";
/// Bytes that each answer has.
const LENGTH: usize = 20_000;

/// Asks for some bytes and sends some; answers what the client got.
fn ask(world: &World, site: &Site) -> Printed {
    let url = site.url(&format!("/bytes/{LENGTH}"));
    let command = ["curl", "-sS", "-w", "%{size_download}", "-o", "got", &url];
    let printed = site.run(world, &command);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(printed.stdout, LENGTH.to_string());
    let got = std::fs::metadata(world.path("got")).unwrap();
    assert_eq!(got.len(), LENGTH as u64);
    printed
}

/// How many bytes are kept of the answer of the one flow.
fn kept(world: &World) -> usize {
    let shown = world.json(&["flows", "show", "@last.1", "--json", "--body"]);
    let kept = shown["response"]["kept_bytes"].as_u64().unwrap();
    let body = shown["response"]["body"]["data"].as_str();
    assert_eq!(kept == 0, body.is_none_or(str::is_empty), "{shown}");
    usize::try_from(kept).unwrap()
}

#[test]
fn without_bodies_sizes_and_types_are_kept() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    world.file(CONFIG, "[capture]\nbodies = false\n");
    ask(&world, &site);
    let flow = only_flow(&world);
    assert_eq!(flow["sizes"]["response_bytes"], LENGTH);
    let shown = world.oriel(&["flows", "show", "@last.1"]).stdout;
    assert!(shown.contains("application/octet-stream"), "{shown}");
    assert_eq!(kept(&world), 0);
}

#[test]
fn nothing_is_kept_of_hosts_that_are_excluded() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let excluded = format!("[capture]\nexcluded_hosts = [\"{NAME}\"]\n");
    world.file(CONFIG, &excluded);
    ask(&world, &site);
    assert!(flows(&world).is_empty());
    let listed = world.oriel(&["flows", "list"]);
    assert!(
        listed.stderr.contains("capture.excluded_hosts"),
        "{}",
        listed.stderr
    );

    // Another port of the host is another place.
    let other = format!("[capture]\nexcluded_hosts = [\"{NAME}:1\"]\n");
    world.file(CONFIG, &other);
    ask(&world, &site);
    assert_eq!(kept(&world), LENGTH);
}

#[test]
fn less_is_kept_of_some_bodies() {
    for (limit, expected) in [
        ("content_types = [\"application/*\"], keep = \"1KiB\"", 1024),
        ("content_types = [\"text/*\"], keep = \"0B\"", LENGTH),
        ("hosts = [\"localhost\"], keep = \"100B\"", 100),
        ("hosts = [\"example.com\"], keep = \"100B\"", LENGTH),
        ("keep = \"0B\"", 0),
    ] {
        let world = World::new();
        let site = Site::https(&world, Protocols::Both);
        world.file(
            CONFIG,
            &format!("[capture]\nbody_limits = [{{ {limit} }}]\n"),
        );
        ask(&world, &site);
        assert_eq!(kept(&world), expected, "{limit}");
        let flow = only_flow(&world);
        assert_eq!(flow["sizes"]["response_bytes"], LENGTH, "{limit}");
        assert_eq!(flow["truncated"], expected < LENGTH, "{limit}");
    }
}

#[test]
fn a_limit_that_is_none_is_an_error() {
    let world = World::new();
    world.file(
        CONFIG,
        "[capture]\nbody_limits = [{ content_types = [\"html\"], keep = \"0B\" }]\n",
    );
    let printed = world.oriel(&["run", "--", "true"]);
    assert_ne!(printed.code, Some(0));
    assert!(
        printed.stderr.contains("capture.body_limits") && printed.stderr.contains("html"),
        "{}",
        printed.stderr
    );
}

/// The upstream is asked what it speaks before its client is answered, so before there is a request.
#[test]
fn connecting_that_went_before_a_request_is_told_as_such() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let url = site.url("/bytes/1");
    let command = ["curl", "-sS", "-o", "one", &url, "-o", "two", &url];
    assert_eq!(site.run(&world, &command).code, Some(0));
    let time_of = |id| {
        let shown = world.done(&["flows", "show", id]);
        let mut lines = shown.lines();
        let line = lines.find(|line| line.starts_with("time"));
        line.unwrap().to_owned()
    };
    let first = time_of("@last.1");
    assert!(
        first.contains("connected before, in ") && first.contains(" ms "),
        "{first}"
    );
    let second = time_of("@last.2");
    assert!(second.contains("connection reused"), "{second}");
}
