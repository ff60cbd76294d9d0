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
        printed.stderr.contains("nothing is old enough"),
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
fn nothing_is_removed_from_an_archive_but_it_is_said_how() {
    let world = World::new();
    for (url, sql) in [
        ("postgres://me:secret@127.0.0.1:1/oriel", "oriel_prune("),
        ("clickhouse://me:secret@127.0.0.1:1/oriel", "DROP PARTITION"),
    ] {
        let mut command = world.command(&["flows", "rm", "host:a"]);
        command.env("ORIEL_DATABASE_URL", url);
        let printed = Printed::of(command.output().unwrap());
        assert_eq!(printed.code, Some(2), "{}", printed.stderr);
        let said = [
            "removes nothing from an archive",
            "--data",
            "DELETE FROM flows WHERE",
            sql,
        ];
        assert!(
            said.iter().all(|part| printed.stderr.contains(part))
                && !printed.stderr.contains("secret"),
            "{}",
            printed.stderr
        );
    }
}
