//! `oriel ca install` and `uninstall`, in file systems made for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testbed::authority::Authority;

use crate::world::{Printed, World};

/// What is at a path: a folder, the target of a link, or the mode and content of a file.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let facts = path.symlink_metadata().unwrap();
            let is = if facts.is_symlink() {
                format!("-> {}", std::fs::read_link(&path).unwrap().display())
            } else if facts.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else {
                let content = std::fs::read(&path).unwrap();
                format!(
                    "{:o} {}",
                    facts.permissions().mode(),
                    String::from_utf8_lossy(&content)
                )
            };
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.insert(name, is);
        }
    }
    found
}

/// What a program prints, which must go well.
fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program} is needed for this test: {error}"));
    let printed = Printed::of(output.unwrap());
    assert_eq!(
        printed.code,
        Some(0),
        "{program} {arguments:?}: {}{}",
        printed.stdout,
        printed.stderr
    );
    printed.stdout
}

fn other_certificate() -> String {
    Authority::new("another").certificate_pem()
}

/// The files of a Debian, as far as trust goes.
fn debian(world: &World) -> String {
    let bundle = other_certificate();
    world.file("debian/usr/local/share/ca-certificates/.keep", "");
    let file = world.file("debian/etc/ssl/certs/ca-certificates.crt", &bundle);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let certs = world.path("debian/etc/ssl/certs");
    symlink(
        "/usr/share/ca-certificates/other.crt",
        certs.join("other.pem"),
    )
    .unwrap();
    symlink("other.pem", certs.join("0a1b2c3d.0")).unwrap();
    symlink(
        "/etc/ssl/certs/ca-certificates.crt",
        world.path("debian/etc/ssl/cert.pem"),
    )
    .unwrap();
    world.path("debian").display().to_string()
}

/// The files of a Red Hat, whose bundle goes by two names and has no line end.
fn red_hat(world: &World) -> String {
    let bundle = other_certificate();
    world.file("redhat/etc/pki/ca-trust/source/anchors/.keep", "");
    world.file(
        "redhat/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        bundle.trim_end(),
    );
    world.file("redhat/etc/pki/tls/certs/.keep", "");
    symlink(
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        world.path("redhat/etc/pki/tls/certs/ca-bundle.crt"),
    )
    .unwrap();
    world.path("redhat").display().to_string()
}

/// The files of a SUSE, an Arch and an image with nothing but the bundle.
fn others(world: &World) -> Vec<String> {
    let bundle = other_certificate();
    world.file("suse/etc/pki/trust/anchors/.keep", "");
    world.file("suse/var/lib/ca-certificates/ca-bundle.pem", &bundle);
    world.file("arch/etc/ca-certificates/trust-source/anchors/.keep", "");
    world.file(
        "arch/etc/ca-certificates/extracted/tls-ca-bundle.pem",
        &bundle,
    );
    world.file("bare/etc/ssl/certs/ca-certificates.crt", &bundle);
    let names = ["suse", "arch", "bare"];
    names
        .map(|name| world.path(name).display().to_string())
        .to_vec()
}

#[test]
fn a_root_is_changed_and_changed_back_exactly() {
    let world = World::new();
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let leaf = "-----BEGIN CERTIFICATE-----";
    let roots = [vec![debian(&world), red_hat(&world)], others(&world)].concat();
    for root in roots {
        let before = tree(Path::new(&root));
        let install = ["ca", "install", "--root", &root];
        let planned = world.done(&[&install[..], &["--dry-run"]].concat());
        assert_eq!(tree(Path::new(&root)), before, "a dry run changes nothing");
        world.done(&[&install[..], &["--yes"]].concat());
        let installed = tree(Path::new(&root));
        for (path, _) in installed
            .iter()
            .filter(|(path, is)| before.get(*path) != Some(*is))
        {
            assert!(
                planned.contains(&format!("/{path}")),
                "{path} was not told: {planned}"
            );
        }
        let bundles = installed
            .iter()
            .filter(|(_, is)| is.matches(leaf).count() == 2);
        let bundles: Vec<_> = bundles.collect();
        assert_eq!(bundles.len(), 1, "{root}");
        assert!(bundles[0].1.contains(&own));
        // The mode is as it was.
        let mode = |is: &str| is.split(' ').next().map(str::to_owned);
        assert_eq!(mode(bundles[0].1), mode(&before[bundles[0].0]));
        let again = world.done(&[&install[..], &["--yes"]].concat());
        assert!(again.starts_with("nothing to do"), "{again}");
        assert_eq!(tree(Path::new(&root)), installed);
        world.done(&["ca", "uninstall", "--root", &root, "--yes"]);
        assert_eq!(tree(Path::new(&root)), before, "{root}");
        let none = world.done(&["ca", "uninstall", "--root", &root, "--yes"]);
        assert_eq!(none, "oriel has installed nothing here\n");
    }
    assert!(!world.path(".local/share/oriel/trust.json").exists());
}

