//! A running service starts the process that takes its place: the same program, as it is on disk by
//! now, with the same words and variables. It goes once that one serves, and stays if it does not.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use proxy::Control;
use serde_json::Value;

use super::control::ControlSocket;
use super::handover::{Handed, Other, Word, give};
use super::lock::ServiceLock;
use crate::admin::Admin;
use crate::exit::Exit;
use crate::limits::START_TIMEOUT;
use crate::problem::Problem;

/// The flag that tells a process to take the place of who started it.
const TAKE_OVER: &str = "--take-over";

/// How this process was started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    program: PathBuf,
    words: Vec<OsString>,
}

/// What is handed on.
#[derive(Debug)]
pub(crate) struct Succession {
    pub(crate) launch: Launch,
    pub(crate) engine: Control,
    pub(crate) admin: Option<Arc<Admin>>,
    pub(crate) control: Arc<ControlSocket>,
    /// Nobody's once it was handed on.
    pub(crate) lock: Mutex<Option<ServiceLock>>,
}

/// The process that took our place.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) pid: u32,
    pub(crate) status: Value,
    pub(crate) end: Other,
}

impl Launch {
    /// As of now: the program may be replaced by a newer one later, and is then found by its path.
    pub(crate) fn of_process() -> io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            words: std::env::args_os()
                .skip(1)
                .filter(|word| word != TAKE_OVER)
                .collect(),
        })
    }
}

impl Succession {
    /// Starts the process that follows and waits until it serves. It blocks for as long as that takes.
    pub(crate) fn begin(&self) -> Result<Successor, Problem> {
        let lock = self.lock.try_lock().ok_or_else(busy)?;
        let lock = lock.as_ref().ok_or_else(busy)?;
        self.start(lock).map_err(|error| {
            let what = "the process that follows did not serve; this one goes on";
            let problem = Problem::new("ORL0903", Exit::Internal, what);
            match error {
                Failed::Said(problem) => Problem::of_json(&problem).unwrap_or_else(|| {
                    Problem::bug("the process that follows failed without a reason")
                }),
                Failed::Io(error) => problem
                    .why(match error.kind() {
                        io::ErrorKind::UnexpectedEof => "it ended".to_owned(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                            format!("it said nothing for {} s", START_TIMEOUT.as_secs())
                        }
                        _ => error.to_string(),
                    })
                    .fix("oriel logs"),
            }
        })
    }

    fn start(&self, lock: &ServiceLock) -> Result<Successor, Failed> {
        let engine = self.engine.sockets()?;
        let mut handed = vec![
            (Handed::Lock, lock.as_fd()),
            (Handed::Control, self.control.as_fd()),
        ];
        if let Some(admin) = &self.admin {
            let address = admin.asked();
            handed.push((Handed::Admin { address }, admin.as_fd()));
        }
        handed.extend(
            engine
                .iter()
                .map(|socket| (Handed::of(socket), socket.as_fd())),
        );
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(START_TIMEOUT))?;
        ours.set_write_timeout(Some(START_TIMEOUT))?;
        let mut child = Command::new(&self.launch.program)
            .args(&self.launch.words)
            .arg(TAKE_OVER)
            // It is about this process.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        let end = Other::new(ours);
        let word = match give(end.stream(), &handed) {
            // It ended before it took anything, and may have said why.
            Err(error) if is_gone(&error) => end.hear().map_err(|_unsaid| error),
            given => given.and_then(|()| end.hear()),
        };
        match word {
            Ok(Word::Serves(status)) => Ok(Successor {
                pid: child.id(),
                status,
                end,
            }),
            failed => {
                // It may have ended already; otherwise it would serve beside us later.
                let _ended = child.kill();
                let _ended = child.wait();
                match failed {
                    Ok(Word::Failed(problem)) => Err(Failed::Said(problem)),
                    Ok(Word::Serves(_)) => Err(Failed::Io(io::ErrorKind::UnexpectedEof.into())),
                    Err(error) => Err(Failed::Io(error)),
                }
            }
        }
    }

    /// The place is ours: the process before us lets go of it when it hears that we serve.
    pub(crate) fn assume_office(&self) -> io::Result<()> {
        self.control.own_file();
        match self.lock.lock().as_mut() {
            Some(lock) => lock.name_us(),
            None => Ok(()),
        }
    }

    /// The place is not ours any more.
    pub(crate) fn let_go(&self) {
        self.engine.leave_socket_files();
        self.control.leave_file();
        *self.lock.lock() = None;
    }

    /// Whether it is another's by now.
    pub(crate) fn has_let_go(&self) -> bool {
        // It is locked while the next process begins.
        self.lock.try_lock().is_some_and(|lock| lock.is_none())
    }
}

enum Failed {
    /// The process that follows said why.
    Said(Value),
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether nobody is there to take what is given.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn busy() -> Problem {
    Problem::new(
        "ORL0904",
        Exit::Busy,
        "the service is being restarted already",
    )
    .fix("oriel status")
}
