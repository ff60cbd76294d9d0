//! `oriel db`.

use std::os::unix::fs::PermissionsExt;

use crate::world::World;

/// A home in which the demo was recorded: seven flows.
fn recorded() -> World {
    let world = World::new();
    world.done(&["demo", "--json"]);
    world
}

#[test]
fn what_there_is_is_told() {
    let empty = World::new();
    let printed = empty.oriel(&["db", "status"]).succeeded();
    assert!(
        printed.stdout.contains("nothing was captured yet"),
        "{}",
        printed.stdout
    );

    let world = recorded();
    let status = world.json(&["db", "status", "--json"]);
    let file = &status["file"];
    assert_eq!(
        (file["flows"].as_u64(), file["runs"].as_u64()),
        (Some(7), Some(1)),
        "{status}"
    );
    assert_eq!(file["schema_version"], file["known_schema_version"]);
    assert!(file["bytes"].as_u64() > Some(50_000));
    let shown = world.oriel(&["db", "status"]).stdout;
    assert!(shown.contains("7 flows in 1 run\n"), "{shown}");
    let migrated = world.json(&["db", "migrate", "--json", "--dry-run"]);
    let one = &migrated["databases"][0];
    assert_eq!(one["from"], one["to"], "{migrated}");
    world.oriel(&["db", "migrate"]).succeeded();
}

#[test]
fn an_archive_that_is_away_is_told_with_its_reason() {
    let world = recorded();
    let mut command = world.command(&["db", "status", "--json"]);
    command.env("ORIEL_DATABASE_URL", "postgres://me@127.0.0.1:1/oriel");
    let output = command.output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = &status["archive"]["error"];
    assert_eq!(error["code"], "ORL0708", "{status}");
    assert!(
        error["why"].is_string() && status["file"]["flows"] == 7,
        "{status}"
    );
}

#[test]
fn a_damaged_file_is_told_from_a_whole_one() {
    let world = recorded();
    let whole = world.oriel(&["db", "check"]).succeeded();
    assert!(whole.stdout.ends_with("oriel.db is whole\n"));
    let document = world.json(&["db", "check", "--json"]);
    assert_eq!(document["whole"], true);
    let path = world.path(".local/share/oriel/oriel.db");
    std::fs::write(
        path,
        b"no database at all, but some text of a length ".repeat(200),
    )
    .unwrap();
    let damaged = world.oriel(&["db", "check", "--json"]);
    assert_eq!(damaged.error()["code"], "ORL0705");
}

#[test]
fn a_backup_is_whole_and_for_its_owner_only() {
    let world = recorded();
    let backup = world.path("monday.db");
    let name = backup.to_str().unwrap();
    let printed = world.oriel(&["db", "backup", "-o", name]).succeeded();
    assert!(
        printed.stderr.starts_with("7 flows in "),
        "{}",
        printed.stderr
    );
    let mode = std::fs::metadata(&backup).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!world.path("monday.db-wal").exists());
    let again = world.oriel(&["db", "backup", "-o", name, "--json"]);
    assert_eq!(again.error()["code"], "ORL0008");

    // It takes the place of what is lost.
    let there = world.oriel(&["flows", "--json"]).stdout;
    std::fs::create_dir(world.path("data")).unwrap();
    std::fs::rename(&backup, world.path("data/oriel.db")).unwrap();
    let data = world.path("data");
    let restored = world.oriel(&["flows", "--json", "--data", data.to_str().unwrap()]);
    assert_eq!(restored.stdout, there);
}

#[test]
fn a_copy_has_every_flow_and_can_be_repeated() {
    let world = recorded();
    let to = format!("sqlite:{}", world.path("copy/oriel.db").display());
    for _ in 0..2 {
        let copied = world.json(&["db", "copy", "--to", &to, "--json"]);
        assert_eq!(copied["flows"], 7, "{copied}");
    }
    let here = world.oriel(&["flows", "--json"]).stdout;
    let copy = world.path("copy");
    let there = world.oriel(&["flows", "--json", "--data", copy.to_str().unwrap()]);
    assert_eq!(there.stdout, here);
    // And back into a third.
    let third = format!("sqlite:{}", world.path("third/oriel.db").display());
    let printed = world.oriel(&["db", "copy", "--from", &to, "--to", &third]);
    assert_eq!(
        printed.stderr,
        format!(
            "7 flows copied to {}\n",
            third.trim_start_matches("sqlite:")
        )
    );
    let itself = world.oriel(&["db", "copy", "--from", &to, "--to", &to, "--json"]);
    assert_eq!(itself.error()["code"], "ORL0001");
    let none = world.oriel(&[
        "db",
        "copy",
        "--to",
        "postgres://me:secret@127.0.0.1:1/d",
        "--json",
    ]);
    assert_eq!(none.error()["code"], "ORL0708", "{}", none.stderr);
    assert!(!none.stderr.contains("secret"), "{}", none.stderr);
}

