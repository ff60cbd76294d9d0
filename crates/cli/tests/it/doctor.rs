//! `oriel doctor` and `oriel ca verify` with the real tools of this machine: what is well, and what
//! each kind of sabotage looks like.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::site::text;
use crate::world::{Printed, World, mode};

/// `oriel doctor --json` on ports of the system's choice, with the Python that has the clients first
/// on the search path.
fn doctor(world: &World, arguments: &[&str]) -> Command {
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/clients/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(clients.into()).chain(std::env::split_paths(&path));
    let fixed = ["doctor", "--json", "--listen", "127.0.0.1:0"];
    let mut command = world.command(&[&fixed, arguments].concat());
    command
        .env("ORIEL_ADMIN", "off")
        .env("PATH", std::env::join_paths(folders).unwrap());
    command
}

/// The document, and the exit code that goes with it.
fn diagnose(command: &mut Command) -> Value {
    let printed = Printed::of(command.output().unwrap());
    let document: Value = serde_json::from_str(&printed.stdout).expect(&printed.stderr);
    let failed = document["failures"].as_u64().unwrap() > 0;
    assert_eq!(printed.code, Some(i32::from(failed)), "{document}");
    document
}

/// The checks that are not well, as `state code text`.
fn complaints(document: &Value) -> Vec<String> {
    let checks = document["checks"].as_array().unwrap().iter();
    let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
    checks
        .filter(|check| check["state"] == "warning" || check["state"] == "failed")
        // How much space a machine has is no concern of a test.
        .filter(|check| check["code"] != "ORL0227")
        .map(|check| {
            let (state, code) = (word(check, "state"), word(check, "code"));
            let fix = check["fix"][0].as_str().unwrap_or_default();
            format!("{state} {code} {} | {fix}", word(check, "text"))
        })
        .collect()
}

/// Asserts that exactly these complaints are made: each is found by its beginning.
fn check(command: &mut Command, expected: &[&str]) -> Value {
    let document = diagnose(command);
    let complaints = complaints(&document);
    let right = complaints.len() == expected.len()
        && expected.iter().all(|wanted| {
            let mut all = complaints.iter();
            all.any(|complaint| complaint.contains(wanted))
        });
    assert!(right, "{complaints:#?}\nexpected {expected:#?}");
    document
}

fn tool<'a>(document: &'a Value, name: &str) -> &'a Value {
    let mut tools = document["tools"].as_array().unwrap().iter();
    tools.find(|tool| tool["tool"] == name).unwrap()
}

/// What a tool did, with the environment of a run and with the proxy alone.
fn verdicts<'a>(document: &'a Value, name: &str) -> [&'a str; 2] {
    let tool = tool(document, name);
    ["with_run", "system_wide"].map(|column| tool[column]["verdict"].as_str().unwrap())
}

#[test]
fn the_tools_of_this_machine_take_the_authority_of_a_run_and_no_other() {
    let world = World::new();
    let document = diagnose(&mut doctor(
        &world,
        &["--tools", "curl,git,python,requests"],
    ));
    assert_eq!(document["schema"], "oriel.doctor/1");
    for name in ["curl", "git", "python", "requests"] {
        assert_eq!(
            verdicts(&document, name),
            ["works", "refused"],
            "{document}"
        );
    }
    assert_eq!(
        (&document["warnings"], &document["failures"]),
        (&0.into(), &0.into())
    );
    // Looking leaves nothing behind: no authority, and no folder of a probe.
    assert!(!world.path(".local/share/oriel").exists());
    let left = std::fs::read_dir(world.path(".cache/oriel/runs")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn tools_with_roots_of_their_own_take_the_authority_of_a_run_and_no_other() {
    let world = World::new();
    let names = ["wget", "httpx", "pip", "npm", "cargo"];
    let document = diagnose(&mut doctor(&world, &["--tools", &names.join(",")]));
    let mut tried = 0;
    for name in names {
        if tool(&document, name)["found"] == false {
            continue;
        }
        tried += 1;
        // wget reads no variable for whom it trusts.
        let with_run = if name == "wget" { "refused" } else { "works" };
        let expected = [with_run, "refused"];
        assert_eq!(verdicts(&document, name), expected, "{name}: {document}");
    }
    assert!(tried > 0, "{document}");
    assert_eq!(document["failures"], 0);
}

#[test]
fn a_tool_that_is_not_there_is_named_only_if_it_was_asked_for() {
    let world = World::new();
    let empty = world.path("");
    let named = diagnose(doctor(&world, &["--tools", "curl"]).env("PATH", &empty));
    assert_eq!(tool(&named, "curl")["found"], false);
    assert_eq!(tool(&named, "curl")["with_run"], Value::Null);
    let all = diagnose(doctor(&world, &[]).env("PATH", &empty));
    assert_eq!(all["tools"], Value::Array(Vec::new()));
}

/// Every path below a folder.
fn paths(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths(&path, found);
        }
        found.push(path);
    }
}

