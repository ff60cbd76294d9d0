//! How a service hands its place on: its lock and its sockets pass to the process that follows it
//! (SCM_RIGHTS, unix(7)), which says when it serves, or why it does not. Until then nothing changes.
//!
//! Both ends are this program, perhaps of two versions: what is not known is ignored, and closed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proxy::{ListeningSocket, SocketFile};
use rustix::io::FdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use traffic::ListenAddress;

use crate::limits::{HANDED_BYTES_MAX, HANDED_MAX};

/// What one of the descriptors is, in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Handed {
    /// The locked file of who the service is.
    Lock,
    Control,
    Admin {
        address: SocketAddr,
    },
    /// A TCP port of the engine, by the address that was asked for.
    Port {
        address: SocketAddr,
    },
    /// A Unix-domain socket of the engine.
    Socket {
        path: PathBuf,
        owns_file: bool,
    },
    #[serde(other)]
    Unknown,
}

/// What a process takes over, or was given by a service manager.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) admin: Vec<(SocketAddr, TcpListener)>,
    pub(crate) engine: Vec<ListeningSocket>,
}

/// What makes a process the service.
#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) lock: File,
    pub(crate) control: UnixListener,
}

/// What the process that follows says, a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    Serves(Value),
    Failed(Value),
}

impl Handed {
    pub(crate) fn of(socket: &ListeningSocket) -> Self {
        match socket.address() {
            ListenAddress::Tcp(address) => Self::Port { address: *address },
            ListenAddress::Unix(path) => Self::Socket {
                path: path.clone(),
                owns_file: socket.file() == Some(SocketFile::Ours),
            },
        }
    }
}

/// Hands the descriptors on.
pub(crate) fn give(to: &UnixStream, handed: &[(Handed, BorrowedFd<'_>)]) -> io::Result<()> {
    if handed.len() > HANDED_MAX {
        return Err(io::Error::other("there are too many sockets to hand on"));
    }
    let names: Vec<_> = handed.iter().map(|(name, _)| name).collect();
    let mut line = serde_json::to_vec(&names)?;
    line.push(b'\n');
    if line.len() > HANDED_BYTES_MAX {
        return Err(io::Error::other("the paths of the sockets are too long"));
    }
    let descriptors: Vec<_> = handed.iter().map(|(_, descriptor)| *descriptor).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for the descriptors"));
    }
    let sent = rustix::net::sendmsg(to, &[IoSlice::new(&line)], &mut rights, SendFlags::empty())?;
    let mut to = to;
    to.write_all(line.get(sent..).unwrap_or_default())
}

/// Takes what was handed on.
pub(crate) fn take(from: &UnixStream) -> io::Result<(Office, Sockets)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_MAX))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; HANDED_BYTES_MAX];
    let mut into = [IoSliceMut::new(&mut bytes)];
    let came = rustix::net::recvmsg(from, &mut into, &mut rights, RecvFlags::empty())?;
    let mut descriptors = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    for descriptor in &descriptors {
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC)?;
    }
    bytes.truncate(came.bytes);
    while !bytes.ends_with(b"\n") {
        if BufReader::with_capacity(1, from).read_until(b'\n', &mut bytes)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let names: Vec<Handed> = serde_json::from_slice(&bytes)?;
    if names.len() != descriptors.len() {
        return Err(io::Error::other("not every socket came"));
    }
    sort(names.into_iter().zip(descriptors))
}

fn sort(handed: impl Iterator<Item = (Handed, OwnedFd)>) -> io::Result<(Office, Sockets)> {
    let (mut lock, mut control) = (None, None);
    let mut sockets = Sockets::default();
    for (name, descriptor) in handed {
        match name {
            Handed::Lock => lock = Some(File::from(descriptor)),
            Handed::Control => control = Some(UnixListener::from(descriptor)),
            Handed::Admin { address } => sockets.admin.push((address, descriptor.into())),
            Handed::Port { address } => {
                let socket = ListeningSocket::tcp(address, descriptor.into());
                sockets.engine.push(socket);
            }
            Handed::Socket { path, owns_file } => {
                let file = match owns_file {
                    true => SocketFile::Ours,
                    false => SocketFile::Foreign,
                };
                let socket = ListeningSocket::unix(path, descriptor.into(), file);
                sockets.engine.push(socket);
            }
            Handed::Unknown => {}
        }
    }
    match (lock, control) {
        (Some(lock), Some(control)) => Ok((Office { lock, control }, sockets)),
        _ => Err(io::Error::other("neither lock nor control socket came")),
    }
}

