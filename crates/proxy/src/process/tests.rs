//! Real processes that connect to real listeners.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Child, ChildStdin, Command, Stdio};

use tempfile::TempDir;

use traffic::ProcessInfo;

use super::*;

/// A process that holds connections until it is dropped.
struct Client {
    child: Child,
    /// Each line makes it open one more connection.
    orders: ChildStdin,
}

impl Client {
    /// A Python program that connects to the address on standard input, again for each line; or turns to
    /// another program.
    fn start() -> Self {
        let program = "import os, socket, sys\n\
             held = []\n\
             orders = open(0, 'rb', buffering=0, closefd=False)\n\
             for line in iter(orders.readline, b''):\n    \
                 if line == b'another program\\n':\n        \
                     arguments = [sys.executable, '-c', sys.orig_argv[2], 'another']\n        \
                     os.execv(sys.executable, arguments)\n    \
                 host, port = line.decode().split()\n    \
                 family = socket.AF_INET6 if ':' in host else socket.AF_INET\n    \
                 held.append(socket.socket(family))\n    \
                 held[-1].connect((host, int(port)))\n";
        let mut child = Command::new("python3")
            .args(["-c", program, "--token", "hunter2"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        Self { child, orders }
    }

    fn connect(&mut self, listener: &TcpListener, host: &str) -> TcpStream {
        let port = listener.local_addr().unwrap().port();
        writeln!(self.orders, "{host} {port}").unwrap();
        listener.accept().unwrap().0
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

fn lookup(attribution: &Attribution, stream: &TcpStream) -> ProcessAnswer {
    attribution.lookup(stream.peer_addr().unwrap(), stream.local_addr().unwrap())
}

#[test]
fn finds_a_client_over_each_kind_of_address() {
    let attribution = Attribution::new();
    for (listen, connect) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("[::1]:0", "::1"),
        // A listener for both sees IPv4 in IPv6 form, and a client may use such an address.
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "::ffff:127.0.0.1"),
        ("127.0.0.1:0", "::ffff:127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.3"),
    ] {
        let listener = TcpListener::bind(listen).unwrap();
        let mut client = Client::start();
        let stream = client.connect(&listener, connect);
        let info = lookup(&attribution, &stream).unwrap();
        assert_eq!(info.pid, client.pid(), "{listen} {connect}");
        assert_eq!(info.parent_pid, Some(std::process::id()));
    }
}

#[test]
fn says_what_is_to_be_known_of_a_process() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::start();
    let stream = client.connect(&listener, "127.0.0.1");
    let info = lookup(&Attribution::new(), &stream).unwrap();

    assert!(info.exe_name.starts_with("python3"), "{}", info.exe_name);
    let path = info.exe_path.clone().unwrap();
    assert!(path.ends_with(&format!("/{}", info.exe_name)), "{path}");
    assert_eq!(info.uid, Some(rustix::process::getuid().as_raw()));
    assert_eq!(info.bundle_id, None);

    let arguments = info.command_line.reveal();
    assert!(!info.command_line_cut);
    assert_eq!(arguments[arguments.len() - 2..], ["--token", "hunter2"]);
    assert!(!format!("{info:?}").contains("hunter2"));
    let masked = info.masked_command_line(traffic::rules::redact::Redaction::Basic);
    assert!(!masked.concat().contains("hunter2"), "{masked:?}");

    let own = std::env::current_exe().unwrap();
    let own = own.file_name().unwrap().to_str().unwrap();
    assert_eq!(info.ancestors[0].pid, std::process::id());
    assert_eq!(info.ancestors[0].exe_name, own);
    assert_eq!(info.ancestors.last().unwrap().pid, 1);

    let age = crate::clock::now().micros_since(info.started_at.unwrap());
    assert!((-100_000..60_000_000).contains(&age), "{age}");
}

#[test]
fn a_process_that_turned_to_another_program_is_read_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let attribution = Attribution::new();
    let mut client = Client::start();
    let first = client.connect(&listener, "127.0.0.1");
    let before = lookup(&attribution, &first).unwrap();
    let at_once = |stream: &TcpStream| {
        let (client, proxy) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
        attribution.lookup_at_once(ClientEnd::Tcp { client, proxy })
    };
    let same = client.connect(&listener, "127.0.0.1");
    assert_eq!(at_once(&same), Ok(Ok(Arc::clone(&before))));
    writeln!(client.orders, "another program").unwrap();
    let second = client.connect(&listener, "127.0.0.1");
    assert!(at_once(&second).is_err(), "it is to be read anew");
    let after = lookup(&attribution, &second).unwrap();

    assert_eq!(
        (after.pid, after.started_at),
        (before.pid, before.started_at)
    );
    let last = |info: &ProcessInfo| info.command_line.reveal().last().cloned();
    assert_eq!(last(&before).as_deref(), Some("hunter2"));
    assert_eq!(last(&after).as_deref(), Some("another"));
}

