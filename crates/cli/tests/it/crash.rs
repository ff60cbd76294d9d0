//! What a mistake in oriel leaves behind. A build for tests panics when a variable asks for it.

use crate::world::{Printed, World, mode};

/// The one report in the state folder.
fn report(world: &World) -> String {
    let folder = world.path(".local/state/oriel");
    let mut files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    let file = files.next().unwrap();
    assert!(files.next().is_none());
    let name = file.file_name().into_string().unwrap();
    assert!(
        name.starts_with("crash-") && name.ends_with(".txt"),
        "{name}"
    );
    assert_eq!(mode(&file.path()), 0o600);
    std::fs::read_to_string(file.path()).unwrap()
}

fn panicking(world: &World, place: &str, command: &[&str]) -> Printed {
    let mut command = world.command(command);
    command.env("ORIEL_DEBUG_PANIC", place);
    Printed::of(command.output().unwrap())
}

#[test]
fn a_panic_is_a_code_a_report_and_what_to_do_with_it() {
    let world = World::new();
    let command = [
        "flows",
        "show",
        "--data",
        "x",
        "api_key=sk-of-the-command-0123456789",
    ];
    let printed = panicking(&world, "main", &command);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(70), ""));
    let told = &printed.stderr;
    assert!(told.starts_with("error[ORL7000]: "), "{told}");
    assert!(
        told.contains("crash-") && told.contains("/issues/new?title="),
        "{told}"
    );
    assert!(
        !told.contains("thread 'main'") && !told.contains("stack backtrace"),
        "{told}"
    );
    let report = report(&world);
    for part in [
        "oriel ",
        "thread    main",
        "at        ",
        "said      ",
        "command   ",
        "panic",
    ] {
        assert!(report.contains(part), "{part}: {report}");
    }
    for text in [told, &report] {
        assert!(text.contains("[redacted:credential:"), "{text}");
        assert!(!text.contains("sk-of-"), "{text}");
    }
    let home = world.path("").display().to_string();
    assert!(!report.contains(home.trim_end_matches('/')), "{report}");
    let printed = panicking(&World::new(), "main", &["flows", "--json"]);
    assert_eq!(printed.code, Some(70));
    assert_eq!(printed.error()["code"], "ORL7000");
}

#[test]
fn a_panic_beside_a_command_ends_nothing_else() {
    let world = World::new();
    let printed = panicking(
        &world,
        "thread",
        &["run", "-q", "--", "sh", "-c", "echo on"],
    );
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    assert_eq!(
        (printed.stdout.as_str(), printed.stderr.as_str()),
        ("on\n", "")
    );
    assert!(report(&world).contains("thread    without a name"));
}
