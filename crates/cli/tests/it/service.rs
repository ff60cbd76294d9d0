//! `oriel start`, `status`, `stop` and `logs`: the service in the background, as a person meets it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::upstream::{HELLO, answering};
use crate::world::{Printed, Service, World, mode, send};

const START: [&str; 6] = [
    "start",
    "--json",
    "--listen",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
];

/// A service in the background of a world, which ends with the test.
struct Background<'a> {
    world: &'a World,
    status: Value,
}

impl<'a> Background<'a> {
    fn start(world: &'a World, more: &[&str]) -> Self {
        let status = world.json(&[&START, more].concat());
        Self { world, status }
    }

    fn pid(&self) -> u64 {
        self.status["pid"].as_u64().unwrap()
    }

    fn proxy(&self) -> SocketAddr {
        self.listener("proxy")
    }

    fn listener(&self, kind: &str) -> SocketAddr {
        let listeners = self.status["listeners"].as_array().unwrap();
        let found = listeners.iter().find(|one| one["kind"] == kind).unwrap();
        found["addr"].as_str().unwrap().parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(process(self.pid()), signal).unwrap();
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        self.world.oriel(&["stop", "--now"]);
    }
}

fn process(pid: u64) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

fn status_code(world: &World) -> Option<i32> {
    world.oriel(&["status"]).code
}

/// Sends requests on one connection, and reads an answer to each.
fn ask(proxy: SocketAddr, upstream: SocketAddr, times: usize) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    for number in 0..times {
        write!(
            stream,
            "GET http://{upstream}/{number} HTTP/1.1\r\nHost: {upstream}\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"hello\n") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "{number}");
            answer.push(byte[0]);
        }
    }
}

#[test]
fn starts_says_how_it_is_and_stops() {
    let world = World::new();
    let down = world.oriel(&["status"]);
    assert_eq!(down.code, Some(3));
    assert!(down.stdout.contains("start it: oriel start"));
    let down = world.oriel(&["status", "--json"]);
    assert_eq!(down.code, Some(3));
    let down: Value = serde_json::from_str(&down.stdout).unwrap();

    let service = Background::start(&world, &[]);
    assert_eq!(service.status["schema"], "oriel.status/1");
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["pid"], service.pid());
    let fields =
        |status: &Value| -> Vec<String> { status.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(fields(&down), fields(&status));
    assert_eq!(status["listeners"], service.status["listeners"]);
    assert_eq!(status["store"]["lost_events"], 0);
    assert!(status["store"]["last_error"].is_null());
    let shown = world.oriel(&["status"]).succeeded();
    assert!(shown.stdout.contains("running   pid "), "{}", shown.stdout);
    assert!(shown.stdout.contains(" flows"), "{}", shown.stdout);
    assert!(shown.stdout.contains("expires in 36"), "{}", shown.stdout);
    assert_eq!(status["store"]["flows"], 0);
    assert!(status["store"]["oldest"].is_null(), "{status}");
    assert!(status["store"]["bytes"].as_u64() > Some(0), "{status}");
    assert!(status["store"]["disk_free_bytes"].is_u64(), "{status}");
    let authority = world.json(&["ca", "show", "--json"]);
    assert_eq!(status["ca"]["not_after"], authority["not_after"]);
    assert_eq!(status["ca"]["subject"], authority["subject"]);
    assert!(status["warnings"].is_array(), "{status}");
    let runtime = world.path(".cache/oriel/runs");
    assert_eq!(mode(&runtime), 0o700);
    assert_eq!(mode(&runtime.join("control.sock")), 0o600);
    assert_eq!(mode(&runtime.join("service.pid")), 0o600);
    assert_eq!(mode(&world.path(".local/state/oriel/oriel.log")), 0o600);

    let again = world.json(&START);
    assert_eq!(again["pid"], service.pid());
    // A shell is led where it is, whatever the settings say.
    let variables = world.json(&["env", "--json"]);
    let proxy = format!("http://{}", service.proxy());
    assert_eq!(variables["set"]["HTTPS_PROXY"], proxy);
    let asked = world.json(&["env", "--json", "--listen", "127.0.0.1:7000"]);
    assert_eq!(asked["set"]["HTTPS_PROXY"], "http://127.0.0.1:7000");
    assert_eq!(world.oriel(&["-q", "start"]).succeeded().stdout, "");
    let told = world.oriel(&["start", "--listen", "127.0.0.1:0"]);
    assert!(
        told.stdout.contains("runs already (pid "),
        "{}",
        told.stdout
    );

    ask(service.proxy(), answering(HELLO), 1);
    let stopped = world.oriel(&["stop"]).succeeded();
    assert!(stopped.stdout.contains("oriel stopped (pid "));
    assert_eq!(status_code(&world), Some(3));
    assert!(!runtime.join("control.sock").exists());
    let again = world.oriel(&["stop", "--json"]).succeeded();
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(again["was_running"], false);
    assert_eq!(world.json(&["flows", "--json"])["total"], 1);
}