#[test]
fn openssl_finds_the_certificate_in_a_debian() {
    let world = World::new();
    let root = debian(&world);
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let file = world.file("own.pem", &own);
    let file = file.to_str().unwrap();
    let hash = tool("openssl", &["x509", "-in", file, "-noout", "-subject_hash"]);
    world.done(&["ca", "install", "--root", &root, "--yes"]);
    let certs = world.path("debian/etc/ssl/certs");
    let by_hash = std::fs::read_link(certs.join(format!("{}.0", hash.trim()))).unwrap();
    let anchor = std::fs::read_link(certs.join(by_hash)).unwrap();
    let anchor = world.path("debian").join(anchor.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(anchor).unwrap(), own);
    let bundle = certs.join("ca-certificates.crt");
    tool(
        "openssl",
        &["verify", "-CAfile", bundle.to_str().unwrap(), file],
    );
}

#[test]
fn what_others_did_meanwhile_stays() {
    let world = World::new();
    let root = debian(&world);
    world.done(&["ca", "install", "--root", &root, "--yes"]);
    let bundle = world.path("debian/etc/ssl/certs/ca-certificates.crt");
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let (one, two) = (other_certificate(), other_certificate());
    // The system's tool writes the file anew, without our line above the certificate.
    std::fs::write(&bundle, format!("{one}{own}{two}")).unwrap();
    let certs = world.path("debian/etc/ssl/certs");
    let ours = std::fs::read_dir(&certs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let ours = ours.filter(|path| path.extension().is_some_and(|end| end == "0"));
    let by_hash = ours
        .into_iter()
        .find(|path| !path.ends_with("0a1b2c3d.0"))
        .unwrap();
    std::fs::remove_file(&by_hash).unwrap();
    symlink("theirs.pem", &by_hash).unwrap();
    let said = world.done(&["ca", "uninstall", "--root", &root, "--yes"]);
    assert!(said.contains("somebody else has changed it"), "{said}");
    assert_eq!(
        std::fs::read_to_string(&bundle).unwrap(),
        format!("{one}{two}")
    );
    assert_eq!(
        std::fs::read_link(&by_hash).unwrap(),
        Path::new("theirs.pem")
    );
    let anchors = world.path("debian/usr/local/share/ca-certificates");
    assert_eq!(std::fs::read_dir(anchors).unwrap().count(), 1);
}

#[test]
fn nothing_outside_a_root_is_touched() {
    let world = World::new();
    let outside = world.path("outside");
    std::fs::create_dir_all(outside.join("ssl/certs")).unwrap();
    std::fs::write(outside.join("ssl/certs/ca-certificates.crt"), "outside").unwrap();
    std::fs::create_dir_all(world.path("root")).unwrap();
    symlink(&outside, world.path("root/etc")).unwrap();
    symlink("../../../../../../outside", world.path("root/usr")).unwrap();
    let before = tree(&outside);
    let root = world.path("root").display().to_string();
    let printed = world.oriel(&["ca", "install", "--root", &root, "--yes", "--json"]);
    assert_eq!(printed.error()["code"], "ORL0313");
    assert_eq!(tree(&outside), before);
}

#[test]
fn it_asks_and_changes_nothing_without_a_yes_or_a_right() {
    let world = World::new();
    let root = debian(&world);
    let before = tree(Path::new(&root));
    let printed = world.oriel(&["ca", "install", "--root", &root, "--json"]);
    assert_eq!(
        printed.error()["code"],
        "ORL0313",
        "nobody is there to be asked"
    );
    // One of the two folders cannot be written: the other is not either.
    let is_root = rustix::process::geteuid().is_root();
    let mut command = world.command(&["ca", "install", "--root", &root, "--yes", "--json"]);
    if is_root {
        use std::os::unix::process::CommandExt;
        let data = world.path("data");
        std::fs::create_dir(&data).unwrap();
        let own = [
            world.path(""),
            data.clone(),
            world.path("debian/usr/local/share/ca-certificates"),
        ];
        for folder in own {
            std::os::unix::fs::chown(folder, Some(65534), Some(65534)).unwrap();
        }
        command
            .args(["--data", data.to_str().unwrap()])
            .uid(65534)
            .gid(65534);
    } else {
        let certs = world.path("debian/etc/ssl/certs");
        std::fs::set_permissions(certs, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let printed = Printed::of(command.output().unwrap());
    assert_eq!(printed.code, Some(4), "{}", printed.stderr);
    assert_eq!(printed.error()["code"], "ORL0314");
    assert!(
        printed.stderr.contains("sudo oriel ca install"),
        "{}",
        printed.stderr
    );
    let certs = world.path("debian/etc/ssl/certs");
    std::fs::set_permissions(certs, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(tree(Path::new(&root)), before);
}

/// Runs the program on a terminal that nobody types at.
fn on_terminal(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let command = world.command(arguments);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<&str> = words.map(|word| word.to_str().unwrap()).collect();
    let mut script = Command::new("script");
    script
        .args(["-qec", &line.join(" "), "/dev/null"])
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(world.path(""))
        .stdin(Stdio::null());
    let output = script.output().expect("script is needed for this test");
    let told = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), told)
}

#[test]
fn who_wants_no_question_gets_an_error_with_the_flag_that_answers() {
    let world = World::new();
    let root = debian(&world);
    let before = tree(Path::new(&root));
    let install = ["ca", "install", "--root", &root];
    let (_, asked) = on_terminal(&world, &install);
    assert!(asked.contains("Continue? [y/N]"), "{asked}");
    let (code, told) = on_terminal(&world, &[&install[..], &["--no-input"]].concat());
    assert_eq!(code, Some(2), "{told}");
    assert!(!told.contains("Continue?"), "{told}");
    assert!(told.contains("--no-input: nobody is asked"), "{told}");
    assert!(told.contains("fix   --yes "), "{told}");
    assert_eq!(tree(Path::new(&root)), before);
}

#[test]
fn an_authority_of_one_run_is_not_installed() {
    let world = World::new();
    let root = debian(&world);
    let files = ["--ca-cert", "s.crt", "--ca-key", "s.key"];
    world.done(&[&["ca", "init", "--name", "oriel session"], &files[..]].concat());
    let install = ["ca", "install", "--root", &root, "--yes", "--json"];
    let printed = world.oriel(&[&install[..], &files[..]].concat());
    assert_eq!(printed.error()["code"], "ORL0313");
}

#[test]
fn databases_of_nss_are_read_back() {
    let world = World::new();
    let certutil = |arguments: &[&str]| tool("certutil", arguments);
    let profile = world.path(".mozilla/firefox/abc.default");
    std::fs::create_dir_all(&profile).unwrap();
    let firefox = format!("sql:{}", profile.display());
    certutil(&["-N", "-d", &firefox, "--empty-password"]);
    let other = world.file("other.pem", &other_certificate());
    certutil(&[
        "-A",
        "-a",
        "-d",
        &firefox,
        "-n",
        "other",
        "-t",
        "C,,",
        "-i",
        other.to_str().unwrap(),
    ]);
    let before = certutil(&["-L", "-d", &firefox]);
    for store in ["user", "firefox"] {
        world.done(&["ca", "install", "--store", store, "--yes"]);
        let again = world.done(&["ca", "install", "--store", store, "--yes"]);
        assert!(again.starts_with("nothing to do"), "{again}");
    }
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let sha256 = world.json(&["ca", "show", "--json"])["sha256"]
        .as_str()
        .unwrap()
        .to_lowercase();
    let nickname = format!("oriel-{}", sha256.get(..16).unwrap());
    let shared = format!("sql:{}", world.path(".pki/nssdb").display());
    for database in [&shared, &firefox] {
        let read = certutil(&["-L", "-a", "-d", database, "-n", &nickname]);
        assert_eq!(read.replace('\r', ""), own);
        let listed = certutil(&["-L", "-d", database]);
        let line = listed
            .lines()
            .find(|line| line.starts_with(&nickname))
            .unwrap();
        assert!(line.trim_end().ends_with(" C,,"), "{line}");
        certutil(&["-V", "-u", "L", "-d", database, "-n", &nickname]);
    }
    let installed = world.json(&["ca", "show", "--json"])["installed"].clone();
    assert!(installed.as_array().unwrap().len() >= 2, "{installed}");
    world.done(&["ca", "uninstall", "--yes"]);
    assert_eq!(certutil(&["-L", "-d", &firefox]), before);
    assert!(!world.path(".pki").exists());
}

#[test]
fn a_java_keystore_is_read_back() {
    let world = World::new();
    let keystore = world.path("jdk/usr/lib/jvm/java-21/lib/security/cacerts");
    std::fs::create_dir_all(keystore.parent().unwrap()).unwrap();
    let keytool = |arguments: &[&str]| {
        let at = [
            "-keystore",
            keystore.to_str().unwrap(),
            "-storepass",
            "changeit",
        ];
        tool("keytool", &[arguments, &at[..]].concat())
    };
    let other = world.file("other.pem", &other_certificate());
    keytool(&[
        "-importcert",
        "-noprompt",
        "-alias",
        "other",
        "-file",
        other.to_str().unwrap(),
    ]);
    let root = world.path("jdk").display().to_string();
    let flags = ["--root", &root, "--store", "java", "--yes"];
    world.done(&[&["ca", "install"], &flags[..]].concat());
    assert!(keytool(&["-list"]).contains("oriel-"));
    world.done(&[&["ca", "uninstall"], &flags[..]].concat());
    let left = keytool(&["-list"]);
    assert!(left.contains("other") && !left.contains("oriel-"), "{left}");
}

#[test]
fn commands_of_other_systems_are_told() {
    let world = World::new();
    for (platform, expected) in [
        ("macos", "security add-trusted-cert -r trustRoot -k "),
        ("windows", "certutil -user -addstore Root oriel-ca.crt\n"),
    ] {
        let told = world.done(&["ca", "install", "--print-for", platform]);
        assert!(told.contains(expected), "{told}");
    }
}

#[test]
fn a_narrow_umask_takes_nothing_from_what_everyone_reads() {
    let world = World::new();
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let bundle = other_certificate();
    // Nothing but the file is there: all folders of the anchor are made.
    world.file("bare/etc/ssl/certs/ca-certificates.crt", &bundle);
    let script = format!(
        "umask 077; exec {} ca install --root bare --yes",
        env!("CARGO_BIN_EXE_oriel")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("HOME", world.path(""));
    let output = command.current_dir(world.path("")).output().unwrap();
    Printed::of(output).succeeded();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let mut folder = world.path("bare/etc");
    for part in ["pki", "ca-trust", "source", "anchors"] {
        folder.push(part);
        assert_eq!(mode(&folder), 0o755, "{}", folder.display());
    }
    let anchors: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert_eq!(anchors.len(), 1);
    let anchor = anchors.into_iter().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(&anchor).unwrap(), own);
    assert_eq!(mode(&anchor), 0o644);
}

#[test]
fn what_root_makes_in_the_home_of_a_user_is_the_users() {
    let world = World::new();
    let root = debian(&world);
    let script = format!(
        r#"chmod 755 .; mkdir root dana; chown 65534:65533 dana
umask 077
$oriel ca install --root {root} --data dana/.local/share/oriel --yes
find dana ! -user 65534
find dana ! -group 65533
export HOME=$PWD/dana
$dana $oriel run --quiet -- true
$dana $oriel ca show >/dev/null
stat -c '%a %n' dana/.local/share/oriel/ca/authority.pem dana/.local"#
    );
    let Some(printed) = as_root(&world, &script) else {
        return;
    };
    let printed = printed.succeeded();
    let lines: Vec<_> = printed.stdout.lines().skip(2).collect();
    let expected = [
        "600 dana/.local/share/oriel/ca/authority.pem",
        "700 dana/.local",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn windows_is_told_the_thumbprint_and_no_name() {
    let world = World::new();
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let file = world.file("own.pem", &own);
    let file = file.to_str().unwrap();
    let sha1 = tool(
        "openssl",
        &["x509", "-in", file, "-noout", "-fingerprint", "-sha1"],
    );
    let sha1 = sha1.trim().split_once('=').unwrap().1.replace(':', "");
    let told = world.done(&["ca", "install", "--print-for", "windows"]);
    let undo = format!(
        "# undo: certutil -user -delstore Root {}\n",
        sha1.to_lowercase()
    );
    assert!(told.ends_with(&undo), "{told}");
}

/// An entry of a journal that somebody else wrote.
fn planted(world: &World, change: &Value) -> Value {
    let sha256 = world.json(&["ca", "show", "--json"])["sha256"].clone();
    let sha256 = sha256.as_str().unwrap().to_lowercase();
    json!({"root": "/", "store": "system", "subject": "CN=oriel", "sha256": sha256, "change": change})
}

fn journal(world: &World, schema: &str, entries: &[Value]) -> String {
    let text = json!({"schema": schema, "entries": entries}).to_string();
    world.file(".local/share/oriel/trust.json", &text);
    text
}

#[test]
fn nothing_is_run_or_removed_because_a_journal_says_so() {
    let world = World::new();
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let ran = world.path("ran").display().to_string();
    let touch = json!(["touch", ran]);
    let victim = world.file("victim", &own).display().to_string();
    let others = world
        .file("others", &format!("one\n{own}two\n"))
        .display()
        .to_string();
    let link = world.path("link");
    symlink("/nowhere", &link).unwrap();
    let empty = world.path("empty");
    std::fs::create_dir(&empty).unwrap();
    let before = tree(&world.path(""));
    let changes = [
        json!({"kind": "command", "install": touch, "uninstall": touch}),
        json!({"kind": "refresh", "command": touch, "bundle": others, "pem": own, "linked": [],
            "name": "x.pem"}),
        json!({"kind": "refresh", "family": "debian", "command": touch, "pem": own, "name": "x.pem"}),
        json!({"kind": "file", "path": victim, "pem": own}),
        json!({"kind": "file", "path": "/etc/hostname", "pem": std::fs::read_to_string("/etc/hostname").unwrap_or_default()}),
        json!({"kind": "append", "path": others, "text": "one\n", "pem": own}),
        json!({"kind": "append", "path": others, "name": "oriel", "pem": own, "ends_line": false}),
        json!({"kind": "link", "path": link, "to": "/nowhere"}),
        json!({"kind": "folder", "path": empty}),
        json!({"kind": "nss_database", "folder": world.path("nss")}),
        json!({"kind": "nss", "folder": world.path("nss"), "nickname": "other", "pem": own}),
        json!({"kind": "java_keystore", "path": victim, "alias": "other", "pem": own}),
        json!({"kind": "keychain", "store": "system", "home": "/", "file": victim, "sha256": "00"}),
        json!({"kind": "shell", "does": touch}),
    ];
    for schema in ["oriel.trust/1", "oriel.trust/2"] {
        for change in &changes {
            let text = journal(&world, schema, &[planted(&world, change)]);
            let printed = world.oriel(&["ca", "uninstall", "--yes", "--json"]);
            assert_eq!(printed.error()["code"], "ORL0318", "{schema} {change}");
            let path = world.path(".local/share/oriel/trust.json");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "it is left");
            std::fs::remove_file(path).unwrap();
            assert_eq!(tree(&world.path("")), before, "{schema} {change}");
        }
    }
}

#[test]
fn a_journal_of_an_earlier_oriel_is_undone() {
    let world = World::new();
    let root = debian(&world);
    let before = tree(Path::new(&root));
    world.done(&["ca", "install", "--root", &root, "--yes"]);
    let path = world.path(".local/share/oriel/trust.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let entries = document["entries"].as_array_mut().unwrap();
    for entry in entries.iter_mut() {
        let change = entry["change"].as_object_mut().unwrap();
        if change["kind"] == "append" {
            let (name, pem) = (change["name"].clone(), change["pem"].clone());
            let text = format!("# {}\n{}", name.as_str().unwrap(), pem.as_str().unwrap());
            change.insert("text".to_owned(), json!(text));
            change.remove("name");
            change.remove("ends_line");
        }
    }
    journal(&world, "oriel.trust/1", entries);
    world.done(&["ca", "uninstall", "--root", &root, "--yes"]);
    assert_eq!(tree(Path::new(&root)), before);
}

#[expect(clippy::print_stderr, reason = "says what was not tested")]
fn may_unshare() -> bool {
    let may = Command::new("unshare").args(["-m", "true"]).status();
    let is_root = rustix::process::geteuid().is_root();
    let may = is_root && may.is_ok_and(|status| status.success());
    if !may {
        eprintln!("not tested: this takes root, unshare and setpriv");
    }
    may
}

/// Runs a script as root in a mount namespace with an empty `/var/lib`; `None` if this machine does
/// not let us.
fn as_root(world: &World, script: &str) -> Option<Printed> {
    if !may_unshare() {
        return None;
    }
    let script = format!(
        "set -e\nmount -t tmpfs none /var/lib\noriel={}\ncd {}\n\
         dana='setpriv --reuid 65534 --regid 65534 --clear-groups'\n{script}",
        env!("CARGO_BIN_EXE_oriel"),
        world.path("").display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("HOME", world.path("root"))
        .output()
        .unwrap();
    Some(Printed::of(output))
}

#[test]
fn what_root_does_for_a_user_is_written_where_the_user_cannot() {
    let world = World::new();
    let root = debian(&world);
    let before = tree(Path::new(&root));
    let script = format!(
        r#"chmod 755 .; mkdir root dana dana/data; chown -R 65534 dana
$oriel ca install --root {root} --data dana/data --yes
ls dana/data
find /var/lib/oriel -name trust.json -user root -perm 644
HOME=$PWD/dana $dana $oriel ca show --data dana/data | grep installed
if HOME=$PWD/dana $dana $oriel ca uninstall --root {root} --data dana/data --yes; then exit 9; fi
$oriel ca uninstall --root {root} --data dana/data --yes
ls /var/lib"#
    );
    let Some(printed) = as_root(&world, &script) else {
        return;
    };
    let printed = printed.succeeded();
    let (shown, rest) = printed.stdout.split_once("dana/data/trust.json\n").unwrap();
    assert!(shown.contains("\nca\n/var/lib/oriel/trust/"), "{shown}");
    assert!(rest.contains("installed    system of "), "{rest}");
    assert!(rest.ends_with("undone\n"), "{rest}");
    assert!(
        printed.stderr.contains("sudo oriel ca uninstall"),
        "{}",
        printed.stderr
    );
    assert_eq!(tree(Path::new(&root)), before);
}

#[test]
fn a_user_cannot_have_root_take_another_authority_out() {
    let world = World::new();
    let root = debian(&world);
    let other = Authority::new("another public authority");
    let pem = other.certificate_pem();
    let bundle = world.path("debian/etc/ssl/certs/ca-certificates.crt");
    std::fs::write(&bundle, &pem).unwrap();
    let file = world.file("other.pem", &pem);
    let sha256 = tool(
        "openssl",
        &[
            "x509",
            "-in",
            file.to_str().unwrap(),
            "-noout",
            "-fingerprint",
            "-sha256",
        ],
    );
    let sha256 = sha256
        .trim()
        .split_once('=')
        .unwrap()
        .1
        .replace(':', "")
        .to_lowercase();
    let name = format!("oriel-{}", sha256.get(..16).unwrap());
    let change = json!({"kind": "append", "path": "/etc/ssl/certs/ca-certificates.crt", "name": name,
        "pem": pem, "ends_line": false});
    let entry = json!({"root": world.path("debian").canonicalize().unwrap(), "store": "system", "subject": "CN=another",
        "sha256": sha256, "change": change});
    let text = json!({"schema": "oriel.trust/2", "entries": [entry]}).to_string();
    world.file("dana/data/trust.json", &text);
    let script = format!(
        "chmod 755 .; mkdir root; chown -R 65534 dana\n\
         $oriel ca uninstall --root {root} --data dana/data --yes"
    );
    let Some(printed) = as_root(&world, &script) else {
        return;
    };
    assert_ne!(printed.code, Some(0), "{}", printed.stdout);
    assert!(printed.stderr.contains("ORL0318"), "{}", printed.stderr);
    assert_eq!(std::fs::read_to_string(&bundle).unwrap(), pem);
}

/// The tool of this system, in a mount namespace with copies of what it writes.
#[test]
fn the_system_of_this_machine_is_changed_and_changed_back() {
    let world = World::new();
    let may = Command::new("unshare").args(["-m", "true"]).status();
    let has_tool = Path::new("/usr/sbin/update-ca-certificates").exists();
    if !may.is_ok_and(|status| status.success()) || !has_tool {
        eprintln!("not tested: this takes root, unshare and update-ca-certificates");
        return;
    }
    let own = world.done(&["ca", "export", "--format", "chain"]);
    let file = world.file("own.pem", &own);
    let script = format!(
        r#"set -e
for folder in /etc/ssl /usr/local/share/ca-certificates; do
  copy=$(mktemp -d -p {home}); cp -a $folder/. $copy; mount --bind $copy $folder
done
update-ca-certificates >/dev/null 2>&1
rm -rf /etc/ssl/certs/java
cp -a /etc/ssl {home}/before
umask 077
{oriel} ca install --store system --yes
setpriv --reuid 65534 --regid 65534 --clear-groups openssl verify -CApath /etc/ssl/certs <{file}
umask 022
openssl verify -CApath /etc/ssl/certs {file}
openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt {file}
{oriel} ca install --store system --yes
{oriel} ca uninstall --yes
rm -rf /etc/ssl/certs/java
diff -r --no-dereference /etc/ssl {home}/before
ls -A /usr/local/share/ca-certificates
if openssl verify -CApath /etc/ssl/certs {file} 2>/dev/null; then exit 9; fi
"#,
        home = world.path("").display(),
        oriel = env!("CARGO_BIN_EXE_oriel"),
        file = file.display(),
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("HOME", world.path(""))
        .output()
        .unwrap();
    let printed = Printed::of(output).succeeded();
    assert!(
        printed.stdout.contains("nothing to do"),
        "{}",
        printed.stdout
    );
}

#[test]
fn two_at_once_lose_nothing_of_each_other() {
    let world = World::new();
    // The authority is there before: what is looked at is the journal.
    world.done(&["ca", "export", "--format", "chain"]);
    let roots = [vec![debian(&world), red_hat(&world)], others(&world)].concat();
    let before: Vec<_> = roots.iter().map(|root| tree(Path::new(root))).collect();
    for verb in ["install", "uninstall"] {
        let started = roots.iter().map(|root| {
            let mut command = world.command(&["ca", verb, "--root", root, "--yes"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        });
        let started: Vec<_> = started.collect();
        for child in started {
            Printed::of(child.wait_with_output().unwrap()).succeeded();
        }
    }
    let after: Vec<_> = roots.iter().map(|root| tree(Path::new(root))).collect();
    assert_eq!(after, before);
}

#[test]
fn one_waits_for_the_other_and_says_so() {
    let world = World::new();
    world.done(&["ca", "export", "--format", "chain"]);
    let root = debian(&world);
    let other = File::open(world.path(".local/share/oriel")).unwrap();
    other.lock().unwrap();
    let mut child = world
        .command(&["ca", "install", "--root", &root, "--yes"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let waits = said.any(|line| line.unwrap().contains("waiting for it"));
    assert!(waits);
    let anchors = world.path("debian/usr/local/share/ca-certificates");
    assert_eq!(std::fs::read_dir(&anchors).unwrap().count(), 1);
    other.unlock().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(std::fs::read_dir(&anchors).unwrap().count(), 2);
}

#[test]
fn a_database_with_a_password_is_left_out_and_the_rest_goes_on() {
    let world = World::new();
    let password = world.file("password", "secret\n");
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let password = password.to_str().unwrap();
    let [closed, open] = ["a.closed", "b.open"].map(|name| {
        let profile = world.path(&format!(".mozilla/firefox/{name}"));
        std::fs::create_dir_all(&profile).unwrap();
        format!("sql:{}", profile.display())
    });
    tool("certutil", &["-N", "-d", &closed, "-f", password]);
    tool("certutil", &["-N", "-d", &open, "--empty-password"]);
    let listed = |database: &str| tool("certutil", &["-L", "-d", database]);
    let before = [&closed, &open].map(|database| listed(database));
    let install = ["ca", "install", "--store", "firefox", "--yes"];
    let printed = world.oriel(&install);
    assert_eq!(printed.code, Some(4), "{}", printed.stderr);
    for words in [
        "ORL0316",
        "a.closed",
        "primary password",
        "--nss-password-file FILE",
    ] {
        assert!(printed.stderr.contains(words), "{}", printed.stderr);
    }
    assert_eq!(listed(&closed), before[0], "nothing half done");
    assert!(listed(&open).contains("oriel-"));
    let with_password = [&install[..], &["--nss-password-file", password]].concat();
    world.done(&with_password);
    assert!(
        listed(&closed)
            .lines()
            .any(|line| line.starts_with("oriel-") && line.ends_with("C,,  "))
    );
    assert!(world.done(&install).starts_with("nothing to do"));
    // Taking out takes no password.
    world.done(&["ca", "uninstall", "--yes"]);
    assert_eq!([&closed, &open].map(|database| listed(database)), before);
}

#[test]
fn a_java_keystore_with_a_password_of_its_own_takes_it_from_a_file() {
    let world = World::new();
    let keystore = world.path("jdk/usr/lib/jvm/java-21/lib/security/cacerts");
    std::fs::create_dir_all(keystore.parent().unwrap()).unwrap();
    let other = world.file("other.pem", &other_certificate());
    let own = [
        "-keystore",
        keystore.to_str().unwrap(),
        "-storepass",
        "another",
    ];
    let keytool = |arguments: &[&str]| tool("keytool", &[arguments, &own[..]].concat());
    let file = other.to_str().unwrap();
    keytool(&["-importcert", "-noprompt", "-alias", "other", "-file", file]);
    let root = world.path("jdk").display().to_string();
    let flags = ["--root", &root, "--store", "java", "--yes"];
    let password = world.file("password", "another\n");
    let with_password = ["--java-password-file", password.to_str().unwrap()];
    for verb in ["install", "uninstall"] {
        let command = [&["ca", verb], &flags[..]].concat();
        let printed = world.oriel(&command);
        assert_eq!(printed.code, Some(4), "{}", printed.stderr);
        for words in [
            "ORL0316",
            "password was incorrect",
            "--java-password-file FILE",
        ] {
            assert!(printed.stderr.contains(words), "{verb}: {}", printed.stderr);
        }
        let command = [&command[..], &with_password].concat();
        let mode =
            |mode| std::fs::set_permissions(&password, std::fs::Permissions::from_mode(mode));
        mode(0o644).unwrap();
        let printed = world.oriel(&command);
        assert!(printed.stderr.contains("chmod 600"), "{}", printed.stderr);
        mode(0o600).unwrap();
        world.done(&command);
        let is_in = keytool(&["-list"]).contains("oriel-");
        assert_eq!(is_in, verb == "install");
    }
    assert!(keytool(&["-list"]).contains("other"));
}