#[test]
fn finds_curl_behind_a_shell() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut shell = Command::new("sh")
        .args(["-c", "curl -s \"$0\"; true", &url])
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let info = lookup(&Attribution::new(), &stream).unwrap();
    assert_eq!(info.exe_name, "curl");
    assert_eq!(info.parent_pid, Some(shell.id()));
    assert_eq!(info.command_line.reveal()[1..], ["-s", &url]);
    drop(stream);
    shell.wait().unwrap();
}

#[test]
fn finds_a_connection_on_standard_input() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let mut child = Command::new("cat")
        .stdin(std::os::fd::OwnedFd::from(near))
        .spawn()
        .unwrap();
    let attribution = Attribution::new();
    for _ in ["searched", "known"] {
        let info = lookup(&attribution, &far).unwrap();
        assert_eq!((info.pid, info.exe_name.as_str()), (child.id(), "cat"));
    }
    drop(far);
    child.wait().unwrap();
}

#[test]
fn a_client_that_is_gone_is_an_error() {
    let attribution = Attribution::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::start();
    let stream = client.connect(&listener, "127.0.0.1");
    drop(client);
    assert_eq!(lookup(&attribution, &stream), Err(AttributionError::Gone));
    drop(stream);

    // A listener on the port of the client is not the client.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = (other.local_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(
        attribution.lookup(pair.0, pair.1),
        Err(AttributionError::Gone)
    );
}

#[test]
fn who_is_elsewhere_is_not_looked_up() {
    let attribution = Attribution::new();
    for client in [
        "192.0.2.7:4711",
        "[2001:db8::1]:4711",
        "[::ffff:192.0.2.7]:4711",
    ] {
        let found = attribution.lookup(client.parse().unwrap(), "192.0.2.1:8080".parse().unwrap());
        assert_eq!(found, Err(AttributionError::NotLocal), "{client}");
    }
}

#[test]
fn a_client_on_an_address_of_this_machine_is_local() {
    // No packet is sent: a socket for datagrams only learns its own address.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let Ok(()) = probe.connect("192.0.2.1:9") else {
        return;
    };
    let own: IpAddr = probe.local_addr().unwrap().ip();
    let listener = TcpListener::bind((own, 0)).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let info = lookup(&Attribution::new(), &far).unwrap();
    assert_eq!(info.pid, std::process::id());
    drop(near);
}

#[test]
fn finds_the_peer_of_a_unix_socket() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut child = Command::new("python3")
        .args([
            "-c",
            "import socket, sys\n\
             held = socket.socket(socket.AF_UNIX)\n\
             held.connect(sys.argv[1])\n\
             held.recv(1)\n",
        ])
        .arg(&path)
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let peer = rustix::net::sockopt::socket_peercred(&stream).unwrap();
    let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap();
    let uid = peer.uid.as_raw();

    let attribution = Attribution::new();
    let info = attribution.lookup_peer(pid, uid).unwrap();
    assert_eq!(info.pid, child.id());
    assert!(info.exe_name.starts_with("python3"), "{}", info.exe_name);
    // The number is another user's by now.
    let other = attribution.lookup_peer(pid, uid + 1);
    assert_eq!(other, Err(AttributionError::Gone));
    // A peer whose number means nothing here.
    let foreign = attribution.lookup_peer(0, uid);
    assert_eq!(foreign, Err(AttributionError::NotLocal));

    drop(stream);
    child.wait().unwrap();
    let ended = attribution.lookup_peer(pid, uid);
    assert_eq!(ended, Err(AttributionError::Gone));
}

#[tokio::test]
async fn many_askers_cause_one_lookup() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let process = ConnectionProcess::of_tcp(
        Arc::new(Attribution::new()),
        far.peer_addr().unwrap(),
        far.local_addr().unwrap(),
    )
    .within(PROCESS_LOOKUP * 100);
    assert_eq!(process.answer(), None);
    // One who asks and goes away, mostly before there is an answer, takes nothing from the others.
    drop(process.find().now_or_never());
    let (first, second) = tokio::join!(process.find(), process.find());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.pid, std::process::id());
    assert!(Arc::ptr_eq(&first, &second));
    // The answer is kept, and not looked for again: there is nothing to be found any more.
    drop(near);
    assert!(Arc::ptr_eq(&first, &process.find().await.unwrap()));
    assert!(Arc::ptr_eq(&first, &process.answer().unwrap().unwrap()));
}

