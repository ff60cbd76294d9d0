//! Certificates that are not believed, on either side: what the client sees, what is recorded, and
//! what the end of a run says about it.

use testbed::authority::{Authority, Flaw, Identity};
use testbed::upstream::Protocols;

use crate::site::{NAME, Site, flows, only_flow, text};
use crate::world::{Printed, World};

#[test]
fn a_client_that_distrusts_us_is_explained() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let other = Authority::new("another authority");
    let own = world.file("own.pem", &other.certificate_pem());
    let printed = Printed::of(
        site.command_with(
            &world,
            &["--summary", "compact"],
            &["curl", "-sS", "--cacert", text(&own), &site.url("/bytes/1")],
        )
        .output()
        .unwrap(),
    );
    assert_eq!(printed.code, Some(60), "{}", printed.stderr);
    assert_eq!(printed.stdout, "");
    let told = printed.stderr;
    assert!(
        told.contains("does not trust oriel's certificate for localhost"),
        "{told}"
    );
    assert!(told.contains("--bypass localhost"), "{told}");
    let flow = only_flow(&world);
    assert_eq!(flow["state"], "failed");
    assert_eq!(flow["error"]["kind"], "client_distrusts");
    assert_eq!(flow["error"]["side"], "client");
    assert_eq!(flow["error"]["stage"], "tls");
    assert_eq!(site.upstream.request_count(), 0);
}

#[test]
fn the_program_that_distrusts_us_is_named() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let other = Authority::new("another authority");
    let own = world.file("own.pem", &other.certificate_pem());
    // Who the first one was may not be found before it is gone; the others are asked first.
    let ask = format!(
        "for time in 1 2 3 4 5; do curl -sS --cacert {} {}; done",
        text(&own),
        site.url("/bytes/1")
    );
    let printed = Printed::of(
        site.command_with(&world, &["--summary", "compact"], &["sh", "-c", &ask])
            .output()
            .unwrap(),
    );
    let told = printed.stderr;
    assert!(
        told.contains("TLS refused: curl does not trust oriel's certificate for localhost ("),
        "{told}"
    );
}

#[test]
fn a_variable_that_something_set_over_ours_is_named() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let other = Authority::new("another authority");
    let own = world.file("own.pem", &other.certificate_pem());
    let (set, url) = (
        format!("CURL_CA_BUNDLE={}", text(&own)),
        site.url("/bytes/1"),
    );
    // One process asks until it was looked at.
    let again = ["--retry", "3", "--retry-all-errors", "--retry-delay", "1"];
    let wrapped = [&["env", &set, "curl", "-sS"], &again[..], &[&url]].concat();
    let told = Printed::of(
        site.command_with(&world, &["--summary", "compact"], &wrapped)
            .output()
            .unwrap(),
    )
    .stderr;
    assert!(
        told.contains(&format!("why           {set} in the")),
        "{told}"
    );
    let fix = format!("{set} oriel run -- env …");
    assert!(told.contains(&fix), "{told}");
    assert!(!told.contains("own list"), "{told}");
}

#[test]
fn a_refusal_is_told_also_where_nothing_is_kept() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let other = Authority::new("another authority");
    let own = world.file("own.pem", &other.certificate_pem());
    let port = site.upstream.address().port();
    world.file(".config/oriel/config.toml", "[intercept]\nrejections = 1\n");
    let mut service = world.serve_port(
        port,
        &["--admin", "off", "--no-capture", "--intercept", NAME],
    );
    let proxy = format!("http://{}", service.proxy);
    let asked = std::process::Command::new("curl")
        .args(["-sS", "--noproxy", "", "--proxy", &proxy])
        .args(["--cacert", text(&own), &site.url("/bytes/1")])
        .output()
        .unwrap();
    assert_eq!(asked.status.code(), Some(60));
    let said = service.wait_for("a program refuses oriel's certificate");
    assert_eq!((&said["host"], &said["times"]), (&NAME.into(), &1.into()));
    assert_eq!(service.stop(), Some(0));
    assert!(!world.path(".local/share/oriel/oriel.db").exists());
}