#[test]
fn two_that_are_started_at_once_are_one() {
    let world = World::new();
    let spawn = || {
        let mut command = world.command(&START);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let pids = [spawn(), spawn(), spawn()].map(|child| {
        let printed = Printed::of(child.wait_with_output().unwrap()).succeeded();
        let status: Value = serde_json::from_str(&printed.stdout).unwrap();
        status["pid"].as_u64().unwrap()
    });
    let service = Background::start(&world, &[]);
    assert_eq!(pids, [service.pid(); 3]);
}

#[test]
fn a_process_that_has_its_number_is_not_taken_for_it() {
    let world = World::new();
    // A process that is alive, and ours to signal, but no service.
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    world.file(
        ".cache/oriel/runs/service.pid",
        &format!("{}\n", stranger.id()),
    );
    assert_eq!(status_code(&world), Some(3));
    world.oriel(&["stop"]).succeeded();
    let service = Background::start(&world, &[]);
    assert_ne!(service.pid(), u64::from(stranger.id()));
    drop(service);
    assert!(stranger.try_wait().unwrap().is_none(), "it was ended");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn one_that_was_killed_is_not_there_and_can_be_started_again() {
    let world = World::new();
    let killed = Background::start(&world, &[]);
    killed.signal(Signal::KILL);
    while status_code(&world) != Some(3) {
        std::thread::yield_now();
    }
    let next = Background::start(&world, &[]);
    assert_ne!(next.pid(), killed.pid());
    assert_eq!(world.json(&["status", "--json"])["pid"], next.pid());
}

#[test]
fn one_that_does_not_answer_is_killed() {
    let world = World::new();
    let frozen = Background::start(&world, &[]);
    frozen.signal(Signal::STOP);
    let stopped = world.oriel(&["stop", "--now", "--json"]).succeeded();
    let told: Value = serde_json::from_str(&stopped.stdout).unwrap();
    assert_eq!(told["killed"], true);
    assert_eq!(status_code(&world), Some(3));
}

#[test]
fn a_port_in_use_is_told_with_its_holder_and_nothing_is_left() {
    let world = World::new();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let printed = world.oriel(&["start", "--json", "--listen", &address, "--admin", "off"]);
    assert_eq!(printed.code, Some(6), "{}", printed.stderr);
    assert_eq!(printed.stdout, "");
    let error = printed.error();
    assert_eq!(error["code"], "ORL0103");
    let pid = format!("(pid {})", std::process::id());
    assert!(error["why"].as_str().unwrap().contains(&pid), "{error}");
    assert_eq!(status_code(&world), Some(3));
    let logs = world.oriel(&["logs"]);
    assert!(logs.stdout.contains("is in use"), "{}", logs.stdout);
}

#[test]
fn a_mistake_in_a_file_is_shown_where_it_was_started() {
    let world = World::new();
    world.file(".config/oriel/config.toml", "[proxy]\nlistn = 1\n");
    let printed = world.oriel(&["start"]);
    assert_eq!(printed.code, Some(2));
    assert!(printed.stderr.contains("ORL0402"), "{}", printed.stderr);
}

#[test]
fn stopping_loses_nothing_that_is_queued() {
    let world = World::new();
    let service = Background::start(&world, &[]);
    let upstream = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
    let proxy = service.proxy();
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| ask(proxy, upstream, 100));
        }
    });
    world.oriel(&["stop"]).succeeded();
    let flows = world.json(&["flows", "--json", "state:completed", "-n", "1"]);
    assert_eq!(flows["total"], 500, "{flows}");
}