#[test]
fn tools_leave_nothing_in_the_home() {
    let world = World::new();
    let tools = "curl,wget,git,python,requests,httpx,pip,node,npm";
    diagnose(&mut doctor(&world, &["--tools", tools]));
    let mut found = Vec::new();
    paths(&world.path(""), &mut found);
    // pip asks for the version of rustc, and rustup notes that it was asked.
    found.retain(|path| !path.starts_with(world.path(".rustup")));
    found.sort();
    let own = [".cache", ".cache/oriel", ".cache/oriel/runs"];
    assert_eq!(found, own.map(|name| world.path(name)));
}

/// The names of the members of an object, in their order.
fn keys(value: &Value) -> String {
    let keys = value.as_object().unwrap().keys();
    keys.map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_document_keeps_its_shape() {
    let world = World::new();
    let document = diagnose(&mut doctor(&world, &["--tools", "curl"]));
    let curl = tool(&document, "curl");
    let shape = [
        keys(&document),
        keys(&document["checks"][0]),
        keys(curl),
        keys(&curl["with_run"]),
    ];
    insta::assert_snapshot!(shape.join("\n"), @r"
    arch checks failures os schema tools version warnings
    area code fix state text
    decides found program system_wide tool version with_run
    fix state verdict why
    ");
}

#[test]
fn what_git_is_told_elsewhere_is_found() {
    let world = World::new();
    let other = testbed::authority::Authority::new("another").certificate_pem();
    let other = world.file("other.pem", &other);
    let config = format!("[http]\n\tsslCAInfo = {}\n", text(&other));
    world.file(".gitconfig", &config);
    let git = ["--tools", "git"];
    let document = diagnose(&mut doctor(&world, &git));
    // The variable that a run sets comes first; nothing does for who is started otherwise.
    assert_eq!(verdicts(&document, "git"), ["works", "refused"]);
    let alone = &tool(&document, "git")["system_wide"];
    assert_eq!(alone["state"], "warning");
    let why = alone["why"].as_str().unwrap();
    assert!(
        why.contains("http.sslCAInfo=") && why.contains(".gitconfig"),
        "{why}"
    );
    let fix = alone["fix"][0].as_str().unwrap();
    assert!(
        fix.starts_with("oriel ca export --format bundle --with "),
        "{fix}"
    );

    // The fix works: git takes oriel's certificates now, and those of the other authority still.
    let fixed = format!("export PATH=\"$ORIEL:$PATH\"; {fix}");
    let fixed = Command::new("sh")
        .args(["-c", &fixed])
        .env("HOME", world.path(""))
        .env(
            "ORIEL",
            Path::new(env!("CARGO_BIN_EXE_oriel")).parent().unwrap(),
        )
        .current_dir(world.path(""))
        .output()
        .unwrap();
    assert!(fixed.status.success(), "{fixed:?}");
    let document = diagnose(&mut doctor(&world, &git));
    assert_eq!(verdicts(&document, "git"), ["works", "works"]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://me:secret@{}", free.local_addr().unwrap());
    drop(free);
    let config = world.file(".gitconfig", &format!("[http]\n\tproxy = {proxy}\n"));
    let document = diagnose(&mut doctor(&world, &git));
    let with_run = &tool(&document, "git")["with_run"];
    assert_eq!(
        (&with_run["verdict"], &with_run["state"]),
        (&"failed".into(), &"warning".into())
    );
    let fix = with_run["fix"][0].as_str().unwrap();
    let expected = format!("git config --file {} --unset http.proxy", text(&config));
    assert!(fix.starts_with(&expected), "{fix}");
    assert!(!document.to_string().contains("secret"), "{document}");
}

#[test]
fn what_curl_is_told_elsewhere_is_found() {
    let world = World::new();
    let other = testbed::authority::Authority::new("another").certificate_pem();
    let other = world.file("other.pem", &other);
    world.file(".curlrc", &format!("cacert = \"{}\"\n", text(&other)));
    let curl = ["--tools", "curl"];
    let document = diagnose(&mut doctor(&world, &curl));
    assert_eq!(verdicts(&document, "curl"), ["refused", "refused"]);
    let with_run = &tool(&document, "curl")["with_run"];
    assert_eq!(with_run["state"], "warning");
    let fix = with_run["fix"][0].as_str().unwrap();
    assert!(fix.starts_with("take `cacert` out of "), "{fix}");

    world.file(".curlrc", "insecure\n");
    let document = diagnose(&mut doctor(&world, &curl));
    assert_eq!(verdicts(&document, "curl"), ["works", "unverified"]);
    assert_eq!(tool(&document, "curl")["system_wide"]["state"], "warning");
}

#[test]
fn a_tool_that_goes_past_oriel_is_told_why() {
    let world = World::new();
    let mut command = doctor(&world, &["--tools", "curl"]);
    let document = check(
        command.env("NO_PROXY", "*"),
        &["warning ORL0221 NO_PROXY lists *"],
    );
    assert_eq!(verdicts(&document, "curl"), ["past", "past"]);
    let with_run = &tool(&document, "curl")["with_run"];
    assert_eq!(with_run["state"], "warning");
    assert_eq!(with_run["fix"][0], "unset NO_PROXY no_proxy");
}

#[test]
fn node_is_seen_or_its_version_is_named() {
    let world = World::new();
    let document = diagnose(&mut doctor(&world, &["--tools", "node"]));
    let with_run = &tool(&document, "node")["with_run"];
    match with_run["verdict"].as_str().unwrap() {
        "works" => assert_eq!(with_run["state"], "ok"),
        verdict => {
            assert_eq!((verdict, &with_run["state"]), ("past", &"warning".into()));
            let fix = with_run["fix"][0].as_str().unwrap();
            assert!(fix.contains("NODE_USE_ENV_PROXY"), "{fix}");
        }
    }
}

#[test]
fn variables_that_fight_each_other_are_found() {
    let world = World::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://me:secret@{}", free.local_addr().unwrap());
    drop(free);
    let mut command = doctor(&world, &["--tools", "none"]);
    let document = check(
        command
            .env("HTTPS_PROXY", proxy)
            .env("https_proxy", "http://corp.test:3128")
            .env("NO_PROXY", "localhost,.openai.com")
            .env("NODE_USE_ENV_PROXY", "0")
            .env("NODE_EXTRA_CA_CERTS", "/nowhere/ca.pem")
            .env("SSL_CERT_FILE", world.path(""))
            .env("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
        &[
            "warning ORL0220 HTTPS_PROXY names http://127.0.0.1:",
            "warning ORL0220 HTTPS_PROXY and https_proxy differ",
            "warning ORL0220 NODE_USE_ENV_PROXY=0",
            "warning ORL0221 NO_PROXY covers api.openai.com",
            "warning ORL0222 NODE_EXTRA_CA_CERTS names /nowhere/ca.pem: No such file",
            "warning ORL0222 SSL_CERT_FILE names ",
            "warning ORL0223 NODE_TLS_REJECT_UNAUTHORIZED",
            "failed ORL0211 upstream proxy http://127.0.0.1:",
        ],
    );
    assert!(!document.to_string().contains("secret"), "{document}");
}

#[test]
fn an_authority_that_ends_soon_or_has_ended_is_found() {
    let none = ["--tools", "none"];
    let world = World::new();
    world.oriel(&["ca", "init", "--days", "20"]).succeeded();
    check(&mut doctor(&world, &none), &["warning ORL0224 CN=oriel on"]);

    let expired = EXPIRED.replace("FOLDER", text(&world.path("")));
    let made = Command::new("sh").args(["-c", &expired]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let files = ["ca.crt", "ca.key"].map(|name| world.path(name));
    let flags = ["--ca-cert", text(&files[0]), "--ca-key", text(&files[1])];
    let mut command = doctor(&world, &[&["--tools", "curl"][..], &flags].concat());
    let document = check(&mut command, &["failed ORL0303 CN=Old has expired on 20"]);
    assert_eq!(document["tools"], Value::Array(Vec::new()));
    let checks = document["checks"].to_string();
    assert!(checks.contains("no tool was tried"), "{checks}");
}

#[test]
fn other_certificates_that_have_ended_are_found() {
    let world = World::new();
    world.oriel(&["ca", "init"]).succeeded();
    let expired = EXPIRED.replace("FOLDER", text(&world.path("")));
    let made = Command::new("sh").args(["-c", &expired]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let [certificate, key] = ["ca.crt", "ca.key"].map(|name| text(&world.path(name)).to_owned());
    let none = ["--tools", "none"];
    let old = "failed ORL0303 CN=Old has expired on 20";
    for (settings, expected) in [
        (format!("[upstream]\nca_files = [\"{certificate}\"]\n"), old),
        (
            format!(
                "[[upstream.client_certificates]]\nhosts = [\"a.test\"]\n\
                 certificate = \"{certificate}\"\nkey = \"{key}\"\n"
            ),
            old,
        ),
        (format!("[upstream_proxy]\nca = \"{certificate}\"\n"), old),
        (
            "[upstream]\nca_files = [\"/nowhere.pem\"]\n".to_owned(),
            "failed ORL0305 the authorities of upstreams in /nowhere.pem cannot be read",
        ),
    ] {
        world.file(".config/oriel/config.toml", &settings);
        check(&mut doctor(&world, &none), &[expected]);
    }
    // Beside one that is valid, one that has ended harms nothing yet.
    let both = world.done(&["ca", "export", "--format", "chain"])
        + &std::fs::read_to_string(&certificate).unwrap();
    let both = text(&world.file("both.pem", &both)).to_owned();
    world.file(
        ".config/oriel/config.toml",
        &format!("[upstream]\nca_files = [\"{both}\"]\n"),
    );
    check(
        &mut doctor(&world, &none),
        &["warning ORL0303 CN=Old has expired on 20"],
    );
}

/// An authority whose time is over.
const EXPIRED: &str = "cd FOLDER && umask 077
    openssl ecparam -name prime256v1 -genkey -noout -out ca.key
    openssl req -new -key ca.key -subj /CN=Old -out ca.csr
    printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n' > ext
    openssl x509 -req -in ca.csr -signkey ca.key -days -1 -extfile ext -out ca.crt";

#[test]
fn an_authority_for_addresses_alone_is_not_tried() {
    let world = World::new();
    world.done(&["ca", "init", "--only", "10.0.0.0/8,localhost.test"]);
    let document = diagnose(&mut doctor(&world, &["--tools", "curl"]));
    assert_eq!(verdicts(&document, "curl"), ["works", "refused"]);

    let world = World::new();
    world.done(&["ca", "init", "--only", "10.0.0.0/8"]);
    let document = diagnose(&mut doctor(&world, &["--tools", "curl"]));
    let checks = document["checks"].to_string();
    assert!(
        checks.contains("no tool was tried: the authority signs for"),
        "{checks}"
    );
}

#[test]
fn an_authority_for_other_hosts_is_tried_with_a_name_it_may_sign_for() {
    let world = World::new();
    world.done(&["ca", "init", "--only", "api.openai.com"]);
    let tools = ["--tools", "curl,git,python,requests,java"];
    let document = diagnose(&mut doctor(&world, &tools));
    for name in ["curl", "git", "python", "requests"] {
        assert_eq!(
            verdicts(&document, name),
            ["works", "refused"],
            "{document}"
        );
    }
    // One that goes past oriel is not given a name that it would ask the network for.
    if tool(&document, "java")["found"] == true {
        assert_eq!(verdicts(&document, "java"), ["past", "past"]);
    }
    assert_eq!(document["failures"], 0, "{document}");
    let verified = world.json(&["ca", "verify", "--json", "--tools", "curl"]);
    assert_eq!(verdicts(&verified, "curl"), ["works", "refused"]);

    let ask = |host| world.oriel(&["ca", "verify", host, "--tools", "none"]);
    assert_eq!(ask("api.openai.com").code, Some(0));
    let other = ask("example.test");
    assert_eq!(other.code, Some(1));
    assert!(
        other.stdout.contains("it may not sign for example.test"),
        "{}",
        other.stdout
    );
}

#[test]
fn a_data_folder_that_cannot_be_used_is_found() {
    let none = ["--tools", "none"];
    let world = World::new();
    let file = world.file("file", "");
    let data = ["--data", text(&file)];
    check(
        &mut doctor(&world, &[none, data].concat()),
        &["failed ORL0702 cannot write to"],
    );
    let data = world.path(".local/share/oriel");
    world.file(".local/share/oriel/oriel.db", "this is no database");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fix = format!("(mode 0755) | chmod 700 {}", text(&data));
    check(
        &mut doctor(&world, &none),
        &[&fix, "warning ORL0226", "failed ORL0705"],
    );
}

#[test]
fn what_others_can_read_is_taken_from_them_when_asked_for() {
    let world = World::new();
    world.oriel(&["ca", "show"]).succeeded();
    let data = world.path(".local/share/oriel");
    let key = data.join("ca/authority.pem");
    let modes = |folder, file| {
        for (path, mode) in [(&data, folder), (&key, file)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    modes(0o755, 0o644);
    let flags = ["--tools", "curl", "--fix"];
    let nobody = Printed::of(doctor(&world, &flags).output().unwrap());
    assert_eq!(nobody.error()["code"], "ORL0229", "{}", nobody.stderr);
    assert_eq!((mode(&data), mode(&key)), (0o755, 0o644));
    let found = ["warning ORL0226", "failed ORL0301"];
    check(&mut doctor(&world, &["--tools", "none"]), &found);
    let fixed = check(&mut doctor(&world, &[&flags[..], &["--yes"]].concat()), &[]);
    assert_eq!((mode(&data), mode(&key)), (0o700, 0o600));
    // What took the key is tried now.
    assert_eq!(verdicts(&fixed, "curl")[0], "works");
}

#[test]
fn streams_come_through_as_they_happen() {
    let world = World::new();
    let document = check(&mut doctor(&world, &["--tools", "none"]), &[]);
    let checks = document["checks"].as_array().unwrap().iter();
    let network = checks.filter(|check| check["area"] == "network");
    let told: Vec<_> = network
        .map(|check| check["text"].as_str().unwrap())
        .collect();
    for what in ["an event stream", "a WebSocket"] {
        let comes = format!("{what} comes through as it happens (");
        assert!(told.iter().any(|text| text.starts_with(&comes)), "{told:?}");
    }
}

#[test]
fn a_port_that_somebody_has_is_found_and_oriel_itself_is_no_problem() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let fixed = [
        "doctor", "--json", "--tools", "none", "--admin", "off", "--listen",
    ];
    let mut command = world.command(&[&fixed[..], &[&address]].concat());
    check(
        &mut command,
        &[&format!(
            "failed ORL0103 port {} is in use",
            taken.local_addr().unwrap().port()
        )],
    );
    let mut service = world.serve(&["--admin", "off"]);
    let address = service.proxy.to_string();
    let document = check(&mut world.command(&[&fixed[..], &[&address]].concat()), &[]);
    let held = format!(
        "proxy {address} is held by oriel (pid {})",
        service.child.id()
    );
    assert!(document["checks"].to_string().contains(&held), "{document}");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn ca_verify_prints_the_same_matrix() {
    let world = World::new();
    let printed = world
        .oriel(&["ca", "verify", "--tools", "curl"])
        .succeeded();
    let line = printed
        .stdout
        .lines()
        .find(|line| line.starts_with("curl "));
    assert!(line.is_some_and(|line| line.contains(" ✓ ") && line.contains("✗ not installed")));
    assert!(
        printed.stdout.contains("the chain holds"),
        "{}",
        printed.stdout
    );
    let document = world.json(&["ca", "verify", "--tools", "curl", "--json"]);
    assert_eq!(verdicts(&document, "curl"), ["works", "refused"]);
}
