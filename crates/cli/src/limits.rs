//! Every bound of the program that is no setting, with its reason.

use std::time::Duration;

/// How long the flows of a command may go on once it has ended: what it wanted it has, and the
/// summary is to stand there at once.
pub(crate) const RUN_DRAIN: Duration = Duration::from_millis(100);
/// How long the end of a run waits for the store.
pub(crate) const STORE_FLUSH: Duration = Duration::from_secs(5);
/// A signal that comes no later after the end of the child is the one that ended it: nobody presses Ctrl-C twice so
/// quickly, and the store is done by then, as a rule.
pub(crate) const SHARED_SIGNAL: Duration = Duration::from_millis(250);
/// How long a change of what programs trust waits for another one: each key store and the system's
/// own tool take some seconds.
pub(crate) const TRUST_LOCK_WAIT: Duration = Duration::from_secs(60);
/// How often it is looked whether that has ended.
pub(crate) const TRUST_LOCK_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Symbolic links that are followed on one path: as many as Linux does.
pub(crate) const LINKS_FOLLOWED_MAX: usize = 40;
/// How long a child may live after SIGTERM before it gets SIGKILL.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(5);
/// How often the child's processes are looked at; a connection that lives shorter may be missed.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// From when on they are looked at less often: what a child does past the proxy shows early.
pub(crate) const SAMPLE_OFTEN_FOR: Duration = Duration::from_secs(20);
/// How often from then on.
pub(crate) const SAMPLE_LATER_EVERY: Duration = Duration::from_secs(2);
/// Processes of one child that are looked at; a build may start thousands.
pub(crate) const PROCESSES_MAX: usize = 256;
/// Descriptors of one process that are looked at.
pub(crate) const DESCRIPTORS_MAX: usize = 1024;
/// Different connections past the proxy that are remembered.
pub(crate) const DIRECT_MAX: usize = 64;
/// Processes that trust something else than they were told to, of which that is remembered.
pub(crate) const OVERRIDDEN_MAX: usize = 64;
/// Characters of such a variable that are shown: a path is shorter.
pub(crate) const VARIABLE_SHOWN_MAX: usize = 300;
/// What is read of the environment of a process.
pub(crate) const VARIABLES_BYTES_MAX: u64 = 256 * 1024;
/// How long a program that is asked for its version may take to answer.
pub(crate) const VERSION_TIMEOUT: Duration = Duration::from_millis(500);
/// The largest head of an admin request.
pub(crate) const ADMIN_HEAD_BYTES_MAX: usize = 8 * 1024;
/// How long an admin request and its answer may take.
pub(crate) const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Admin requests that are answered at a time.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 16;
/// How often a follower asks for new flows.
pub(crate) const FOLLOW_EVERY: Duration = Duration::from_millis(100);
/// Bytes of a body that are decoded for showing it.
pub(crate) const DECODED_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a body that are shown unless everything is asked for.
pub(crate) const SHOWN_BYTES_MAX: usize = 64 * 1024;
/// The largest file of users: some hundred thousand of them.
pub(crate) const USERS_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The largest file with a token: those that carry claims have some kilobytes.
pub(crate) const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// How long a URL that is asked about a token may take: less than the engine waits for it.
pub(crate) const TOKEN_ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How often a service looks whether a file of its configuration changed: soon enough for who
/// saved one, and a handful of `stat` calls.
pub(crate) const CONFIG_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Days that the authority of one run is valid: longer than any run, and soon over for who kept its
/// certificate.
pub(crate) const SESSION_AUTHORITY_DAYS: u32 = 30;
/// How long one tool may take for one request of `oriel doctor`: a Java virtual machine compiles its
/// program first, and a busy machine takes its time.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(25);
/// How long `oriel doctor` waits for the version of a tool.
pub(crate) const PROBE_VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the engine may take to tell how a flow ended once the tool is gone.
pub(crate) const PROBE_SETTLE: Duration = Duration::from_millis(500);
/// How long `oriel doctor` waits for an event or a message that went over loopback.
pub(crate) const STREAM_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes kept of what a tool says on each of its streams; the reason is in its last lines, and some
/// say a lot before.
pub(crate) const PROBE_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Characters of a tool's last words that are shown.
pub(crate) const PROBE_WORDS_MAX: usize = 200;
/// Tools that are tried at a time: each keeps a core busy while it starts.
pub(crate) const PROBES_AT_ONCE: usize = 4;
/// How long an upstream proxy on this machine may take to accept a connection.
pub(crate) const PROXY_REACH_TIMEOUT: Duration = Duration::from_secs(1);
/// Days before its end from which on a certificate is warned about.
pub(crate) const EXPIRES_SOON_DAYS: i64 = 30;
/// Less free space than this is warned about: some days of an agent's bodies.
pub(crate) const FREE_BYTES_WARN: u64 = 1024 * 1024 * 1024;
/// Less free space than this fails: SQLite needs room to write its journal.
pub(crate) const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// How often the lock of the service is looked at by who waits for its end: each look is a system
/// call, and nobody notices less.
pub(crate) const LOCK_LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often an order is given to a service that hands its place on.
pub(crate) const ORDER_TRIES_MAX: u32 = 5;
/// How long a lock may be held by somebody who only asks whether it is: some microseconds, and a busy
/// machine takes its time.
pub(crate) const LOCK_PATIENCE: Duration = Duration::from_millis(250);
/// How long a service may take until it serves: it opens the database, which may have to be brought
/// to this version first.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a service may take to say how it is.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a service that has drained may take to store what is queued, before it is killed.
pub(crate) const STOP_FLUSH: Duration = Duration::from_secs(15);
/// Reports of panics that one process writes: the first ones say what is wrong.
pub(crate) const CRASH_REPORTS_MAX: usize = 5;
/// Bytes of what a panic says that a report has: some hold what was captured.
pub(crate) const CRASH_WORDS_BYTES_MAX: usize = 512;
/// The largest answer of the service to a command.
pub(crate) const ANSWER_BYTES_MAX: u64 = 1024 * 1024;
/// The largest log file: days of a busy service.
pub(crate) const LOG_FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Log files that are kept, the one that is written to included.
pub(crate) const LOG_FILES_MAX: usize = 5;
/// Flows of a file that is imported which are stored at a time: more would keep others that write waiting.
pub(crate) const IMPORT_BATCH_FLOWS_MAX: usize = 500;
/// Bytes of them.
pub(crate) const IMPORT_BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Flows of a file that are named when they cannot be imported; the others are counted.
pub(crate) const LEFT_OUT_TOLD_MAX: u64 = 20;
/// Sockets that are handed on by a service: the kernel takes 253 descriptors in one message
/// (`SCM_MAX_FD`).
pub(crate) const HANDED_MAX: usize = 253;
/// Bytes of their names: paths of sockets have at most 107 octets.
pub(crate) const HANDED_BYTES_MAX: usize = 64 * 1024;
/// How long what is open may go on in a service that was replaced: an answer of a model takes minutes,
/// and nobody waits for the process.
pub(crate) const RESTART_DRAIN: Duration = Duration::from_secs(60 * 60);
/// How often a running service removes what is old. Each time all flows are looked at, half a second for
/// a million.
pub(crate) const RETENTION_EVERY: Duration = Duration::from_secs(15 * 60);
/// How long traffic waits for room in the record with `database.overflow = "block"`, each batch of what
/// is seen by itself: long enough for a database that is looked after, and no client waits for ever.
pub(crate) const OVERFLOW_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the end of oriel waits for what is left to be copied to the archive: some ten thousand
/// flows. What does not go in time goes with the next oriel on the same file.
pub(crate) const ARCHIVE_STOP: Duration = Duration::from_secs(5);
/// How often it is looked how far copying to the archive is, by who waits for it.
pub(crate) const ARCHIVE_LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks without any flow less left after which a service that copies is not waited for: ten seconds.
pub(crate) const ARCHIVE_LOOKS_MAX: u32 = 100;
/// Wrong values that are told of one config file: each is found by reading the rest again.
pub(crate) const WRONG_VALUES_MAX: usize = 50;
/// Bytes of a value that `oriel config set` reads from standard input: more than a long list of hosts.
pub(crate) const CONFIG_VALUE_BYTES_MAX: u64 = 1024 * 1024;
