//! What is old is removed: when it is asked for, and by a running service.

use std::time::Duration;

use testbed::upstream::Protocols;

use crate::site::{Site, flows};
use crate::world::{Printed, Service, World};

fn capture(world: &World, site: &Site, flows: usize) {
    let url = site.url("/bytes/20000");
    let many = format!("{url}?[1-{flows}]");
    let printed = site.run(world, &["curl", "-sS", "-o", "/dev/null", &many]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
}

#[test]
fn old_flows_are_removed_when_asked_for() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    capture(&world, &site, 3);
    let printed = world.oriel(&["flows", "mark", "@last.2", "--tag", "gold"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);

    let printed = world.oriel(&["db", "prune", "--older-than", "30d"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert!(
        printed.stderr.contains("nothing is old or large enough"),
        "{}",
        printed.stderr
    );

    let dry = world.json(&["db", "prune", "--older-than", "0s", "--dry-run", "--json"]);
    assert_eq!(
        (&dry["flows"], &dry["removed"]),
        (&2.into(), &false.into()),
        "{dry}"
    );
    assert_eq!(flows(&world).len(), 3);

    // Nobody is there to be asked.
    let refused = world.oriel(&["db", "prune", "--older-than", "0s"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert_eq!(flows(&world).len(), 3);

    let done = world.json(&["db", "prune", "--older-than", "0s", "--yes", "--json"]);
    assert_eq!(
        (&done["flows"], &done["marked_kept"]),
        (&2.into(), &1.into()),
        "{done}"
    );
    let left = flows(&world);
    assert_eq!((left.len(), &left[0]["tags"][0]), (1, &"gold".into()));
}

#[test]
fn large_bodies_are_removed_when_asked_for() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    capture(&world, &site, 3);
    let prune = |arguments: &[&str]| {
        let command = ["db", "prune", "--json", "--larger-than"];
        world.json(&[&command, arguments].concat())
    };
    let dry = prune(&["20000", "--dry-run"]);
    assert_eq!(dry["flows_without_bodies"], 0, "{dry}");
    let dry = prune(&["19kB", "--dry-run"]);
    assert_eq!(
        (&dry["flows_without_bodies"], &dry["flows"]),
        (&3.into(), &0.into()),
        "{dry}"
    );
    // Words are looked up in an index that is made for it.
    let done = prune(&["19kB", "--keep", "url:20000?2 OR text:nothing", "--yes"]);
    assert_eq!(
        (&done["flows_without_bodies"], &done["matching_kept"]),
        (&2.into(), &1.into()),
        "{done}"
    );
    let cut: Vec<bool> = flows(&world)
        .iter()
        .map(|flow| flow["truncated"].as_bool().unwrap())
        .collect();
    assert_eq!(cut, [true, false, true]);
    let shown = world
        .oriel(&["flows", "show", "@last.1"])
        .succeeded()
        .stdout;
    assert!(shown.contains("not all of it kept"), "{shown}");
    let wrong = world.oriel(&["db", "prune", "--older-than", "1d", "--keep", "hst:a"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("did you mean"), "{}", wrong.stderr);
}

#[test]
fn pruning_says_what_it_leaves_in_an_archive() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    capture(&world, &site, 3);
    let database = world.path(".local/share/oriel/oriel.db");
    rusqlite::Connection::open(database)
        .unwrap()
        .execute(
            "INSERT INTO archives (name, arrival, begun, begun_row, change, gap) VALUES ('it', 0, 0, 0, 0, 0)",
            (),
        )
        .unwrap();
    for url in [
        "postgres://me:secret@127.0.0.1:1/oriel",
        "clickhouse://me:secret@127.0.0.1:1/oriel",
    ] {
        let prune = |more: &str| {
            let mut command = world.command(&["db", "prune", "--older-than", "0s", more]);
            command.env("ORIEL_DATABASE_URL", url);
            Printed::of(command.output().unwrap()).succeeded()
        };
        let said = prune("--yes").stderr;
        for part in [
            "nothing is old or large enough",
            "keeps 3 flows not yet archived",
            "only the file of this machine",
            "127.0.0.1:1/oriel keeps what it has",
            "oriel db prune --archive",
        ] {
            assert!(said.contains(part) && !said.contains("secret"), "{said}");
        }
        let said = prune("--json").stdout;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["awaited_kept"], 3, "{said}");
        assert!(said["archive_left"].as_str().unwrap().ends_with("/oriel"));
    }
    assert_eq!(flows(&world).len(), 3);

    // Nothing is copied to that one any more.
    let status = world.oriel(&["db", "status"]).succeeded().stdout;
    assert!(status.contains("oriel db forget it"), "{status}");
    let pruned = world.oriel(&["db", "prune", "--older-than", "0s", "--yes"]);
    let said = pruned.succeeded().stderr;
    assert!(said.contains("it does not have them as they are"), "{said}");
    let forget = |url: &str| {
        let mut command = world.command(&["db", "forget", url]);
        command.env(
            "ORIEL_DATABASE_URL",
            "postgres://me:secret@127.0.0.1:1/oriel",
        );
        Printed::of(command.output().unwrap())
    };
    let refused = forget("postgres://me@127.0.0.1:1/oriel");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("archive of the settings"),
        "{}",
        refused.stderr
    );
    forget("it").succeeded();
    assert_eq!(forget("it").code, Some(1));
    let args = ["db", "prune", "--older-than", "0s", "--yes"];
    let said = world.oriel(&args).succeeded().stderr;
    assert!(said.contains("removed 3 flows"), "{said}");
}

#[test]
fn without_a_word_of_what_is_old_nothing_is_removed() {
    let world = World::new();
    let printed = world.oriel(&["db", "prune"]);
    assert_eq!(printed.code, Some(2));
    assert!(
        printed.stderr.contains("--older-than"),
        "{}",
        printed.stderr
    );
}

#[test]
fn a_service_removes_what_is_old() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    capture(&world, &site, 3);
    std::thread::sleep(Duration::from_millis(5));
    let mut command = world.serve_command(&["--admin", "off"]);
    command.env("ORIEL_KEEP", "1ms");
    let mut service = Service::start(command);
    for _look in 0..1000 {
        if flows(&world).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(flows(&world).is_empty(), "they stay");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn chosen_flows_are_removed() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    capture(&world, &site, 4);
    let remove = |arguments: &[&str]| {
        let mut all = vec!["flows", "rm"];
        all.extend(arguments);
        all.extend(["--yes", "--json"]);
        world.json(&all)
    };
    let printed = world.oriel(&["flows", "mark", "@last.2", "@last.3", "--tag", "gold"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    for arguments in [
        &["flows", "rm"][..],
        &["flows", "rm", ""],
        &["flows", "rm", "@last"],
    ] {
        let refused = world.oriel(arguments);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    }
    let dry = world.oriel(&["flows", "rm", "@last", "--dry-run"]);
    assert!(
        dry.stderr.contains("would remove 2 flows") && dry.stderr.contains("keeps 2 flows marked"),
        "{}",
        dry.stderr
    );
    assert_eq!(flows(&world).len(), 4);
    assert_eq!(remove(&["@last.3"])["flows"], 1);
    assert_eq!(remove(&["path:/bytes status:200"])["flows"], 2);
    let left = flows(&world);
    assert_eq!((left.len(), &left[0]["tags"][0]), (1, &"gold".into()));
    assert_eq!(remove(&["--since", "1h"])["marked_kept"], 1);
    let done = world.json(&["db", "prune", "--tag", "gold=0s", "--yes", "--json"]);
    assert_eq!(done["flows"], 1, "{done}");
    assert!(flows(&world).is_empty());
    let unknown = world.oriel(&["flows", "rm", "@last.1", "--yes"]);
    assert_eq!(unknown.code, Some(5), "{}", unknown.stderr);
}

#[test]
fn chosen_flows_go_from_where_they_are_read() {
    let world = World::new();
    for url in [
        "postgres://me:secret@127.0.0.1:1/oriel",
        "clickhouse://me:secret@127.0.0.1:1/oriel",
    ] {
        for arguments in [
            &["flows", "rm", "host:a"][..],
            &["db", "prune", "--archive", "--older-than", "1d"],
        ] {
            let mut command = world.command(arguments);
            command.env("ORIEL_DATABASE_URL", url);
            let printed = Printed::of(command.output().unwrap());
            assert_eq!(printed.code, Some(7), "{}", printed.stderr);
            assert!(
                printed
                    .stderr
                    .contains("127.0.0.1:1/oriel cannot be used now")
                    && !printed.stderr.contains("secret"),
                "{}",
                printed.stderr
            );
        }
    }
    let none = world.oriel(&["db", "prune", "--archive", "--older-than", "1d"]);
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("database.url"), "{}", none.stderr);
}

/// An archive may be a file, too.
#[test]
fn flows_go_from_a_file_that_is_the_archive() {
    let world = World::new();
    let site = Site::https(&world, Protocols::Http1);
    let url = format!("sqlite:{}", world.path("team/archive.db").display());
    let mut run = world.command(&["run", "-q", "--", "curl", "-s", &site.url("/bytes/10")]);
    run.env("ORIEL_DATABASE_URL", &url);
    Printed::of(run.output().unwrap()).succeeded();
    let remove = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        command
            .env("ORIEL_DATABASE_URL", &url)
            .args(["--yes", "--json"]);
        let printed = Printed::of(command.output().unwrap()).succeeded();
        serde_json::from_str::<serde_json::Value>(&printed.stdout).unwrap()
    };
    assert_eq!(remove(&["flows", "rm", "@last"])["flows"], 1);
    let all = remove(&["db", "prune", "--archive", "--older-than", "0s"]);
    assert_eq!(all["flows"], 0, "{all}");
    assert_eq!(flows(&world).len(), 1, "the machine has it as before");
}
