//! `oriel ca` and `oriel env`.

use crate::world::{World, mode};

#[test]
fn the_authority_is_made_once_and_for_its_owner() {
    let world = World::new();
    let first = world.json(&["ca", "show", "--json"]);
    let second = world.json(&["ca", "show", "--json"]);
    assert_eq!(first, second);
    assert_eq!(first["schema"], "oriel.ca/1");
    assert_eq!(first["sha256"].as_str().unwrap().len(), 64);
    let folder = world.path(".local/share/oriel/ca");
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("authority.pem")), 0o600);
}

#[test]
fn a_part_of_what_is_shown_can_be_asked_for_alone() {
    let world = World::new();
    let pem = world.done(&["ca", "show", "--pem"]);
    assert_eq!(pem, world.done(&["ca", "export", "--format", "chain"]));
    let fingerprint = world.done(&["ca", "show", "--fingerprint"]);
    let sha256 = world.json(&["ca", "show", "--json"])["sha256"].clone();
    assert_eq!(
        fingerprint.replace(':', ""),
        format!("{}\n", sha256.as_str().unwrap())
    );
    assert_eq!(fingerprint.len(), 32 * 3);
    for flags in [["--pem", "--fingerprint"], ["--pem", "--json"]] {
        let printed = world.oriel(&[&["ca", "show"], &flags[..]].concat());
        assert_eq!(printed.code, Some(2), "{flags:?}: {}", printed.stderr);
    }
}

#[test]
fn the_key_is_never_exported() {
    let world = World::new();
    for format in ["pem", "bundle"] {
        let printed = world.oriel(&["ca", "export", "--format", format]);
        assert!(printed.stdout.contains("-----BEGIN CERTIFICATE-----"));
        assert!(!printed.stdout.contains("PRIVATE"), "{format}");
    }
    let der = world.path("ca.der");
    let printed = world.oriel(&[
        "ca",
        "export",
        "--format",
        "der",
        "-o",
        der.to_str().unwrap(),
    ]);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read(der).unwrap()[0], 0x30);
}

#[test]
fn a_bundle_takes_more_certificates() {
    let world = World::new();
    let own = world.oriel(&["ca", "export"]).stdout;
    let more = world.file("more.pem", &own);
    let bundle = world.oriel(&[
        "ca",
        "export",
        "--format",
        "bundle",
        "--with",
        more.to_str().unwrap(),
    ]);
    assert_eq!(bundle.stdout.matches(own.trim()).count(), 2);
    let none = world.file("none.pem", "nothing");
    let refused = world.oriel(&[
        "ca",
        "export",
        "--json",
        "--format",
        "bundle",
        "--with",
        none.to_str().unwrap(),
    ]);
    assert_eq!(refused.error()["code"], "ORL0305");
}

#[test]
fn a_shell_takes_the_variables_and_gives_them_back() {
    let world = World::new();
    let oriel = env!("CARGO_BIN_EXE_oriel");
    let script = format!(
        "eval \"$({oriel} env --shell bash --listen 127.0.0.1:6799)\"; echo \"$https_proxy\"; \
         test -s \"$CURL_CA_BUNDLE\" && echo bundle; eval \"$({oriel} env --unset)\"; \
         echo \"${{https_proxy-unset}} ${{CURL_CA_BUNDLE-unset}}\""
    );
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .env_clear()
        .env("HOME", world.path(""))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout, "http://127.0.0.1:6799\nbundle\nunset unset\n");
}

#[test]
fn every_shell_has_its_own_words() {
    let world = World::new();
    for (shell, word) in [
        ("bash", "export HTTPS_PROXY='"),
        ("zsh", "export HTTPS_PROXY='"),
        ("fish", "set -gx HTTPS_PROXY '"),
        ("pwsh", "$env:HTTPS_PROXY = '"),
        ("nu", "$env.HTTPS_PROXY = \""),
        ("csh", "setenv HTTPS_PROXY '"),
        ("tcsh", "setenv HTTPS_PROXY '"),
    ] {
        let printed = world.oriel(&["env", "--shell", shell]);
        assert!(printed.stdout.contains(word), "{shell}: {}", printed.stdout);
    }
}

#[test]
fn csh_is_told_from_shell_and_gets_one_line() {
    let world = World::new();
    let asked = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        let output = command.env("SHELL", "/bin/tcsh").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let set = asked(&["env"]);
    assert!(
        set.contains("Undo it:  eval \"`oriel env --shell csh --unset`\""),
        "{set}"
    );
    let unset = asked(&["env", "--unset"]);
    assert!(unset.contains("unsetenv HTTPS_PROXY;\n"), "{unset}");
    // A line end is a blank to its eval, and a hash would swallow what follows.
    for line in set.lines().chain(unset.lines()) {
        assert!(line.ends_with(';') && !line.starts_with('#'), "{line}");
    }
}

#[test]
fn what_takes_the_variables_back_is_for_programs_too() {
    let world = World::new();
    let document = world.json(&["env", "--unset", "--json"]);
    assert_eq!(document["schema"], "oriel.env/1");
    assert_eq!(document["set"], serde_json::json!({}));
    let unset = document["unset"].as_array().unwrap();
    assert!(unset.contains(&"HTTPS_PROXY".into()), "{document}");
}
