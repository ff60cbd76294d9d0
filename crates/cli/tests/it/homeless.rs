//! Without a HOME: oriel's files are in a folder of the user's own, beside those of everybody else.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use crate::world::{Printed, World, mode};

/// Where everybody may make folders, and the one in it that is ours.
fn places(world: &World) -> (PathBuf, PathBuf) {
    let temporary = world.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let user = rustix::process::geteuid().as_raw();
    let own = temporary.join(format!("oriel-{user}"));
    (temporary, own)
}

fn without_home(world: &World, arguments: &[&str]) -> Printed {
    let mut command = world.command(arguments);
    command.env_remove("HOME").env("TMPDIR", world.path("tmp"));
    Printed::of(command.output().unwrap())
}

#[test]
fn a_folder_of_one_s_own_is_made_and_closed() {
    let world = World::new();
    let (temporary, own) = places(&world);
    std::fs::create_dir(&own).unwrap();
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o777)).unwrap();
    without_home(&world, &["run", "-q", "--", "true"]).succeeded();
    assert_eq!(mode(&own), 0o700);
    assert!(own.join(".local/share/oriel/ca").is_dir());
    assert!(own.join(".local/share/oriel/oriel.db").is_file());
    assert_eq!(std::fs::read_dir(temporary).unwrap().count(), 1);
}

#[test]
fn a_folder_that_somebody_else_made_is_refused() {
    let world = World::new();
    let (_temporary, own) = places(&world);
    let elsewhere = world.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &own).unwrap();
    let check = |code| {
        let printed = without_home(&world, &["run", "--json", "--", "true"]);
        assert_eq!(printed.code, Some(code), "{}", printed.stderr);
        let error = printed.error();
        assert_eq!(error["code"], "ORL0715", "{error}");
        assert!(
            error["message"].as_str().unwrap().contains("oriel-"),
            "{error}"
        );
    };
    check(125);
    assert_eq!(without_home(&world, &["ca", "init"]).code, Some(4));
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);

    // Only root can give a folder to somebody else.
    if rustix::process::geteuid().is_root() {
        std::fs::remove_file(&own).unwrap();
        std::fs::create_dir(&own).unwrap();
        chown(&own, Some(12345), None).unwrap();
        check(125);
        assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0);
    }
}

#[test]
fn data_of_somebody_else_are_not_used() {
    if !rustix::process::geteuid().is_root() {
        // `own_folder` has a test that takes no second user.
        return;
    }
    let world = World::new();
    for folder in ["data", "data/ca"] {
        std::fs::create_dir(world.path(folder)).unwrap();
    }
    let open = |path: &str| {
        std::fs::set_permissions(world.path(path), std::fs::Permissions::from_mode(0o777)).unwrap();
    };
    // Whom we run as is neither who made the data nor root.
    for path in ["", "data", "data/ca"] {
        open(path);
    }
    for (data, authority) in [(Some(12345), None), (Some(54321), Some(12345))] {
        chown(world.path("data"), data, None).unwrap();
        chown(world.path("data/ca"), authority.or(data), None).unwrap();
        let oriel = world.command(&["run", "--json", "--data", "data", "--", "true"]);
        let mut other = std::process::Command::new("setpriv");
        other
            .args(["--reuid", "54321", "--clear-groups"])
            .arg(oriel.get_program());
        other.args(oriel.get_args()).current_dir(world.path(""));
        other
            .env_clear()
            .env("HOME", world.path(""))
            .env("PATH", "/usr/bin:/bin");
        let printed = Printed::of(other.output().unwrap());
        assert_eq!(printed.code, Some(125), "{}", printed.stderr);
        assert_eq!(printed.error()["code"], "ORL0715", "{}", printed.stderr);
    }
}
