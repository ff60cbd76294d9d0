//! The authority that a run has for itself alone.

use testbed::upstream::Protocols;

use crate::authorities::shell;
use crate::site::{Site, only_flow, text};
use crate::world::{Printed, World};

/// The folders that runs left below the data folder.
fn left_by_runs(world: &World) -> Vec<std::path::PathBuf> {
    let folders = std::fs::read_dir(world.path(".local/share/oriel/runs"));
    let folders = folders.into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("tls")).collect()
}

/// Waits until the files of a session's authority are there: they are written beside the traffic, the
/// certificate last.
const WRITTEN: &str =
    "until test -e $HOME/.local/share/oriel/runs/*/tls/ca.crt; do sleep 0.01; done";

#[test]
fn a_run_has_an_authority_of_its_own_that_ends_with_it() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let ask = format!(
        "test ! -e $HOME/.local/share/oriel/runs && curl -sS {} && cat $CURL_CA_BUNDLE && {WRITTEN} \
         && stat -c %a $HOME/.local/share/oriel/runs/*/tls/*",
        site.url("/bytes/5")
    );
    let session = ["--summary", "none", "--session-ca"];
    let mut run = site.command_with(&world, &session, &["sh", "-c", &ask]);
    let printed = Printed::of(run.output().unwrap()).succeeded();
    assert!(
        printed.stdout.ends_with("\n600\n600\n"),
        "{}",
        printed.stdout
    );
    assert!(
        !world.path(".local/share/oriel/ca").exists(),
        "none is made that lasts"
    );
    let left = left_by_runs(&world);
    assert_eq!(left.len(), 1);
    assert!(!left[0].join("ca.key").exists());
    let certificate = std::fs::read_to_string(left[0].join("ca.crt")).unwrap();
    assert!(printed.stdout.contains(&certificate));
    let said = shell(
        &world,
        &format!("openssl x509 -in {}/ca.crt -noout -text", text(&left[0])),
    );
    assert!(said.stdout.contains("NIST CURVE: P-256"), "{}", said.stdout);
    assert!(
        said.stdout.contains("CA:TRUE, pathlen:0"),
        "{}",
        said.stdout
    );
    let lives = shell(
        &world,
        &format!(
            "at() {{ date -d \"$(openssl x509 -in {}/ca.crt -noout -$1 | cut -d= -f2)\" +%s; }}
             echo $(( $(at enddate) - $(at startdate) ))",
            text(&left[0])
        ),
    );
    assert_eq!(lives.stdout, "2592000\n", "30 days: {}", lives.stderr);
    // The run is the one that was recorded.
    let run = only_flow(&world)["session"].as_str().unwrap().to_owned();
    assert!(left[0].ends_with(format!("{run}/tls")));

    // One that opens nothing leaves nothing.
    let unrecorded = [&session[..], &["--no-capture"]].concat();
    let mut again = site.command_with(&world, &unrecorded, &["true"]);
    assert!(again.status().unwrap().success());
    assert_eq!(left_by_runs(&world), left);
    let ask = format!(
        "curl -sS {} && until test $(ls -d $HOME/.local/share/oriel/runs/*/tls/ca.crt | wc -l) = 2; \
         do sleep 0.01; done",
        site.url("/bytes/5")
    );
    let mut again = site.command_with(&world, &unrecorded, &["sh", "-c", &ask]);
    assert!(again.status().unwrap().success());
    let second = left_by_runs(&world)
        .into_iter()
        .find(|folder| *folder != left[0]);
    let second = std::fs::read_to_string(second.unwrap().join("ca.crt")).unwrap();
    assert_ne!(certificate, second);
}

#[test]
fn the_key_of_a_run_that_was_killed_is_removed_by_the_next_start() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let script = format!(
        "curl -sS -o /dev/null {} && {WRITTEN} && echo up; read line",
        site.url("/bytes/5")
    );
    let mut child = site
        .command_with(&world, &["-q", "--session-ca"], &["sh", "-c", &script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
    let keys = |world: &World| {
        let left = left_by_runs(world);
        left.iter()
            .filter(|folder| folder.join("ca.key").exists())
            .count()
    };
    let other = ["run", "-q", "--", "true"];
    world.done(&other);
    assert_eq!(keys(&world), 1, "it is in use");
    child.kill().unwrap();
    // This closes the standard input as well, and so ends what it ran.
    child.wait().unwrap();
    assert_eq!(keys(&world), 1);
    world.done(&other);
    assert_eq!(keys(&world), 0);
    assert!(left_by_runs(&world)[0].join("ca.crt").exists());
}
