//! The two ways to a socket, and the memory of owners.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::limits::{
    PROCESS_DESCRIBED_AGE_MAX, PROCESS_DESCRIPTORS_AROUND, PROCESS_DESCRIPTORS_NEAR,
    PROCESS_OWNERS_MAX,
};
use proc::Kept;
use rustix::io::Errno;

fn pair(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[test]
fn the_tables_say_what_the_kernel_answers() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (near, far) = pair(address);
        let (client, proxy) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
        let sock_diag = SockDiag::default();
        let asked = sock_diag.find(client, proxy).unwrap().unwrap();
        // By the same socket.
        assert_eq!(sock_diag.find(client, proxy), Ok(Some(asked)));
        assert_eq!(sock_diag.find(proxy, proxy), Ok(None));
        assert_eq!(find_in_tables(client, proxy), Ok(asked));
        assert_ne!(asked.inode, 0);
        assert_eq!(asked.uid, rustix::process::getuid().as_raw());
        drop(near);
    }
}

#[test]
fn a_known_process_is_found_again_without_a_search() {
    let system = System::new();
    let (near, far) = pair("127.0.0.1:0");
    let (client, proxy) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
    let info = system
        .lookup(client, proxy, Seen::default(), in_a_minute())
        .unwrap();
    assert_eq!(info.pid, std::process::id());
    assert_eq!(system.owners.pids(), [info.pid]);

    // With no time left for a search only what is known can be found.
    let over = Instant::now() - Duration::from_millis(1);
    let again = system.lookup(client, proxy, Seen::default(), over).unwrap();
    assert_eq!(again, info);
    let unknown = System::new().lookup(client, proxy, Seen::default(), over);
    assert_eq!(unknown, Err(AttributionError::TimedOut));
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn what_is_found_in_place_is_what_a_search_finds() {
    let system = System::new();
    let (near, far) = pair("127.0.0.1:0");
    let (client, proxy) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
    let at_once = || system.lookup_at_once(client, proxy);
    assert_eq!(at_once(), Err(Seen(None)), "the kernel never answered");
    let socket = system.find_socket(client, proxy).unwrap();
    let seen = Seen(Some(socket));
    assert_eq!(at_once(), Err(seen), "the process is unknown");
    let searched = system.lookup(client, proxy, seen, in_a_minute()).unwrap();
    let found = at_once().unwrap().unwrap();
    assert!(Arc::ptr_eq(&searched, &found));
    tokio::time::advance(PROCESS_DESCRIBED_AGE_MAX).await;
    assert_eq!(at_once(), Err(seen), "described too long ago");
    system.lookup(client, proxy, seen, in_a_minute()).unwrap();
    assert_eq!(at_once(), Ok(Ok(searched)));
    drop(near);
    assert_ne!(at_once(), Ok(Ok(found)), "nobody holds it");
}

#[test]
fn the_next_connection_is_found_where_one_ended() {
    let system = System::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let open = || {
        let near = TcpStream::connect(proxy).unwrap();
        (near, listener.accept().unwrap().0)
    };
    let lookup = |client| system.lookup(client, proxy, Seen::default(), in_a_minute());
    let mut held = Vec::new();
    for _ in 0..200 {
        let pair = open();
        let info = lookup(pair.0.local_addr().unwrap()).unwrap();
        assert_eq!(info.pid, std::process::id());
        held.push(pair);
    }
    for place in [150, 20, 77] {
        let ended = held.remove(place).0.local_addr().unwrap();
        system.note_end(std::process::id(), ended);
        let pair = open();
        let found = system.lookup_at_once(pair.0.local_addr().unwrap(), proxy);
        assert_eq!(found.unwrap().unwrap().pid, std::process::id(), "{place}");
        held.push(pair);
    }
}

#[test]
fn nothing_is_read_of_a_process_that_ended() {
    let (near, far) = pair("127.0.0.1:0");
    let link = format!("socket:[{}]", rustix::fs::fstat(&near).unwrap().st_ino);
    let mut child = Command::new("cat")
        .stdin(std::os::fd::OwnedFd::from(near))
        .spawn()
        .unwrap();
    let process = Kept::open(child.id()).unwrap();
    assert_eq!(process.stat(), proc::stat(child.id()));
    assert!(process.descriptors.has(0, link.as_bytes()));
    drop(far);
    child.wait().unwrap();
    assert_eq!(process.stat(), None);
    assert!(!process.descriptors.has(0, link.as_bytes()));
    assert_eq!(Kept::open(child.id()).unwrap_err(), Errno::NOENT);
}

#[test]
fn a_process_that_ended_is_forgotten() {
    let owners = Owners::default();
    let (near, far) = pair("127.0.0.1:0");
    let socket = System::new()
        .find_socket(far.peer_addr().unwrap(), far.local_addr().unwrap())
        .unwrap();
    let pid = std::process::id();
    let mut child = Command::new("true").spawn().unwrap();
    owners.remember_owner(Kept::open(child.id()).unwrap());
    child.wait().unwrap();
    let found = owners.find(socket, 1, || true, in_a_minute());
    assert_eq!(found.unwrap().0.pid, pid);
    assert_eq!(owners.pids(), [pid]);
    drop(near);
}

#[test]
fn the_memory_of_owners_is_bounded() {
    let owners = Owners::default();
    for pid in 0..1000 {
        let own = Kept::open(std::process::id()).unwrap();
        owners.remember_owner(own.with_number(pid));
    }
    assert_eq!(owners.pids().len(), PROCESS_OWNERS_MAX);
    assert_eq!(owners.pids()[0], 999);
}

#[test]
fn the_descriptor_is_looked_for_around_the_latest() {
    use std::os::fd::AsRawFd;

    let pid = std::process::id();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
    let link = format!("socket:[{inode}]");
    let descriptor = u32::try_from(listener.as_raw_fd()).unwrap();
    let descriptors = proc::Descriptors::open(pid).unwrap();
    let near = |from| descriptors.find_near(from, link.as_bytes());
    let reach = PROCESS_DESCRIPTORS_NEAR;
    for from in [
        descriptor,
        descriptor - 1,
        descriptor + 1,
        descriptor + reach,
    ] {
        assert_eq!(near(from), Some(descriptor), "{from}");
    }
    assert_eq!(near(descriptor + reach + 1), None);
    let around = |from| descriptors.find_around(from, link.as_bytes());
    let wide = PROCESS_DESCRIPTORS_AROUND;
    for from in [descriptor + reach + 1, descriptor + wide] {
        assert_eq!(around(from), Some(descriptor), "{from}");
    }
    assert_eq!(around(descriptor), None, "looked at before");
    assert_eq!(around(descriptor + wide + 1), None);
    assert_eq!(near(u32::MAX), None);
    assert_eq!(
        proc::holds(pid, link.as_bytes()),
        proc::Holds::Yes(descriptor)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_read_of_a_process_is_said_again_for_a_moment() {
    let system = System::new();
    let lookup = |far: &TcpStream| {
        let (client, proxy) = (far.peer_addr().unwrap(), far.local_addr().unwrap());
        system
            .lookup(client, proxy, Seen::default(), in_a_minute())
            .unwrap()
    };
    let (first, second) = (pair("127.0.0.1:0"), pair("[::1]:0"));
    let info = lookup(&first.1);
    assert!(Arc::ptr_eq(&info, &lookup(&second.1)));
    tokio::time::advance(PROCESS_DESCRIBED_AGE_MAX).await;
    let again = lookup(&first.1);
    assert!(!Arc::ptr_eq(&info, &again));
    assert_eq!(info, again);
}

#[test]
fn a_program_is_told_from_the_one_before_it() {
    let stat = |arguments_at| {
        let start = "42 (a) R 7 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 98765";
        let between = "1 ".repeat(25);
        let text = format!("{start} {between}{arguments_at} 9");
        proc::parse_stat(text.as_bytes()).unwrap()
    };
    assert!(stat(4711).is_same_program(&stat(4711)));
    assert!(!stat(4711).is_same_program(&stat(4712)));
    // Hidden from us.
    assert!(!stat(0).is_same_program(&stat(0)));
}

#[test]
fn what_nobody_holds_any_more_is_not_searched_for() {
    let owners = Owners::default();
    let socket = ClientSocket { inode: 1, uid: 0 };
    let over = Instant::now() - Duration::from_millis(1);
    // With no time left a search is given up.
    let found = owners.find(socket, 1, || true, over);
    assert_eq!(found.unwrap_err(), AttributionError::TimedOut);
    let found = owners.find(socket, 1, || false, over);
    assert_eq!(found.unwrap_err(), AttributionError::Gone);
}