#[tokio::test]
async fn a_known_client_waits_for_no_other_lookup() {
    let attribution = Arc::new(Attribution::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let process = || {
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let (client, proxy) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
        let process = ConnectionProcess::of_tcp(Arc::clone(&attribution), client, proxy);
        (process, near, far)
    };
    let (first, _near, _far) = process();
    let searched = first.find().await.unwrap();
    let permits = u32::try_from(PROCESS_LOOKUPS_MAX).unwrap();
    let _busy = attribution.running.acquire_many(permits).await.unwrap();
    let (second, _near, _far) = process();
    for _ in ["looked up", "kept"] {
        let found = second.find().now_or_never().unwrap().unwrap();
        assert!(Arc::ptr_eq(&searched, &found));
    }
    assert!(Arc::ptr_eq(&searched, &second.answer().unwrap().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_is_given_up_after_the_time_that_was_said() {
    let attribution = Arc::new(Attribution::new());
    let permits = u32::try_from(PROCESS_LOOKUPS_MAX).unwrap();
    let _busy = attribution.running.acquire_many(permits).await.unwrap();
    let (client, proxy) = (
        SocketAddr::from(([127, 0, 0, 1], 1)),
        SocketAddr::from(([127, 0, 0, 1], 2)),
    );
    for limit in [PROCESS_LOOKUP / 10, PROCESS_LOOKUP * 10] {
        let attribution = Arc::clone(&attribution);
        let process = ConnectionProcess::of_tcp(attribution, client, proxy).within(limit);
        let begun = Instant::now();
        assert_eq!(process.find().await, Err(AttributionError::TimedOut));
        assert_eq!(begun.elapsed().as_millis(), limit.as_millis());
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_for_other_lookups_has_an_end() {
    let attribution = Arc::new(Attribution::new());
    let _others = attribution
        .running
        .acquire_many(u32::try_from(PROCESS_LOOKUPS_MAX).unwrap())
        .await
        .unwrap();
    let addresses = ["127.0.0.1:1", "127.0.0.1:2"].map(|text| text.parse().unwrap());
    let process = ConnectionProcess::of_tcp(Arc::clone(&attribution), addresses[0], addresses[1]);
    assert_eq!(process.find().await, Err(AttributionError::TimedOut));
}

/// Processes that do nothing, until it is dropped.
struct Sleepers(Child);

impl Sleepers {
    fn start(count: usize) -> Self {
        let program = "import os, sys\n\
             for _ in range(int(sys.argv[1])):\n    \
                 if os.fork() == 0:\n        \
                     os.read(0, 1)\n        \
                     os._exit(0)\n\
             print('ready', flush=True)\n\
             os.read(0, 1)\n";
        let mut child = Command::new("python3")
            .args(["-c", program, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self(child)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        // All of them read from the one pipe whose other end is closed with this.
        drop(self.0.stdin.take());
        let _status = self.0.wait();
    }
}

/// Time that this thread has spent on a processor: what others do meanwhile is not in it.
fn micros_on_processor() -> u128 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos: u128 = text.split(' ').next().unwrap().parse().unwrap();
    nanos / 1000
}

/// The figures for 2,000 processes and sockets come from this test with larger numbers.
#[test]
fn many_processes_do_not_make_it_slow() {
    const PROCESSES: usize = 300;
    const SOCKETS: usize = 300;
    const ROUNDS: usize = 200;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // The youngest are looked at first, so that all sleepers are.
    let mut client = Client::start();
    let held: Vec<_> = (0..SOCKETS)
        .map(|_| client.connect(&listener, "127.0.0.1"))
        .collect();
    let sleepers = Sleepers::start(PROCESSES);
    let measure = |name: &str, attribution: &dyn Fn() -> Arc<Attribution>| {
        let mut on_processor = Vec::new();
        let mut in_all = Vec::new();
        for round in 0..ROUNDS {
            let attribution = attribution();
            let stream = &held[(round * 7) % SOCKETS];
            let (begin, begin_on_processor) = (Instant::now(), micros_on_processor());
            let info = lookup(&attribution, stream).unwrap();
            on_processor.push(micros_on_processor() - begin_on_processor);
            in_all.push(begin.elapsed().as_micros());
            assert_eq!(info.pid, client.pid());
        }
        for times in [&mut on_processor, &mut in_all] {
            times.sort_unstable();
        }
        let at = |times: &[u128], hundredths: usize| times[ROUNDS * hundredths / 100];
        println!(
            "{name}: p50 {} us, p99 {} us; with waiting for the processor {} us, {} us",
            at(&on_processor, 50),
            at(&on_processor, 99),
            at(&in_all, 50),
            at(&in_all, 99),
        );
        at(&on_processor, 99)
    };
    let first = measure(
        "first lookup of a process",
        &|| Arc::new(Attribution::new()),
    );
    let shared = Arc::new(Attribution::new());
    let known = measure("process known", &|| Arc::clone(&shared));
    drop(sleepers);
    assert!(first < 50_000 && known < 50_000, "{first} {known}");
}