/// The end of the process that follows, or comes before.
#[derive(Debug)]
pub(crate) struct Other {
    stream: UnixStream,
    /// Whether a word was said: there is one only.
    said: AtomicBool,
}

impl Other {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            said: AtomicBool::new(false),
        }
    }

    /// What whoever started us put in the place of stdin, which then leads nowhere.
    pub(crate) fn at_stdin() -> io::Result<Self> {
        let stream = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self::new(stream.into()))
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Has the process before us cut what is open, and waits for its end, at most this long.
    pub(crate) fn end(&self, patience: Duration) -> io::Result<()> {
        (&self.stream).write_all(b"\n")?;
        self.stream.set_read_timeout(Some(patience))?;
        (&self.stream).read(&mut [0]).map(drop)
    }

    /// Calls `end` when the process after us asks for it. Done as well when that one has ended.
    pub(crate) fn wait_until_asked(&self, end: impl FnOnce()) {
        let endless = self.stream.set_read_timeout(None);
        if endless.is_ok() && (&self.stream).read(&mut [0]).is_ok_and(|read| read > 0) {
            end();
        }
    }

    /// Says how it went, unless that was said before.
    pub(crate) fn say(&self, word: &Word) -> io::Result<()> {
        if self.said.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        (&self.stream).write_all(&line)
    }

    /// What the process that follows says; an error of kind `UnexpectedEof` if it ended instead.
    pub(crate) fn hear(&self) -> io::Result<Word> {
        let mut line = Vec::new();
        // One byte at a time, so that none is taken that comes after the line.
        BufReader::with_capacity(1, &self.stream).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let lock = File::create(folder.path().join("lock")).unwrap();
        let control = UnixListener::bind(folder.path().join("control")).unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let (one, other) = UnixStream::pair().unwrap();
        let path = folder.path().join("engine");
        let socket = UnixListener::bind(&path).unwrap();
        let handed = [
            (Handed::Lock, lock.as_fd()),
            (Handed::Port { address: any }, port.as_fd()),
            (Handed::Control, control.as_fd()),
            (Handed::Unknown, lock.as_fd()),
            (Handed::Admin { address: any }, admin.as_fd()),
            (
                Handed::Socket {
                    path: path.clone(),
                    owns_file: true,
                },
                socket.as_fd(),
            ),
        ];
        give(&one, &handed).unwrap();
        let (office, sockets) = take(&other).unwrap();
        assert_eq!(sockets.admin.len(), 1);
        assert_eq!(
            sockets.admin[0].1.local_addr().unwrap(),
            admin.local_addr().unwrap()
        );
        assert_eq!(sockets.engine.len(), 2);
        assert_eq!(sockets.engine[0].address(), &ListenAddress::Tcp(any));
        assert_eq!(sockets.engine[1].address(), &ListenAddress::Unix(path));
        assert_eq!(sockets.engine[1].file(), Some(SocketFile::Ours));
        let flags = rustix::io::fcntl_getfd(&office.lock).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        let named = office.control.local_addr().unwrap();
        assert_eq!(
            named.as_pathname(),
            Some(folder.path().join("control").as_path())
        );
    }

    #[test]
    fn half_of_it_is_refused() {
        let (one, other) = UnixStream::pair().unwrap();
        let lock = tempfile::tempfile().unwrap();
        give(&one, &[(Handed::Lock, lock.as_fd())]).unwrap();
        assert!(take(&other).is_err());
        drop(one);
        assert!(take(&other).is_err());
    }

    #[test]
    fn one_word_is_said_and_then_perhaps_that_it_is_enough() {
        let (one, other) = UnixStream::pair().unwrap();
        let (one, other) = (Other::new(one), Other::new(other));
        one.say(&Word::Serves(Value::from(1))).unwrap();
        one.say(&Word::Failed(Value::from(2))).unwrap();
        assert!(matches!(other.hear().unwrap(), Word::Serves(value) if value == 1));
        // Once it serves it has not failed; what comes now is the order to end.
        assert!(one.end(Duration::from_millis(1)).is_err());
        let mut asked = false;
        other.wait_until_asked(|| asked = true);
        assert!(asked);
        drop(one);
        let ended = other.hear().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
