//! The two ways to a socket, and the memory of owners.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::*;

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
        let asked = sock_diag::find(client, proxy).unwrap().unwrap();
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
    let info = system.lookup(client, proxy, in_a_minute()).unwrap();
    assert_eq!(info.pid, std::process::id());
    let start = proc::stat(info.pid).unwrap().start;
    let pid = info.pid;
    assert_eq!(system.owners.known(), [Owner { pid, start }]);

    // With no time left for a search only what is known can be found.
    let over = Instant::now() - Duration::from_millis(1);
    let again = system.lookup(client, proxy, over).unwrap();
    assert_eq!(again, info);
    let unknown = System::new().lookup(client, proxy, over);
    assert_eq!(unknown, Err(AttributionError::TimedOut));
    drop(near);
}

#[test]
fn a_number_used_again_is_forgotten() {
    let owners = Owners::default();
    let (near, far) = pair("127.0.0.1:0");
    let socket = find_socket(far.peer_addr().unwrap(), far.local_addr().unwrap()).unwrap();
    let pid = std::process::id();
    let start = proc::stat(pid).unwrap().start;
    owners.remember_owner(Owner {
        pid,
        start: start - 1,
    });
    let found = owners.find(socket.inode, socket.uid, in_a_minute());
    assert_eq!(found, Ok(Owner { pid, start }));
    assert_eq!(owners.known(), [Owner { pid, start }]);
    drop(near);
}

#[test]
fn the_memory_of_owners_is_bounded() {
    let owners = Owners::default();
    for pid in 0..1000 {
        owners.remember_owner(Owner { pid, start: 0 });
    }
    assert_eq!(owners.known().len(), crate::limits::PROCESS_OWNERS_MAX);
    assert_eq!(owners.known()[0].pid, 999);
}

#[test]
fn the_descriptor_is_looked_for_from_the_latest_on() {
    use std::os::fd::AsRawFd;

    let pid = std::process::id();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
    let link = format!("socket:[{inode}]");
    let descriptor = u32::try_from(listener.as_raw_fd()).unwrap();
    let near = |from| proc::holds_near(pid, from, link.as_bytes());
    assert_eq!(near(descriptor), Some(descriptor));
    assert_eq!(near(descriptor - 1), Some(descriptor));
    assert_eq!(near(descriptor + 1), None);
    assert_eq!(near(u32::MAX), None);
    assert_eq!(
        proc::holds(pid, link.as_bytes()),
        proc::Holds::Yes(descriptor)
    );
}
