//! The database cannot be written, or the service dies: what passes is not disturbed, and what was seen
//! is kept or counted.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::archive::ask;
use crate::site::Site;
use crate::world::{Printed, Service, World};

/// Flows that ended this long ago survive a kill, as docs/record.md says.
const DURABLE: Duration = Duration::from_millis(200);
/// Keeps files from growing beyond 1 MiB.
const LIMITED: &str = "ulimit -f 2048; exec \"$0\" \"$@\"";
/// A data folder of its own, on a file system of 4 MiB.
const SMALL: &str =
    "mkdir -p \"$DATA\" && mount -t tmpfs -o size=4m none \"$DATA\" && exec \"$0\" \"$@\"";

/// The same with an authority and a database, and without room for anything more.
const FULL: &str = "mkdir -p \"$DATA\" && mount -t tmpfs -o size=4m none \"$DATA\" && \
    \"$0\" run -q -- true && { cat /dev/zero > \"$DATA/filler\" 2> /dev/null || true; } && exec \"$0\" \"$@\"";

fn data(world: &World) -> PathBuf {
    world.path(".local/share/oriel")
}

fn serve_command(world: &World) -> Command {
    world.serve_command(&["--admin", "127.0.0.1:0"])
}

/// The same command, started by others.
fn through(starter: &[&str], command: &Command) -> Command {
    let mut through = Command::new(starter[0]);
    let variables = command.get_envs();
    through
        .args(&starter[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))))
        .current_dir(command.get_current_dir().unwrap());
    through
}

