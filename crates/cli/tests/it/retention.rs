//! What is old is removed: when it is asked for, and by a running service.

use std::time::Duration;

use testbed::upstream::Protocols;

use crate::site::{Site, flows};
use crate::world::{Service, World};

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
