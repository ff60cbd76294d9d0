//! Credentials: never in the files unless asked for, and then said on every screen. The wire
//! carries them as they are.

use testbed::upstream::Protocols;

use crate::site::{Site, only_flow};
use crate::world::{Printed, World};

/// Every place a known credential can be in, with the name its mask carries.
const SECRETS: &[(&str, &str)] = &[
    ("authorization", "s3cret-bearer-1"),
    ("x-api-key", "s3cret-api-key-22"),
    ("api-key", "s3cret-azure-333"),
    ("x-goog-api-key", "s3cret-goog-4444"),
    ("cookie", "s3cret-cookie-55555"),
    ("key", "s3cret-query-666666"),
    ("token", "s3cret-query-7777777"),
    ("access_token", "s3cret-query-88888888"),
];

fn send_secrets(world: &World, site: &Site, flags: &[&str]) -> Printed {
    let [
        authorization,
        api_key,
        azure,
        google,
        cookie,
        key,
        token,
        access,
    ] = std::array::from_fn(|index| SECRETS[index].1);
    let url = site.url(&format!(
        "/echo?key={key}&token={token}&access_token={access}&shown=yes"
    ));
    let headers = [
        format!("Authorization: Bearer {authorization}"),
        format!("X-Api-Key: {api_key}"),
        format!("api-key: {azure}"),
        format!("x-goog-api-key: {google}"),
        format!("Cookie: session={cookie}"),
    ];
    let mut command = vec!["curl", "-sS", "-o", "/dev/null", &url];
    for header in &headers {
        command.extend(["-H", header.as_str()]);
    }
    Printed::of(site.command_with(world, flags, &command).output().unwrap())
}

/// The secrets that are in any file below the home.
fn stored(world: &World) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut folders = vec![world.path("")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let holds = |secret: &&str| {
                bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            };
            found.extend(SECRETS.iter().map(|(_, secret)| *secret).filter(holds));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn credentials_are_masked_before_they_are_stored() {
    for protocols in [Protocols::Http1, Protocols::Both] {
        let world = World::new();
        let site = Site::https(&world, protocols);
        // The upstream echoes nothing here: what a body says is not masked, and not a header.
        let printed = send_secrets(&world, &site, &["--summary", "compact", "--no-bodies"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert_eq!(stored(&world), [""; 0]);
        assert!(
            !printed.stderr.contains("--redact none"),
            "{}",
            printed.stderr
        );

        // The upstream got them all.
        let request = site.received();
        let head = format!("{} {:?}", request.target, request.headers);
        let shown = world.oriel(&["flows", "show", "@last.1", "--full"]).stdout;
        for (name, secret) in SECRETS {
            assert!(head.contains(secret), "{name}: {head}");
            assert!(
                shown.contains(&format!("[redacted:{name}:")),
                "{name}: {shown}"
            );
            assert!(!shown.contains(secret), "{name}: {shown}");
        }
        assert!(shown.contains("shown=yes"), "{shown}");
        assert_eq!(only_flow(&world)["redaction"], "basic");
    }
}

#[test]
fn credentials_are_stored_only_if_asked_for_and_announced() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Both);
    let flags = ["--summary", "compact", "--no-bodies", "--redact", "none"];
    let printed = send_secrets(&world, &site, &flags);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(stored(&world).len(), SECRETS.len());
    assert!(
        printed
            .stderr
            .contains("credentials are stored as they came"),
        "{}",
        printed.stderr
    );
    let shown = world.oriel(&["flows", "show", "@last.1", "--full"]);
    for (name, secret) in SECRETS {
        assert!(shown.stdout.contains(secret), "{name}: {}", shown.stdout);
    }
    for arguments in [
        &["flows"][..],
        &["flows", "show", "@last.1"],
        &["flows", "tail"],
    ] {
        let said = world.oriel(arguments).stderr;
        assert!(
            said.contains("credentials are stored as they came"),
            "{arguments:?}: {said}"
        );
    }
    assert_eq!(only_flow(&world)["redaction"], "none");
}