fn check_refused(identity: impl FnOnce(&Authority) -> Identity, kind: &str, said: &str) {
    let world = World::new();
    let site = Site::showing(&world, identity);
    let url = site.url("/bytes/1");
    let printed = Printed::of(
        site.command_with(
            &world,
            &["--summary", "compact"],
            &["curl", "-sSi", "--http1.1", &url],
        )
        .output()
        .unwrap(),
    )
    .succeeded();
    let (head, body) = printed.stdout.split_once("\r\n\r\n").unwrap();
    // The answer of the CONNECT comes before.
    let (head, body) = match body.split_once("\r\n\r\n") {
        Some(answer) => answer,
        None => (head, body),
    };
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(
        head.contains("Proxy-Status: oriel; error=tls_certificate_error; details="),
        "{head}"
    );
    assert!(body.contains(said), "{body}");
    assert!(body.contains("fix: "), "{body}");
    assert!(
        printed
            .stderr
            .contains("localhost showed a certificate that is not trusted"),
        "{}",
        printed.stderr
    );
    let flow = only_flow(&world);
    assert_eq!(flow["state"], "failed");
    assert_eq!(flow["error"]["kind"], kind, "{flow}");
    assert_eq!(flow["error"]["side"], "upstream");
    assert_eq!(site.upstream.request_count(), 0);
}

#[test]
fn an_expired_certificate_is_refused() {
    check_refused(
        |authority| authority.issue_flawed(&[NAME], Flaw::Expired),
        "certificate_expired",
        "expired",
    );
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    check_refused(
        |authority| authority.issue(&["other.test"]),
        "certificate_wrong_name",
        "other.test",
    );
}

#[test]
fn a_certificate_of_its_own_making_is_refused() {
    check_refused(
        |authority| authority.issue_flawed(&[NAME], Flaw::SelfSigned),
        "certificate_unknown_issuer",
        "--upstream-ca",
    );
}

/// Runs a command that gets an answer of this length; returns what was said about it.
fn check_answered(
    world: &World,
    site: &Site,
    flags: &[&str],
    command: &[&str],
    length: usize,
) -> String {
    let mut command = site.command_with(world, flags, command);
    let printed = Printed::of(command.output().unwrap());
    let (code, got) = (printed.code, printed.stdout.len());
    assert_eq!((code, got), (Some(0), length), "{}", printed.stderr);
    printed.stderr
}

#[test]
fn a_self_signed_certificate_that_was_given_is_believed() {
    let world = World::new();
    let mut pem = String::new();
    let site = Site::showing(&world, |authority| {
        let identity = authority.issue_flawed(&[NAME], Flaw::SelfSigned);
        identity.chain_pem().clone_into(&mut pem);
        identity
    });
    let own = world.file("self-signed.pem", &pem);
    let url = site.url("/bytes/7");
    let flags = ["-q", "--upstream-ca", text(&own)];
    check_answered(&world, &site, &flags, &["curl", "-sS", &url], 7);
    let flow = only_flow(&world);
    assert_eq!(flow["status"], 200);
    assert_eq!(flow["danger_unverified"], false);
}

#[test]
fn what_is_accepted_unverified_is_marked() {
    let world = World::new();
    let site = Site::showing(&world, |authority| {
        authority.issue_flawed(&[NAME], Flaw::Expired)
    });
    let url = site.url("/bytes/7");
    let flags = [
        "--summary",
        "compact",
        "--danger-accept-invalid-upstream",
        NAME,
    ];
    let said = check_answered(&world, &site, &flags, &["curl", "-sS", &url], 7);
    assert!(said.contains("certificate was not verified"), "{said}");
    assert_eq!(only_flow(&world)["danger_unverified"], true);
}

#[test]
fn a_bypassed_host_keeps_its_own_certificate() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let url = site.url("/bytes/9");
    let command = ["curl", "-sS", "--cacert", text(&site.ca), &url];
    check_answered(&world, &site, &["-q", "--bypass", NAME], &command, 9);
    let all = flows(&world);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["kind"], "tunnel");
    assert_eq!(all[0]["route"]["action"], "tunnel");
    assert!(all[0]["sizes"]["response_bytes"].as_u64().unwrap() > 500);
}