#[test]
fn says_what_it_does_in_its_log() {
    let world = World::new();
    let none = world.oriel(&["logs"]);
    assert_eq!((none.code, none.stdout.as_str()), (Some(0), ""));
    let service = Background::start(&world, &[]);
    let logs = world.oriel(&["logs"]);
    let listening = format!("listening on {}", service.proxy());
    assert!(logs.stdout.contains(&listening), "{}", logs.stdout);
    for line in world.oriel(&["logs", "--json"]).stdout.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["type"], "log");
    }
    let warnings = world.oriel(&["logs", "--level", "error"]);
    assert_eq!(warnings.stdout, "");
    assert_eq!(world.oriel(&["logs", "-n", "1"]).stdout.lines().count(), 1);

    let mut follower = world.command(&["logs", "-f", "-n", "0"]);
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(follower.stdout.take().unwrap());
    // It follows once it has said a line that came after it began.
    let told = std::thread::spawn(move || {
        use std::io::BufRead as _;
        let mut line = String::new();
        while !line.contains("configuration") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0);
        }
    });
    while !told.is_finished() {
        service.signal(Signal::HUP);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    told.join().unwrap();
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn its_token_is_not_for_the_command_of_a_run() {
    let world = World::new();
    let run = world
        .command(&["run", "--no-capture", "--", "env"])
        .env("ORIEL_ADMIN_TOKEN", "hush")
        .output()
        .unwrap();
    let variables = String::from_utf8(run.stdout).unwrap();
    assert!(variables.contains("HTTPS_PROXY="));
    assert!(!variables.contains("hush") && !variables.contains("control.sock"));
}

/// A service, and the socket on which a service manager is told of it.
fn managed(world: &World, variables: &[(&str, &str)]) -> (UnixDatagram, Service) {
    let path = world.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut command = world.serve_command(&["--admin", "off"]);
    command
        .env("NOTIFY_SOCKET", &path)
        .envs(variables.iter().copied());
    (manager, Service::start(command))
}

fn told(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let length = manager.recv(&mut bytes).unwrap();
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

#[test]
fn a_service_manager_is_told_how_it_goes() {
    let world = World::new();
    let (manager, mut service) = managed(&world, &[]);
    assert_eq!(told(&manager), "READY=1");
    // The same service that `oriel status` shows.
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["pid"], service.child.id());
    assert!(status["log"].is_null());
    send(&service.child, Signal::HUP);
    assert!(told(&manager).starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(told(&manager), "READY=1");
    assert_eq!(service.stop(), Some(0));
    assert_eq!(told(&manager), "STOPPING=1");
    assert_eq!(status_code(&world), Some(3));
}

#[test]
fn the_watchdog_of_a_service_manager_is_fed() {
    let world = World::new();
    let (manager, _service) = managed(&world, &[("WATCHDOG_USEC", "100000")]);
    let lines: Vec<String> = (0..4).map(|_| told(&manager)).collect();
    assert!(lines.contains(&"READY=1".to_owned()), "{lines:?}");
    assert!(lines.contains(&"WATCHDOG=1".to_owned()), "{lines:?}");
}

/// Answers with a body that comes in pieces, until the last of which it waits for a word.
fn slow_upstream(word: Receiver<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        assert_ne!(stream.read(&mut head).unwrap(), 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            .unwrap();
        word.recv().unwrap();
        stream.write_all(b"-last").unwrap();
    });
    address
}

fn curl(proxy: SocketAddr, url: &str) -> Command {
    let mut command = Command::new("curl");
    command
        .args([
            "-sS",
            "--noproxy",
            "",
            "-x",
            &format!("http://{proxy}"),
            url,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A download through a service that has begun, and goes on after a word.
struct Download {
    curl: Child,
    body: ChildStdout,
    word: Sender<()>,
}

impl Download {
    fn begin(proxy: SocketAddr) -> Self {
        let (word, heard) = mpsc::channel();
        let url = format!("http://{}/slow", slow_upstream(heard));
        let mut curl = curl(proxy, &url).arg("-N").spawn().unwrap();
        let mut body = curl.stdout.take().unwrap();
        let mut began = [0; 5];
        body.read_exact(&mut began).unwrap();
        assert_eq!(&began, b"first");
        Self { curl, body, word }
    }

    /// What still comes, and how curl ends.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = String::new();
        self.body.read_to_string(&mut rest).unwrap();
        (rest, self.curl.wait().unwrap().code())
    }
}

#[test]
fn a_restart_cuts_nothing_and_refuses_nobody() {
    let world = World::new();
    let service = Background::start(&world, &[]);
    let download = Download::begin(service.proxy());

    // Meanwhile others come and go.
    let upstream = format!("http://{}/", answering(HELLO));
    let done = std::sync::atomic::AtomicBool::new(false);
    let proxy = service.proxy();
    let served = std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut served = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let output = curl(proxy, &upstream).output().unwrap();
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                assert_eq!(output.stdout, b"hello\n", "{told}");
                served += 1;
            }
            served
        });
        let restarted = world.oriel(&["restart", "--json"]);
        let again = world.oriel(&["restart", "--json"]);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let served: u64 = others.join().unwrap();
        let told: Value = serde_json::from_str(&restarted.stdout).expect(&restarted.stderr);
        assert_ne!(told["pid"], service.pid());
        assert_eq!(told["listeners"], service.status["listeners"]);
        assert_ne!(told["session"], service.status["session"]);
        let again: Value = serde_json::from_str(&again.stdout).expect(&again.stderr);
        assert_ne!(again["pid"], told["pid"]);
        assert_eq!(world.json(&["status", "--json"])["pid"], again["pid"]);
        served
    });
    assert!(served > 0);

    download.word.send(()).unwrap();
    assert_eq!(download.end(), ("-last".to_owned(), Some(0)));
    world.oriel(&["stop"]).succeeded();
    assert_eq!(status_code(&world), Some(3));
    let flows = world.json(&["flows", "--json", "state:completed", "-n", "1"]);
    assert_eq!(flows["total"], served + 1);
}