/// Keeps everybody from writing to the database as long as it is not dropped.
fn lock(world: &World) -> Connection {
    let connection = Connection::open(data(world).join("oriel.db")).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

/// Asks through the service; curl writes the status of each answer in a line.
fn start_curl(service: &Service, arguments: &[&str]) -> Child {
    let proxy = format!("http://{}", service.proxy);
    Command::new("curl")
        .args(["-sS", "--noproxy", "", "-x", &proxy, "-o", "/dev/null"])
        .args(["-w", "%{http_code}\n"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn fetch(service: &Service, arguments: &[&str], times: usize) {
    assert_answered(start_curl(service, arguments), times);
}

fn assert_answered(curl: Child, times: usize) {
    let printed = Printed::of(curl.wait_with_output().unwrap());
    let answered = printed.stdout.lines().filter(|line| line.starts_with('2'));
    assert_eq!(answered.count(), times, "{}", printed.stderr);
}

fn store(admin: SocketAddr) -> Value {
    let answer = ask(admin, "/status");
    let status: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    status["store"].clone()
}

fn wait_for(service: &Service, what: impl Fn(&Value) -> bool) -> Value {
    let mut looks = 0;
    loop {
        let store = store(service.admin.unwrap());
        if what(&store) {
            return store;
        }
        looks += 1;
        assert!(looks < 3000, "{store}");
        sleep(Duration::from_millis(10));
    }
}

fn is_well(store: &Value) -> bool {
    store["last_error"].is_null() && store["spool"]["segments"] == 0
}

/// Ids of all flows that are completed, each once.
fn completed(world: &World) -> usize {
    let found = world.json(&["flows", "--json", "--limit", "1000"]);
    let rows = found["items"].as_array().unwrap();
    let mut ids: Vec<&str> = rows
        .iter()
        .filter(|row| row["state"] == "completed")
        .map(|row| row["id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), rows.len(), "{found}");
    ids.len()
}

/// Flows in a database, and events that are missing.
fn completed_and_lost(path: &Path) -> (i64, i64) {
    Connection::open(path)
        .unwrap()
        .query_row(
            "SELECT (SELECT count(*) FROM flows_shown WHERE state = 'completed'),
               (SELECT coalesce(sum(events), 0) FROM gaps)",
            (),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap()
}

/// A file with bytes that do not compress.
fn noise(world: &World, bytes: usize) -> String {
    let path = world.path("noise");
    let script = format!("head -c {bytes} /dev/urandom > '{}'", path.display());
    let made = Command::new("sh").args(["-c", &script]).status().unwrap();
    assert!(made.success());
    format!("@{}", path.display())
}

#[test]
fn a_database_that_is_locked_delays_nothing_and_gets_every_flow_once() {
    let world = World::new();
    let site = Site::http(&world);
    let mut service = Service::start(serve_command(&world));
    let admin = service.admin.unwrap();
    fetch(&service, &[&site.url("/bytes/1000?[1-10]")], 10);
    let locked = lock(&world);
    fetch(&service, &[&site.url("/bytes/1000?[11-60]")], 50);
    let store = wait_for(&service, |store| {
        store["spool"]["bytes"].as_u64() > Some(1000) && store["queued_events"] == 0
    });
    assert_eq!(
        store["last_error"],
        "the database is locked by another process"
    );
    let metrics = ask(admin, "/metrics");
    for line in ["oriel_store_up 0", "oriel_store_spool_segments 1"] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{metrics}");
    }
    drop(locked);
    let store = wait_for(&service, is_well);
    assert_eq!(
        (&store["lost_events"], &store["spool"]["bytes"]),
        (&0.into(), &0.into())
    );
    assert!(ask(admin, "/metrics").contains("\noriel_store_up 1\n"));
    assert_eq!(service.stop(), Some(0));
    assert_eq!(completed(&world), 60);
}

#[test]
fn what_starts_while_the_database_is_locked_records_every_flow() {
    let world = World::new();
    let site = Site::http(&world);
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let locked = lock(&world);
    let mut service = Service::start(serve_command(&world));
    let why = "the database is locked by another process";
    assert_eq!(store(service.admin.unwrap())["last_error"], why);
    fetch(&service, &[&site.url("/bytes/1000?[1-20]")], 20);

    let url = site.url("/bytes/1000");
    let command = [
        "run",
        "--admin",
        "off",
        "--include-loopback",
        "--name",
        "late",
        "--",
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        &url,
    ];
    let ran = world.oriel(&command).succeeded();
    assert!(ran.stderr.contains("waits in the spool"), "{}", ran.stderr);
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    assert_says_that_flows_wait(&world, 21);

    drop(locked);
    let store = wait_for(&service, is_well);
    assert_eq!(store["lost_events"], 0);
    fetch(&service, &[&site.url("/bytes/1000?[21-25]")], 5);
    assert_eq!(service.stop(), Some(0));
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    assert_eq!(completed(&world), 26);
    let late = world.json(&["flows", "--json", "--session", "late"]);
    assert_eq!(late["total"], 1);
}

/// Every command that reads says how many flows it cannot show.
fn assert_says_that_flows_wait(world: &World, flows: u64) {
    let said = format!("{flows} flows not shown yet");
    let exported = world.path("flows.jsonl").display().to_string();
    for (command, what, code) in [
        (&["flows"][..], "", 0),
        (&["flows", "list", "--jsonl"], "", 0),
        (&["flows", "search", "word"], "nothing found\n", 1),
        (&["flows", "tail"], "", 0),
        (&["sessions"], "", 0),
        (&["stats"], "no flow matches\n", 0),
        (&["stats", "--csv"], "", 0),
        (&["export", "-o", &exported, "--force"], "", 0),
    ] {
        let told = world.oriel(command);
        assert_eq!(told.code, Some(code), "{command:?}: {}", told.stderr);
        let mut begin = told.stderr.replace(&format!("0 flows in {exported}\n"), "");
        begin.truncate(what.len() + said.len());
        assert_eq!(begin, format!("{what}{said}"), "{command:?}");
        let quiet = world.oriel(&[command, &["--quiet"]].concat());
        assert!(!quiet.stderr.contains(&said), "{command:?}");
    }
    for command in [&["flows"][..], &["sessions"], &["stats"]] {
        let told = world.json(&[command, &["--json"]].concat());
        assert_eq!(told["spooled"], flows, "{command:?}");
    }
    let tail = world.oriel(&["flows", "tail", "--json"]).succeeded();
    let line = format!("{{\"type\":\"spooled\",\"flows\":{flows}}}\n");
    assert_eq!((tail.stdout, tail.stderr), (line, String::new()));
    let found = world.oriel(&["flows", "search", "word", "--json"]).stdout;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["spooled"], flows);

    for unknown in [
        &["flows", "--session", "late"][..],
        &["flows", "show", "@last.77"],
        &["flows", "show", "zzzz.1"],
        &["flows", "note", "zzzz.1", "text"],
        &["sessions", "show", "late"],
        &["export", "zzzz.1"],
    ] {
        let error = world.oriel(&[unknown, &["--json"]].concat()).error();
        let note = error["note"].as_str().unwrap_or_default();
        assert!(note.contains(&said), "{unknown:?}: {error}");
    }
}

#[test]
fn who_cannot_read_the_database_hears_that_nothing_is_lost() {
    let world = World::new();
    let site = Site::http(&world);
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let exclusive = Connection::open(data(&world).join("oriel.db")).unwrap();
    exclusive
        .execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        .unwrap();
    let mut service = Service::start(serve_command(&world));
    fetch(&service, &[&site.url("/bytes/1000?[1-20]")], 20);
    wait_for(&service, |store| store["spool"]["flows"] == 20);
    let error = world.oriel(&["flows", "--json"]).error();
    assert_eq!(error["code"], "ORL0703", "{error}");
    let note = error["note"].as_str().unwrap();
    assert!(
        note.starts_with("20 flows not shown yet") && note.ends_with("none of them is lost"),
        "{error}"
    );
    drop(exclusive);
    wait_for(&service, is_well);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(completed(&world), 20);
}

#[test]
fn a_service_that_starts_on_a_file_that_fails_serves_and_stores_when_it_no_longer_does() {
    let world = World::new();
    let site = Site::http(&world);
    // SQLite would remove an old log before it makes a database, and cannot.
    let log = data(&world).join("oriel.db-wal");
    std::fs::create_dir_all(&log).unwrap();
    let mut service = Service::start(serve_command(&world));
    let why = store(service.admin.unwrap())["last_error"].to_string();
    assert_eq!(why.matches("reading or writing").count(), 1, "{why}");
    assert!(why.contains("disk I/O error"), "{why}");
    fetch(&service, &[&site.url("/bytes/1000?[1-20]")], 20);
    wait_for(&service, |store| store["spool"]["flows"] == 20);
    let error = world.oriel(&["flows", "--json"]).error();
    assert_eq!(error["code"], "ORL0707", "{error}");
    let note = error["note"].as_str().unwrap();
    assert!(note.starts_with("20 flows not shown yet"), "{error}");
    std::fs::remove_dir(&log).unwrap();
    let store = wait_for(&service, is_well);
    assert_eq!(store["lost_events"], 0);
    assert_eq!(service.stop(), Some(0));
    assert_eq!(completed(&world), 20);
}

#[test]
fn what_is_no_database_of_oriel_stops_the_start_and_stays_as_it_is() {
    let random: fn(&Path) = |path| {
        let noise: Vec<u8> = (0..50_000_u32)
            .map(|n| ((n * n) >> 7).to_le_bytes()[0])
            .collect();
        std::fs::write(path, noise).unwrap();
    };
    let foreign: fn(&Path) = |path| {
        let other = Connection::open(path).unwrap();
        other.execute_batch("CREATE TABLE a (b)").unwrap();
    };
    let folder: fn(&Path) = |path| std::fs::create_dir(path).unwrap();
    let to_nowhere: fn(&Path) = |path| symlink("/nowhere/at/all", path).unwrap();
    let to_itself: fn(&Path) = |path| symlink(path.file_name().unwrap(), path).unwrap();
    let device: fn(&Path) = |path| symlink("/dev/full", path).unwrap();
    for (make, code, why) in [
        (random, "ORL0705", "file is not a database"),
        (foreign, "ORL0705", "of another program"),
        (folder, "ORL0702", "it is a folder"),
        (to_nowhere, "ORL0702", "a link to /nowhere/at/all"),
        (to_itself, "ORL0702", "symbolic links"),
        (device, "ORL0702", "it is a device"),
    ] {
        let world = World::new();
        std::fs::create_dir_all(data(&world)).unwrap();
        let path = data(&world).join("oriel.db");
        make(&path);
        let content = || path.is_file().then(|| std::fs::read(&path).unwrap());
        let before = content();
        for (command, exit) in [
            (
                &["serve", "--listen", "127.0.0.1:0", "--admin", "off"][..],
                7,
            ),
            (&["run", "-q", "--", "true"], 125),
            (&["flows"], 7),
            (&["db", "status"], 7),
            (&["db", "prune", "--older-than", "1d"], 7),
        ] {
            let said = world.oriel(command);
            assert_eq!(said.code, Some(exit), "{command:?} {why}: {}", said.stderr);
            let file = path.display().to_string();
            for part in [code, why, &file, "fix"] {
                assert!(said.stderr.contains(part), "{command:?}: {}", said.stderr);
            }
        }
        assert!(before == content(), "{why}: it was changed");
    }
}

#[test]
fn a_service_that_starts_on_a_full_disk_serves_and_stores_when_there_is_room() {
    let world = World::new();
    let Some(mut service) = start_on_disk(&world, FULL) else {
        return;
    };
    let site = Site::http(&world);
    fetch(&service, &[&site.url("/bytes/1000?[1-5]")], 5);
    let full = wait_for(&service, |store| store["last_error"].is_string());
    assert_eq!(full["lost_events"], 0, "{full}");

    let pid = service.child.id().to_string();
    let enter = ["nsenter", "-U", "-m", "--preserve-credentials", "-t", &pid];
    let mut room = Command::new(enter[0]);
    room.args(&enter[1..])
        .arg("rm")
        .arg(data(&world).join("filler"));
    assert!(room.status().unwrap().success());
    wait_for(&service, |store| {
        is_well(store) && store["queued_events"] == 0
    });
    let copy = world.path("copy.db");
    let backup = world.command(&["db", "backup", "-q", "-o", copy.to_str().unwrap()]);
    assert!(through(&enter, &backup).status().unwrap().success());
    assert_eq!(completed_and_lost(&copy), (5, 0));
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_service_that_is_killed_loses_nothing_that_ended_before() {
    for is_locked in [false, true] {
        let world = World::new();
        let site = Site::http(&world);
        let mut service = Service::start(serve_command(&world));
        let locked = is_locked.then(|| lock(&world));
        fetch(&service, &[&site.url("/bytes/1000?[1-20]")], 20);
        if is_locked {
            // It was given a second to be unlocked.
            wait_for(&service, |store| !store["last_error"].is_null());
            fetch(&service, &[&site.url("/bytes/1000?[21-40]")], 20);
        }
        sleep(DURABLE);
        service.child.kill().unwrap();
        service.child.wait().unwrap();
        drop(locked);
        // The next one takes over what is in the spool.
        assert_eq!(world.oriel(&["run", "-q", "--", "true"]).code, Some(0));
        assert_eq!(completed(&world), if is_locked { 40 } else { 20 });
    }
}

#[test]
fn files_that_may_not_grow_do_not_end_it_and_lose_nothing() {
    let world = World::new();
    let site = Site::http(&world);
    let command = serve_command(&world);
    let mut service = Service::start(through(&["sh", "-c", LIMITED], &command));
    let body = noise(&world, 100_000);
    for _ in 0..30 {
        noise(&world, 100_000);
        fetch(
            &service,
            &["--data-binary", &body, &site.url("/status/204")],
            1,
        );
    }
    let store = wait_for(&service, |store| {
        store["spool"]["segments"].as_u64() > Some(1) && store["queued_events"] == 0
    });
    assert_eq!(store["lost_events"], 0, "{store}");
    assert!(store["last_error"].is_string(), "{store}");
    assert_eq!(service.stop(), Some(0));
    assert_eq!(world.oriel(&["run", "-q", "--", "true"]).code, Some(0));
    assert_eq!(completed(&world), 30);
}

#[test]
fn a_run_on_a_full_disk_ends_with_what_is_known() {
    let fill = "cat /dev/zero > \"$DATA/filler\" 2> /dev/null; exit 4";
    let compact = ["exit 4", "gap        not all of the run is here"];
    let line = [" exit=4 ", " incomplete=yes"];
    for (disk, script, form, parts) in [
        (FULL, "exit 4", "compact", compact),
        (SMALL, fill, "line", line),
    ] {
        let world = World::new();
        let run = ["run", "--summary", form, "--summary-file", "summary.json"];
        let run = world.command(&[&run[..], &["--", "sh", "-c", script]].concat());
        let Some(mut run) = on_disk(&world, disk, run) else {
            return;
        };
        let printed = Printed::of(run.output().unwrap());
        let told = printed.stderr;
        assert_eq!(printed.code, Some(4), "{told}");
        for part in parts {
            assert!(told.contains(part), "{told}");
        }
        assert!(told.contains("error[ORL07"), "{told}");
        assert!(!told.contains("No traffic"), "{told}");
        let summary = std::fs::read_to_string(world.path("summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["capture"]["complete"], false, "{summary}");
        assert!(summary["capture"]["why"].is_string(), "{summary}");
    }
}

#[test]
fn a_run_that_is_to_fail_on_something_fails_where_that_is_not_known() {
    let world = World::new();
    let run = world.command(&["run", "--fail-on", "errors>0", "--", "true"]);
    let Some(mut run) = on_disk(&world, FULL, run) else {
        return;
    };
    let printed = Printed::of(run.output().unwrap());
    let told = printed.stderr;
    assert_eq!(printed.code, Some(99), "{told}");
    assert!(told.contains("error[ORL07"), "{told}");
    assert!(told.contains("why   errors is not known: "), "{told}");
}

#[test]
fn a_full_disk_stops_no_traffic_and_what_is_lost_is_counted() {
    let world = World::new();
    let Some(mut service) = start_on_disk(&world, SMALL) else {
        return;
    };
    let site = Site::http(&world);
    let body = noise(&world, 4_000_000);
    for _ in 0..20 {
        noise(&world, 4_000_000);
        fetch(
            &service,
            &["--data-binary", &body, &site.url("/status/204")],
            1,
        );
    }
    // What fits into the memory waits there.
    let full = wait_for(&service, |store| store["lost_events"].as_u64() > Some(0));
    assert_eq!(full["last_error"], "the disk is full");
    assert!(full["queued_bytes"].as_u64() <= Some(128 << 20), "{full}");

    let pid = service.child.id().to_string();
    let enter = ["nsenter", "-U", "-m", "--preserve-credentials", "-t", &pid];
    let mut room = Command::new(enter[0]);
    room.args(&enter[1..])
        .args(["mount", "-o", "remount,size=300m"])
        .arg(data(&world));
    assert!(room.status().unwrap().success());
    fetch(&service, &[&site.url("/bytes/1000?[1-5]")], 5);
    let well = wait_for(&service, |store| {
        is_well(store) && store["queued_events"] == 0
    });
    let copy = world.path("copy.db");
    let backup = world.command(&["db", "backup", "-q", "-o", copy.to_str().unwrap()]);
    assert!(through(&enter, &backup).status().unwrap().success());
    let spool = format!("/proc/{pid}/root{}/spool", data(&world).display());
    assert_eq!(
        std::fs::read_dir(spool).unwrap().count(),
        0,
        "tries leave nothing"
    );
    // Bodies were dropped, and no flow.
    let lost = well["lost_events"].as_i64().unwrap();
    assert_eq!(completed_and_lost(&copy), (25, lost));
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn what_finds_no_room_is_dropped_or_makes_traffic_wait_as_asked() {
    for overflow in ["drop", "block"] {
        let world = World::new();
        let site = Site::http(&world);
        let mut command = serve_command(&world);
        command
            .env("ORIEL_DATABASE_OVERFLOW", overflow)
            .env("ORIEL_DATABASE_SPOOL_BYTES_MAX", "0");
        let mut service = Service::start(command);
        let locked = lock(&world);
        let mut curl = start_curl(&service, &[&site.url("/bytes/4000000?[1-40]")]);
        if overflow == "drop" {
            assert_answered(curl, 40);
            wait_for(&service, |store| {
                store["lost_body_bytes"].as_u64() > Some(0)
            });
            drop(locked);
            wait_for(&service, is_well);
        } else {
            wait_for(&service, |store| {
                store["queued_bytes"].as_u64() > Some(50 << 20)
            });
            sleep(Duration::from_millis(500));
            assert!(curl.try_wait().unwrap().is_none(), "it does not wait");
            drop(locked);
            assert_answered(curl, 40);
            let store = wait_for(&service, |store| store["queued_events"] == 0);
            assert_eq!(store["lost_events"], 0, "{store}");
        }
        assert!(!data(&world).join("spool").exists());
        assert_eq!(service.stop(), Some(0));
        assert_eq!(completed(&world), 40);
    }
}

#[test]
fn what_the_archive_has_leaves_the_machine_when_it_is_old() {
    let world = World::new();
    let site = Site::http(&world);
    let archive = format!("sqlite:{}", world.path("team/archive.db").display());
    let mut service = Service::start(serve_command(&world));
    fetch(&service, &[&site.url("/bytes/1000?[1-3]")], 3);
    assert_eq!(service.stop(), Some(0));

    let serve = || {
        let mut command = serve_command(&world);
        command
            .env("ORIEL_DATABASE_URL", &archive)
            .env("ORIEL_DATABASE_LOCAL_KEEP", "1ms");
        Service::start(command)
    };
    // It has none of them when this one begins, and all when the next does.
    let mut service = serve();
    wait_for(&service, |store| store["archive"]["copied_flows"] == 3);
    assert_eq!(completed(&world), 3);
    assert_eq!(service.stop(), Some(0));
    let mut service = serve();
    for _look in 0..1000 {
        if completed(&world) == 0 {
            break;
        }
        sleep(Duration::from_millis(20));
    }
    assert_eq!(completed(&world), 0);
    assert_eq!(service.stop(), Some(0));
    let there = world
        .command(&["flows", "--json"])
        .env("ORIEL_DATABASE_URL", &archive)
        .output();
    let there: Value = serde_json::from_str(&Printed::of(there.unwrap()).stdout).unwrap();
    assert_eq!(there["total"], 3);
}

/// Allows a machine without mount namespaces to leave out what takes one.
const WITHOUT_NAMESPACES: &str = "ORIEL_TEST_WITHOUT_NAMESPACES";

/// A service whose data folder this shell script mounts; `None` where nothing can be mounted, and that
/// is allowed.
fn start_on_disk(world: &World, script: &str) -> Option<Service> {
    on_disk(world, script, serve_command(world)).map(Service::start)
}

/// The same for any command.
fn on_disk(world: &World, script: &str, mut command: Command) -> Option<Command> {
    let may = Command::new("unshare").args(["-Urm", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        let is_allowed = std::env::var_os(WITHOUT_NAMESPACES).is_some_and(|value| value == "1");
        assert!(
            is_allowed,
            "this takes a mount namespace (unshare -Urm); {WITHOUT_NAMESPACES}=1 leaves it out"
        );
        return None;
    }
    command.env("DATA", data(world));
    let unshared = ["unshare", "-Urm", "sh", "-c", script];
    Some(through(&unshared, &command))
}