#[test]
fn a_copy_that_fails_names_the_option_that_said_where() {
    let world = recorded();
    world.file("file", "no database");
    let nowhere = "postgres://me@127.0.0.1:1/d";
    let missing = format!("sqlite:{}", world.path("nowhere.db").display());
    let no_folder = format!("sqlite:{}", world.path("file/oriel.db").display());
    let damaged = format!("sqlite:{}", world.path("file").display());
    let spare = format!("sqlite:{}", world.path("spare.db").display());
    for (words, code, option) in [
        (&["--to", nowhere][..], "ORL0708", "--to"),
        (&["--to", &no_folder], "ORL0702", "--to"),
        (&["--to", &damaged], "ORL0705", "--to"),
        (&["--from", nowhere, "--to", &spare], "ORL0708", "--from"),
        (&["--from", &missing, "--to", &spare], "ORL0005", "--from"),
    ] {
        let mut all = vec!["db", "copy", "--json"];
        all.extend(words);
        let error = world.oriel(&all).error();
        assert_eq!(error["code"], code, "{error}");
        let fix = error["fix"].to_string();
        assert!(fix.contains(option), "{error}");
        assert!(
            !fix.contains("database.url") && !fix.contains("--data"),
            "{error}"
        );
    }
}

#[test]
fn the_tables_of_an_archive_are_printed() {
    let world = World::new();
    for (arguments, part) in [
        (&["postgres"][..], "CREATE INDEX flows_by_words"),
        (
            &["postgres", "--read-only-role"],
            "CREATE ROLE oriel_reader",
        ),
        (&["clickhouse"], ") ENGINE = ReplacingMergeTree(version)"),
        (
            &["clickhouse", "--cluster", "fleet"],
            "ENGINE = Distributed('fleet',",
        ),
        (
            &["clickhouse", "--read-only-role"],
            "SELECT ON flows TO oriel_reader",
        ),
    ] {
        let all = [&["db", "schema"], arguments].concat();
        let printed = world.oriel(&all);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert!(printed.stdout.contains(part), "{}", printed.stdout);
        let document = world.json(&[&all[..], &["--json"]].concat());
        assert_eq!(document["sql"], printed.stdout);
    }
    let wrong = world.oriel(&["db", "schema", "postgres", "--cluster", "c", "--json"]);
    assert_eq!(wrong.error()["code"], "ORL0001");
}

#[test]
fn times_are_told_in_the_zone_that_was_asked_for() {
    let world = recorded();
    let status = world.json(&["db", "status", "--json"]);
    let utc = status["file"]["oldest_at"].as_str().unwrap();
    let utc = utc.get(..19).unwrap().replace('T', " ");
    let printed = |words: &[&str]| {
        let mut command = world.command(words);
        let output = command.env("TZ", "AAA-14").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let local = printed(&["db", "status"]);
    assert!(!local.contains(&utc), "{local}");
    let told = printed(&["db", "status", "--timezone", "utc"]);
    assert!(told.contains(&utc), "{told}");
    let json = printed(&["db", "status", "--json"]);
    assert!(
        json.contains(status["file"]["oldest_at"].as_str().unwrap()),
        "{json}"
    );

    let clock = |words: &[&str]| {
        let mut all = vec!["doctor", "--tools", "none"];
        all.extend(words);
        let text = printed(&all);
        let line = text
            .lines()
            .find(|line| line.contains("after all that oriel wrote"));
        let line = line.unwrap().to_owned();
        let at = line.find("20").unwrap();
        let hour: u32 = line.get(at + 11..at + 13).unwrap().parse().unwrap();
        hour
    };
    let ahead = (clock(&[]) + 24 - clock(&["--timezone", "utc"])) % 24;
    assert!((14..=15).contains(&ahead), "{ahead}");
}
