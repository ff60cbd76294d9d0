//! A Unix-domain socket that only its owner can connect to, and the file that stands for it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use socket2::{Domain, SockAddr, Type};
use tokio::net::UnixListener;
pub(crate) use tokio::net::UnixStream;
use traffic::{ListenAddress, PeerCredentials};
use uuid::Uuid;

use super::{Handed, SocketFile, gone};

/// A socket and its file, which is removed with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    file: FileId,
    /// Whether the file outlives the socket.
    leaves_file: AtomicBool,
}

/// What a file is, whatever name it has: device and number of the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

/// A folder that nobody else can enter, beside the socket. It is removed with all it holds.
struct Nest(PathBuf);

impl UnixSocket {
    /// Listens on `path`. The file has mode 0600 from the moment on at which others can see it: it
    /// is made in a folder that they cannot enter, and gets its name there.
    ///
    /// A file of a socket that nobody listens on is replaced. Somebody who listens is an error
    /// (`AddrInUse`), and so is a file that is no socket (`AlreadyExists`).
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let nest = Nest::beside(path)?;
        remove_stale(path, &nest)?;
        let made = nest.0.join("s");
        let listener = std::os::unix::net::UnixListener::bind(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
        let file = FileId::of(&made)?;
        // Unlike a renaming it replaces nothing: somebody else may have been faster.
        fs::hard_link(&made, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::ErrorKind::AddrInUse.into(),
            _ => error,
        })?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(listener)?,
            path: path.to_owned(),
            file,
            leaves_file: AtomicBool::new(false),
        })
    }

    /// Goes on listening on a socket that was made elsewhere.
    pub(super) fn take_over(
        address: &ListenAddress,
        socket: std::os::unix::net::UnixListener,
        file: SocketFile,
    ) -> io::Result<Self> {
        let ListenAddress::Unix(path) = address else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        socket.set_nonblocking(true)?;
        Ok(Self {
            file: FileId::of(path)?,
            listener: UnixListener::from_std(socket)?,
            path: path.clone(),
            leaves_file: AtomicBool::new(file == SocketFile::Foreign),
        })
    }

    pub(super) fn duplicate(&self) -> io::Result<Handed> {
        let socket = self.listener.as_fd().try_clone_to_owned()?;
        Ok(Handed::Unix {
            socket: socket.into(),
            file: match self.leaves_file.load(Ordering::Relaxed) {
                true => SocketFile::Foreign,
                false => SocketFile::Ours,
            },
        })
    }

    pub(super) fn leave_file(&self) {
        self.leaves_file.store(true, Ordering::Relaxed);
    }

    pub(super) fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(UnixStream, PeerCredentials)>> {
        let (stream, _unnamed) = ready!(self.listener.poll_accept(cx))?;
        let peer = stream.peer_cred().map_err(gone)?;
        let peer = PeerCredentials {
            pid: peer.pid().and_then(|pid| u32::try_from(pid).ok()),
            uid: peer.uid(),
        };
        Poll::Ready(Ok((stream, peer)))
    }
}

/// Also when a proxy is dropped without having been served to its end.
impl Drop for UnixSocket {
    fn drop(&mut self) {
        let leaves_file = self.leaves_file.load(Ordering::Relaxed);
        if !leaves_file && FileId::of(&self.path).is_ok_and(|file| file == self.file) {
            // If it cannot be removed, the next one to listen there does so.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Removes the file of a socket that nobody listens on.
fn remove_stale(path: &Path, nest: &Nest) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let text = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    if is_listened_on(path)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Another process may have replaced it in the meantime. What is moved aside can be looked at
    // again, what is removed cannot.
    let aside = nest.0.join("stale");
    fs::rename(path, &aside)?;
    if FileId::of(&aside)? == FileId::from(&found) {
        return Ok(());
    }
    fs::hard_link(&aside, path)?;
    Err(io::ErrorKind::AddrInUse.into())
}

fn is_listened_on(path: &Path) -> io::Result<bool> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // One whose queue is full would not answer.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(false),
            io::ErrorKind::WouldBlock => Ok(true),
            _ => Err(error),
        },
    }
}

impl FileId {
    fn of(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self::from(&found))
    }
}

impl From<&fs::Metadata> for FileId {
    fn from(found: &fs::Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

impl Nest {
    fn beside(path: &Path) -> io::Result<Self> {
        // The path of a socket has at most 107 octets (unix(7)), which this leaves to its folder.
        let [.., a, b, c, d] = Uuid::now_v7().into_bytes();
        let random = u32::from_be_bytes([a, b, c, d]);
        let nest = path.with_file_name(format!(".{random:08x}"));
        fs::DirBuilder::new().mode(0o700).create(&nest)?;
        Ok(Self(nest))
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        // An empty folder that nobody can enter does no harm.
        let _removed = fs::remove_dir_all(&self.0);
    }
}
