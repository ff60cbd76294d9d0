//! Taking turns, and the file of a Unix-domain socket from its making to its end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;

fn tcp() -> ListenAddress {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()
}

async fn on(path: &Path) -> Result<Listening, io::ErrorKind> {
    let address = ListenAddress::Unix(path.to_owned());
    Listening::bind([&address].into_iter(), Vec::new())
        .await
        .map_err(|(_, error)| error.kind())
}

/// A folder and a path for a socket in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oriel.sock");
    (folder, path)
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn every_listener_is_taken_from() {
    let (_folder, path) = place();
    let asked = [tcp(), ListenAddress::Unix(path.clone()), tcp()];
    let mut listening = Listening::bind(asked.iter(), Vec::new()).await.unwrap();
    let bound: Vec<ListenAddress> = listening.addresses().cloned().collect();
    let first = std::net::TcpStream::connect(bound[0].tcp().unwrap()).unwrap();
    let _second = std::net::TcpStream::connect(bound[0].tcp().unwrap()).unwrap();
    let _third = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let _fourth = std::net::TcpStream::connect(bound[2].tcp().unwrap()).unwrap();

    let accepted = listening.accept().await;
    assert_eq!(accepted.proxy_address, bound[0]);
    assert_eq!(accepted.client_address, first.local_addr().unwrap().into());
    // Another connection waits at the first, but the others have their turn before it.
    let accepted = listening.accept().await;
    assert_eq!(accepted.proxy_address, bound[1]);
    let ClientAddress::Unix(peer) = accepted.client_address else {
        panic!("{:?}", accepted.client_address);
    };
    assert_eq!(peer.pid, Some(std::process::id()));
    assert_eq!(peer.uid, rustix::process::getuid().as_raw());
    assert_eq!(listening.accept().await.proxy_address, bound[2]);
    assert_eq!(listening.accept().await.proxy_address, bound[0]);
}

#[tokio::test]
async fn the_file_of_a_socket_is_its_owners_and_goes_with_it() {
    let (folder, path) = place();
    let listening = on(&path).await.unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(files(folder.path()), 1, "nothing else is left");
    drop(listening);
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn what_nobody_listens_on_is_replaced() {
    let (folder, path) = place();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut listening = on(&path).await.unwrap();
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    listening.accept().await;
    assert_eq!(files(folder.path()), 1);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let (_folder, path) = place();
    let listening = on(&path).await.unwrap();
    assert_eq!(on(&path).await.unwrap_err(), io::ErrorKind::AddrInUse);
    assert!(path.exists());

    // Somebody took the name over: it is theirs to remove.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();
    assert_eq!(on(&path).await.unwrap_err(), io::ErrorKind::AlreadyExists);
    drop(listening);
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");

    let nowhere = path.with_file_name("missing").join("oriel.sock");
    assert_eq!(on(&nowhere).await.unwrap_err(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn what_is_handed_on_goes_on_listening() {
    let (_folder, path) = place();
    let asked = [tcp(), ListenAddress::Unix(path.clone()), tcp()];
    let before = Listening::bind(asked.iter(), Vec::new()).await.unwrap();
    let bound: Vec<ListenAddress> = before.addresses().cloned().collect();
    let sockets = before.sockets();
    let mut handed = sockets.duplicate().unwrap();
    // Their order means nothing but among those of one address.
    handed.rotate_left(1);
    handed.swap(0, 1);
    let mut after = Listening::bind(asked.iter(), handed).await.unwrap();
    let mut ports: Vec<_> = after.addresses().cloned().collect();
    ports.sort_by_key(|address| address.tcp());
    let mut expected = bound.clone();
    expected.sort_by_key(|address| address.tcp());
    assert_eq!(ports, expected);

    // It waits in the one queue that both have.
    let _waiting = std::net::TcpStream::connect(bound[0].tcp().unwrap()).unwrap();
    sockets.leave_files();
    drop(before);
    assert!(sockets.duplicate().unwrap().is_empty());
    assert_eq!(after.accept().await.proxy_address, bound[0]);
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    assert_eq!(after.accept().await.proxy_address, bound[1]);
    drop(after);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_is_handed_for_nobody_is_closed() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let handed = vec![ListeningSocket::tcp(address, socket)];
    let asked = tcp();
    let _listening = Listening::bind([&asked].into_iter(), handed).await.unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}
