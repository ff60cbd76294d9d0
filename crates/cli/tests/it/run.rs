//! `oriel run`: the child is as it would be without us.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::upstream::{HELLO, answering, silent};
use crate::world::{World, send};

#[test]
fn every_exit_code_comes_back() {
    let world = World::new();
    for code in [0, 1, 2, 3, 99, 124, 125, 126, 127, 128, 200, 255] {
        let script = format!("exit {code}");
        let printed = world.oriel(&["run", "--summary", "none", "--", "sh", "-c", &script]);
        assert_eq!(printed.code, Some(code), "{}", printed.stderr);
        assert_eq!((printed.stdout.as_str(), printed.stderr.as_str()), ("", ""));
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let world = World::new();
    for (name, code) in [("TERM", 143), ("KILL", 137), ("HUP", 129), ("INT", 130)] {
        let script = format!("kill -{name} $$");
        let printed = world.oriel(&["run", "-q", "--", "sh", "-c", &script]);
        assert_eq!(printed.code, Some(code), "{name}: {}", printed.stderr);
    }
}

#[test]
fn what_cannot_be_started_has_codes_of_its_own() {
    let world = World::new();
    let not_executable = world.file("plain", "text");
    let not_executable = not_executable.to_str().unwrap();
    world.file("a-file", "");
    let check = |arguments: &[&str], code: i32, name: &str| {
        let mut all = vec!["run", "--json"];
        all.extend(arguments);
        let printed = world.oriel(&all);
        assert_eq!(printed.code, Some(code), "{}", printed.stderr);
        assert_eq!(printed.error()["code"], name, "{}", printed.stderr);
    };
    check(&["--", "no-such-program"], 127, "ORL0201");
    check(&["--", "./no-such-program"], 127, "ORL0201");
    check(&["--", not_executable], 126, "ORL0202");
    check(&["--cwd", "nowhere", "--", "true"], 125, "ORL0203");
    check(&["--data", "a-file", "--", "true"], 125, "ORL0702");
    check(&["--bypass", "https://x/", "--", "true"], 125, "ORL0105");
    check(&["--listen", "0.0.0.0:0", "--", "true"], 125, "ORL0102");
}

#[test]
fn streams_are_the_child_s_own() {
    let world = World::new();
    let script = "printf 'a\\000b'; printf err >&2; cat";
    let mut child = world
        .command(&["run", "--summary", "none", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from stdin")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"a\0bfrom stdin");
    assert_eq!(output.stderr, b"err");
}

/// Starts a child that says when it is ready, sends a signal to us, and gives code and output.
fn signalled(
    script: &str,
    signal: Signal,
    then: impl FnOnce(&mut std::process::Child),
) -> (Option<i32>, String) {
    let world = World::new();
    let mut child = world
        .command(&["run", "-q", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    send(&child, signal);
    then(&mut child);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    (child.wait().unwrap().code(), rest)
}

#[test]
fn signals_are_sent_on() {
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 7' {name}; echo ready; while :; do read x || sleep 0.05; done"
        );
        let (code, rest) = signalled(&script, signal, |_| {});
        assert_eq!((code, rest.as_str()), (Some(7), &*format!("got {name}\n")));
    }
}

#[test]
fn an_interrupt_is_left_to_the_child() {
    let (code, rest) = signalled("echo ready; read x; echo after", Signal::INT, |child| {
        drop(child.stdin.take());
    });
    assert_eq!((code, rest.as_str()), (Some(0), "after\n"));
}

#[test]
fn a_timeout_ends_the_child() {
    let world = World::new();
    let printed = world.oriel(&[
        "run",
        "--timeout",
        "100ms",
        "--summary",
        "compact",
        "--",
        "sleep",
        "60",
    ]);
    assert_eq!(printed.code, Some(143));
    assert!(printed.stderr.contains("timeout"), "{}", printed.stderr);
}

#[test]
fn the_child_is_pointed_at_us_and_trusts_us() {
    let world = World::new();
    let corporate = world.file("corp.pem", "CORPORATE\n");
    let script = "env; echo; cat $CURL_CA_BUNDLE; echo; cat $NODE_EXTRA_CA_CERTS";
    let printed = world
        .command(&["run", "-q", "--", "sh", "-c", script])
        .env("NODE_EXTRA_CA_CERTS", &corporate)
        .env("ORIEL_TOKEN", "secret")
        .env("NO_PROXY", "localhost,.corp.test")
        .output()
        .unwrap();
    let stdout = String::from_utf8(printed.stdout).unwrap();
    for name in ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        assert!(
            stdout.contains(&format!("{name}=http://127.0.0.1:")),
            "{stdout}"
        );
    }
    assert!(stdout.contains("NODE_USE_ENV_PROXY=1\n"));
    assert!(stdout.contains("NO_PROXY=localhost,.corp.test\n"));
    assert!(!stdout.contains("ORIEL_TOKEN"));
    let additions = stdout.rsplit("\n\n").next().unwrap();
    assert!(
        additions.contains("CORPORATE\n-----BEGIN CERTIFICATE-----"),
        "{additions}"
    );
    assert!(!stdout.contains("PRIVATE KEY"));
}

#[test]
fn the_files_of_a_run_go_with_it() {
    let world = World::new();
    let printed = world.oriel(&["run", "-q", "--", "sh", "-c", "echo $SSL_CERT_FILE"]);
    let bundle = std::path::PathBuf::from(printed.stdout.trim());
    assert!(bundle.starts_with(world.path("")), "{}", bundle.display());
    assert!(!bundle.exists() && !bundle.parent().unwrap().exists());
}

#[test]
fn a_request_is_captured_and_summed_up() {
    let world = World::new();
    let url = format!("http://{}/hello?token=secret", answering(HELLO));
    let summary = world.path("summary.json");
    let printed = world.oriel(&[
        "run",
        "--name",
        "greeting",
        "--summary-file",
        summary.to_str().unwrap(),
        "--",
        "curl",
        "-s",
        "--noproxy",
        "",
        &url,
    ]);
    assert_eq!(
        (printed.code, printed.stdout.as_str()),
        (Some(0), "hello\n")
    );
    assert!(
        printed.stderr.contains("requests=1 ok=1"),
        "{}",
        printed.stderr
    );
    let text = std::fs::read_to_string(summary).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let summary: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(summary["schema"], "oriel.run.summary/1");
    assert_eq!(summary["name"], "greeting");
    assert_eq!(summary["exit_code"], 0);
    assert_eq!(summary["requests"]["total"], 1);
    assert_eq!(summary["sizes"]["response_bytes"], 6);
    assert_eq!(summary["capture"]["complete"], true);
    assert_eq!(summary["hosts"][0]["host"], "127.0.0.1");
    let url = summary["argv"][4].as_str().unwrap();
    assert!(url.contains("token=[redacted:token:"), "{url}");
}

#[test]
fn two_runs_at_once_do_not_mix() {
    let world = World::new();
    let address = answering(HELLO);
    let start = |name: &str| {
        let script = format!(
            "for i in 1 2 3; do curl -s --noproxy '' http://{address}/{name} >/dev/null; done"
        );
        world
            .command(&["run", "-q", "--name", name, "--", "sh", "-c", &script])
            .spawn()
            .unwrap()
    };
    let (mut one, mut other) = (start("one"), start("other"));
    assert!(one.wait().unwrap().success() && other.wait().unwrap().success());
    for name in ["one", "other"] {
        let list = world.json(&["flows", "--session", name, "--json"]);
        assert_eq!(list["total"], 3, "{list}");
        for item in list["items"].as_array().unwrap() {
            assert_eq!(item["path"], format!("/{name}"));
        }
    }
}

#[test]
fn without_capture_nothing_is_stored() {
    let world = World::new();
    let url = format!("http://{}/", answering(HELLO));
    let printed = world.oriel(&[
        "run",
        "--no-capture",
        "--",
        "curl",
        "-s",
        "--noproxy",
        "",
        &url,
    ]);
    assert_eq!(
        (printed.stdout.as_str(), printed.stderr.as_str()),
        ("hello\n", "")
    );
    assert!(!world.path(".local/share/oriel/oriel.db").exists());
}

#[test]
fn an_empty_run_says_what_was_seen() {
    let world = World::new();
    let address = silent(Duration::from_millis(600));
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3", address.port());
    let printed = world
        .command(&["run", "--summary", "compact", "--", "bash", "-c", &script])
        .env("NO_PROXY", "localhost,127.0.0.1")
        .output()
        .unwrap();
    let stderr = String::from_utf8(printed.stderr).unwrap();
    assert!(stderr.contains("No traffic reached oriel."), "{stderr}");
    assert!(
        stderr.contains(&format!("directly to {address}")),
        "{stderr}"
    );
    assert!(
        stderr.contains("NO_PROXY=localhost,127.0.0.1 keeps"),
        "{stderr}"
    );
    assert!(stderr.contains("--include-loopback"), "{stderr}");
}

#[test]
fn where_the_last_run_is_empty_the_one_before_is_named() {
    let world = World::new();
    let shown = ["flows", "--session", "@last"];
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let alone = world.oriel(&shown).succeeded().stderr;
    assert!(alone.starts_with("the last run, "), "{alone}");
    assert!(alone.ends_with(", has no flows\n"), "{alone}");
    world.oriel(&["demo", "-q"]).succeeded();
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let before = world.json(&["flows", "--session", "@-3", "--json"]);
    let before = before["items"][0]["session"].as_str().unwrap();
    let expected = format!("has no flows; the last with flows is {before}, which is @-3");
    let told = world.oriel(&shown).succeeded().stderr;
    assert!(told.contains(&expected), "{told}");
    let shown = world.oriel(&["flows", "show", "@last.1", "--json"]);
    assert_eq!(shown.code, Some(5));
    let why = shown.error()["why"].to_string();
    assert!(why.contains(&expected), "{why}");
}

#[test]
fn the_variables_can_be_seen_without_running() {
    let world = World::new();
    let document = world.json(&["run", "--print-env", "--listen", "127.0.0.1:6799", "--json"]);
    assert_eq!(document["set"]["HTTPS_PROXY"], "http://127.0.0.1:6799");
    let bundle = document["set"]["SSL_CERT_FILE"].as_str().unwrap();
    assert!(
        std::fs::read_to_string(bundle)
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
    let printed = world.oriel(&["run", "--print-env", "--no-ca-env"]);
    assert!(
        printed.stdout.contains("export HTTPS_PROXY="),
        "{}",
        printed.stdout
    );
    assert!(
        !printed.stdout.contains("SSL_CERT_FILE"),
        "{}",
        printed.stdout
    );
}

#[test]
fn an_authority_of_one_s_own_is_used() {
    let world = World::new();
    let own = world.oriel(&["ca", "export", "--data", "elsewhere"]).stdout;
    let file = "elsewhere/ca/authority.pem";
    let printed = world.oriel(&[
        "run",
        "-q",
        "--ca-cert",
        file,
        "--ca-key",
        file,
        "--",
        "sh",
        "-c",
        "cat $NODE_EXTRA_CA_CERTS",
    ]);
    assert_eq!(printed.stdout, own, "{}", printed.stderr);
    assert!(!world.path(".local/share/oriel/ca").exists());
}

#[test]
fn a_proxy_that_is_not_reached_is_explained() {
    let world = World::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://me:secret@{}", gone.local_addr().unwrap());
    drop(gone);
    let run = ["run", "--", "curl", "-s", "http://a.example/"];
    let output = world.command(&run).env("HTTPS_PROXY", &proxy).output();
    let output = output.unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("oriel: upstream proxy http://127.0.0.1"),
        "{stdout}"
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("failed=1"), "{stderr}");
    assert!(
        stderr.contains("ORL0211") && !stderr.contains("secret"),
        "{stderr}"
    );
}

/// What `--summary-file` got.
fn summary_of(world: &World) -> serde_json::Value {
    let text = std::fs::read_to_string(world.path("summary.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_summary_file_is_written_whatever_a_run_comes_to() {
    for (flags, command, code, why) in [
        (
            &["--no-capture"][..],
            &["sh", "-c", "exit 3"][..],
            3,
            "--no-capture",
        ),
        (&[], &["no-such-program"], 127, "was not found"),
        (&["--cwd", "nowhere"], &["true"], 125, "is not a folder"),
        (&["--data", "a-file"], &["true"], 125, ""),
        (&["--bypass", "https://x/"], &["true"], 125, "x"),
    ] {
        let world = World::new();
        world.file("a-file", "");
        let run = ["run", "--name", "n", "--summary-file", "summary.json"];
        let printed = world.oriel(&[&run, flags, &["--"], command].concat());
        assert_eq!(printed.code, Some(code), "{}", printed.stderr);
        let summary = summary_of(&world);
        assert_eq!(summary["schema"], "oriel.run.summary/1");
        assert_eq!(
            (&summary["exit_code"], &summary["name"]),
            (&code.into(), &"n".into())
        );
        assert_eq!(summary["argv"][0], command[0]);
        assert_eq!(summary["capture"]["complete"], false, "{summary}");
        let said = summary["capture"]["why"].as_str().unwrap();
        assert!(!said.is_empty() && said.contains(why), "{summary}");
        assert!(summary["started_at"].as_str().unwrap().ends_with('Z'));
        assert!(summary["duration_ms"].as_f64() >= Some(0.0), "{summary}");
        assert!(
            summary["requests"].is_null(),
            "what is not known is no number"
        );
    }
}

#[test]
fn the_summary_file_of_a_signal_says_so() {
    let world = World::new();
    let run = [
        "run",
        "-q",
        "--no-capture",
        "--summary-file",
        "summary.json",
    ];
    let printed = world.oriel(&[&run[..], &["--", "sh", "-c", "kill -9 $$"]].concat());
    assert_eq!(printed.code, Some(137));
    let summary = summary_of(&world);
    assert!(summary["exit_code"].is_null(), "{summary}");
    assert_eq!(summary["signal"], 9);
}

/// A run, what its child prints, and the child's number.
type Waiting = (
    std::process::Child,
    BufReader<std::process::ChildStdout>,
    Pid,
);

/// A child that says its number and waits for a line.
fn waiting(world: &World) -> Waiting {
    waiting_for(world, "read x; echo after; exit 4")
}

/// A child that says its number before it does what the script says. `--summary-file` goes along.
fn waiting_for(world: &World, script: &str) -> Waiting {
    let script = format!("echo $$; {script}");
    let run = ["run", "--summary-file", "summary.json", "--"];
    let mut child = world
        .command(&[&run[..], &["sh", "-c", &script]].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    (child, stdout, pid)
}

/// Looks until something holds, for at most half a minute.
fn until(mut holds: impl FnMut() -> bool) {
    for _look in 0..3000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(holds());
}

#[test]
fn one_interrupt_of_a_terminal_is_no_second_one() {
    let world = World::new();
    for _time in 0..5 {
        let (child, _stdout, _pid) = waiting_for(&world, "exec sleep 60");
        // As Ctrl-C does: to the child and to us.
        let own = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process_group(own, Signal::INT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let summary = summary_of(&world);
        assert_eq!(summary["capture"]["complete"], true, "{summary}");
    }
}

#[test]
fn a_second_interrupt_skips_the_summary() {
    let world = World::new();
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let (mut child, mut stdout, pid) = waiting(&world);
    // The end of the run has to wait for whoever writes.
    let database = world.path(".local/share/oriel/oriel.db");
    let lock = rusqlite::Connection::open(database).unwrap();
    lock.busy_timeout(Duration::from_secs(5)).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();

    send(&child, Signal::INT);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "after\n", "the first one is the child's");
    let folder = format!("/proc/{}", pid.as_raw_nonzero());
    until(|| !std::path::Path::new(&folder).exists());
    // One that comes in the moment of the child's end may still count as the child's.
    until(|| {
        send(&child, Signal::INT);
        std::thread::sleep(Duration::from_millis(20));
        child.try_wait().unwrap().is_some()
    });
    let output = child.wait_with_output().unwrap();
    drop(lock);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let summary = summary_of(&world);
    assert_eq!(summary["exit_code"], 4);
    assert_eq!(summary["capture"]["complete"], false, "{summary}");
    assert!(summary["session"].is_string(), "{summary}");
}

#[test]
fn a_summary_that_cannot_be_stored_is_written_to_its_file() {
    let world = World::new();
    world.oriel(&["run", "-q", "--", "true"]).succeeded();
    let (mut child, _stdout, _pid) = waiting(&world);
    let database = world.path(".local/share/oriel/oriel.db");
    let lock = rusqlite::Connection::open(database).unwrap();
    lock.busy_timeout(Duration::from_secs(5)).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    drop(lock);
    assert_eq!(output.status.code(), Some(4));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("error[ORL07"), "{told}");
    let summary = summary_of(&world);
    assert_eq!(summary["exit_code"], 4);
    assert_eq!(summary["capture"]["complete"], false, "{summary}");
}

#[test]
fn a_run_stops_and_goes_on_with_its_child() {
    let world = World::new();
    let (mut child, mut stdout, pid) = waiting(&world);
    let own = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let is_stopped = |pid: Pid| {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let stat = std::fs::read_to_string(path).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    };
    // As the terminal does for Ctrl-Z, and the shell for `fg`.
    kill_process_group(own, Signal::TSTP).unwrap();
    until(|| is_stopped(own) && is_stopped(pid));
    kill_process_group(own, Signal::CONT).unwrap();
    until(|| !is_stopped(own) && !is_stopped(pid));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "after\n");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    assert_eq!(summary_of(&world)["capture"]["complete"], true);
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "it is real time that a person waits"
)]
fn the_summary_is_there_at_once() {
    // What is still open when the command ends is not waited for. A machine that is busy with other
    // things may take longer now and then, so the best of some runs counts.
    let hanging = silent(Duration::from_secs(30));
    let script =
        format!("curl -s --noproxy '' http://{hanging}/ >/dev/null & sleep 0.2; echo bye; exit 0");
    let lasted = || {
        let world = World::new();
        let mut child = world
            .command(&["run", "--summary", "line", "--", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ended = Instant::now();
        line.clear();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        let lasted = ended.elapsed();
        assert!(line.contains("requests=1"), "{line}");
        child.wait().unwrap();
        lasted
    };
    let best = (0..10)
        .map(|_| lasted())
        .find(|lasted| *lasted < Duration::from_millis(200));
    assert!(best.is_some(), "no summary came within 200 ms");
}