#[test]
fn a_stop_ends_what_a_restart_left() {
    let world = World::new();
    let service = Background::start(&world, &[]);
    let download = Download::begin(service.proxy());
    world.oriel(&["restart"]).succeeded();
    // It is in the process that was replaced, which nobody waits for any more.
    world.oriel(&["stop", "--now"]).succeeded();
    let (rest, code) = download.end();
    assert_eq!(rest, "");
    assert_ne!(code, Some(0));
}

#[test]
fn a_restart_that_fails_leaves_the_service_as_it_was() {
    let world = World::new();
    let missing = world.oriel(&["restart", "--json"]);
    assert_eq!(missing.code, Some(3));
    assert_eq!(missing.error()["code"], "ORL0905");
    let service = Background::start(&world, &[]);
    let config = world.file(".config/oriel/config.toml", "[proxy]\nlistn = 1\n");
    let refused = world.oriel(&["restart", "--json"]);
    assert_eq!(refused.code, Some(2));
    assert_eq!(refused.error()["code"], "ORL0402", "{}", refused.stderr);
    assert_eq!(world.json(&["status", "--json"])["pid"], service.pid());
    ask(service.proxy(), answering(HELLO), 1);
    std::fs::remove_file(config).unwrap();
    world.oriel(&["restart"]).succeeded();
}

#[test]
fn one_in_the_foreground_is_not_replaced() {
    let world = World::new();
    let service = world.serve(&["--admin", "off"]);
    let refused = world.oriel(&["restart", "--json"]);
    assert_eq!(refused.code, Some(6));
    assert_eq!(refused.error()["code"], "ORL0904");
    assert_eq!(world.json(&["status", "--json"])["pid"], service.child.id());
}

#[test]
fn a_service_manager_is_told_who_took_over() {
    let world = World::new();
    let (manager, mut service) = managed(&world, &[]);
    assert_eq!(told(&manager), "READY=1");
    let restarted = world.oriel(&["restart", "--json"]);
    let status: Value = serde_json::from_str(&restarted.stdout).expect(&restarted.stderr);
    let pid = status["pid"].as_u64().unwrap();
    assert_eq!(told(&manager), format!("MAINPID={pid}\nREADY=1"));
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    world.oriel(&["stop"]).succeeded();
    assert_eq!(told(&manager), "STOPPING=1");
}

#[test]
fn a_socket_that_a_service_manager_opened_is_used() {
    let world = World::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A client may come before the service does.
    let mut early = TcpStream::connect(address).unwrap();
    write!(
        early,
        "GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n",
        answering(HELLO)
    )
    .unwrap();
    // The shell puts the socket at descriptor 3, as systemd does.
    let mut command = world.command(&[]);
    let program = command.get_program().to_owned();
    command = {
        let mut shell = Command::new("sh");
        shell
            .env_clear()
            .env("HOME", world.path(""))
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("LISTEN_FDS", "1")
            .current_dir(world.path(""))
            .args(["-c", "LISTEN_PID=$$ exec \"$@\" 3<&0 0</dev/null", "sh"])
            .arg(program)
            .args([
                "serve",
                "--log-format",
                "json",
                "--admin",
                "off",
                "--listen",
            ])
            .arg(address.to_string())
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)));
        shell
    };
    let mut service = Service::start(command);
    assert_eq!(service.proxy, address);
    let mut answer = vec![0; 12];
    early.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    assert_eq!(service.stop(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_unit_for_systemd_is_written_that_it_takes() {
    let world = World::new();
    let _service = Background::start(&world, &["--enable"]);
    let unit = world.path(".config/systemd/user/oriel.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    assert!(text.contains("Type=notify\n"), "{text}");
    assert!(text.contains("\"serve\" \"--json\" \"--listen\""), "{text}");
    assert!(!text.contains("--enable"));
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--user", "--man=no"])
        .arg(&unit)
        .output();
    // Containers have no systemd; where there is one, it is asked.
    if let Ok(verify) = verify {
        let told = String::from_utf8_lossy(&verify.stderr).into_owned();
        assert!(!told.contains("oriel.service"), "{told}");
    }
}
