//! A throw-away PostgreSQL cluster: made by `initdb`, served on loopback and on a Unix-domain
//! socket, gone with its owner.
//!
//! PostgreSQL refuses to run as root, so that root starts it as the user `postgres`. It writes
//! nothing through to the disk, but to the system, so that what was committed outlives the server. What a test that was killed left behind is swept by the next one.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// The superuser of every cluster; it needs no password on loopback.
pub const SUPERUSER: &str = "oriel";

/// Folders of clusters begin so; the process id of their owner follows.
const FOLDER_PREFIX: &str = "oriel-pg-";
/// How often a server is asked whether it is ready, and how many times: for a minute.
const READY_PAUSE: Duration = Duration::from_millis(20);
const READY_ATTEMPTS: u32 = 3000;
/// Another process may take the port between our looking and the server's binding.
const PORT_ATTEMPTS: u32 = 5;

/// Who runs the server, where that is somebody else.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

/// A cluster with its server. Dropping it ends the server and removes the folder.
#[derive(Debug)]
pub struct PostgresCluster {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<User>,
    settings: Vec<String>,
    port: u16,
    server: Option<Child>,
}

impl PostgresCluster {
    /// Makes a cluster and starts its server. Fails with what to install where PostgreSQL is missing.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// The same with settings of the server, each as `name=value`.
    pub fn start_with(settings: &[&str]) -> io::Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let programs = programs()?;
        let parent = std::env::temp_dir();
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("{FOLDER_PREFIX}{}-{number}", std::process::id()));
        make_folder(&folder, None)?;
        let user = other_user(fs::metadata(&folder)?.uid())?;
        if let Some(user) = user {
            chown(&folder, Some(user.uid), Some(user.gid))?;
        }
        sweep(&programs, &parent, user);
        let mut cluster = Self {
            programs,
            folder,
            user,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            port: 0,
            server: None,
        };
        make_folder(&cluster.sockets(), user)?;
        let data = cluster.data();
        let mut initdb = cluster.program("initdb");
        initdb.args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8"]);
        initdb
            .args(["--locale=C.UTF-8", "--no-sync", "-D"])
            .arg(&data);
        run(&mut initdb)?;
        for attempt in 1.. {
            cluster.port = free_port()?;
            match cluster.start_server() {
                Err(_) if attempt < PORT_ATTEMPTS => {}
                result => {
                    result?;
                    break;
                }
            }
        }
        Ok(cluster)
    }

    /// Where the server listens, or did before it was stopped.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL of a database, for the superuser and over TCP.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://{SUPERUSER}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// The same through the Unix-domain socket.
    pub fn socket_url(&self, database: &str) -> String {
        let sockets = self.sockets().display().to_string().replace('/', "%2F");
        format!(
            "postgresql://{SUPERUSER}@{sockets}:{}/{database}",
            self.port
        )
    }

    /// Runs statements in a database as `psql` does: rows are lines, columns stand between bars.
    /// The error says what `psql` said.
    pub fn psql(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut psql = self.program("psql");
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        psql.arg(self.url(database));
        // Read from the standard input, statements are transactions of their own.
        psql.args(["-f", "-"]);
        psql.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = psql.spawn()?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(sql.as_bytes())?;
        }
        finish(&psql, &child.wait_with_output()?)
    }

    /// Starts the server again, on the same port.
    pub fn start_server(&mut self) -> io::Result<()> {
        // A server that was killed leaves it; its status would be taken for that of the new one.
        match fs::remove_file(self.status_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())?;
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data());
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.sockets().display()),
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
        ];
        settings.extend_from_slice(&self.settings);
        for setting in settings {
            command.args(["-c", &setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let mut server = command.spawn()?;
        for _attempt in 0..READY_ATTEMPTS {
            if self.is_ready() {
                self.server = Some(server);
                return Ok(());
            }
            if server.try_wait()?.is_some() {
                break;
            }
            thread::sleep(READY_PAUSE);
        }
        end(&mut server);
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        Err(io::Error::other(format!("postgres did not start: {log}")))
    }

    /// Stops the server; connections are cut, transactions rolled back.
    pub fn stop(&mut self) -> io::Result<()> {
        self.control(&["stop", "-m", "fast"])?;
        if let Some(mut server) = self.server.take() {
            server.wait()?;
        }
        Ok(())
    }

    /// Kills the server, as a crash of the machine would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.control(&["stop", "-m", "immediate"])?;
        if let Some(mut server) = self.server.take() {
            server.wait()?;
        }
        Ok(())
    }

    /// Replaces a file in the folder of data, readable for the server alone; with
    /// [`PostgresCluster::reload`] the server takes it up.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.data().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        match self.user {
            Some(user) => chown(&path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }

    /// Has the server read its configuration again.
    pub fn reload(&self) -> io::Result<()> {
        self.control(&["reload"])
    }

    fn control(&self, arguments: &[&str]) -> io::Result<()> {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.data()).args(arguments);
        run(&mut command)
    }

    /// The eighth line of its file says what the server does.
    fn is_ready(&self) -> bool {
        let status = fs::read_to_string(self.status_file()).unwrap_or_default();
        status
            .lines()
            .nth(7)
            .is_some_and(|line| line.trim() == "ready")
    }

    fn program(&self, name: &str) -> Command {
        program(&self.programs, name, self.user)
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn sockets(&self) -> PathBuf {
        self.folder.join("sockets")
    }

    fn status_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for PostgresCluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Its children end with it, but not before they were told.
            let stopped = self.control(&["stop", "-m", "immediate"]);
            if stopped.is_err() {
                end(&mut server);
            }
            drop(server.wait());
        }
        // What cannot be removed is swept by the next test.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The newest PostgreSQL: those of Debian are not in the path.
fn programs() -> io::Result<PathBuf> {
    let number = |path: &Path| {
        let version = path.parent()?.file_name()?.to_str()?;
        version.parse::<u32>().ok()
    };
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = debian
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .max_by_key(|folder| number(folder));
    let elsewhere = || {
        #[expect(
            clippy::disallowed_methods,
            reason = "a program of another package is looked for where a shell would"
        )]
        let path = std::env::var("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).collect::<Vec<_>>().into_iter();
        folders.find(|folder| folder.join("initdb").exists())
    };
    newest.or_else(elsewhere).ok_or_else(|| {
        io::Error::other("PostgreSQL is missing: .ci/run installs Debian's package postgresql")
    })
}

/// Root may not run a server; Debian's package has a user for it.
fn other_user(own: u32) -> io::Result<Option<User>> {
    if own != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    for name in ["postgres", "nobody"] {
        let line = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        for fields in line {
            if let [user, _, uid, gid, ..] = *fields
                && user == name
                && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
            {
                return Ok(Some(User { uid, gid }));
            }
        }
    }
    Err(io::Error::other(
        "root cannot run PostgreSQL, and there is no user postgres",
    ))
}

fn program(programs: &Path, name: &str, user: Option<User>) -> Command {
    let mut command = Command::new(programs.join(name));
    // The present folder may be closed to the other user.
    command
        .current_dir("/")
        .env_clear()
        .env("LC_ALL", "C.UTF-8");
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn make_folder(folder: &Path, user: Option<User>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    match user {
        Some(user) => chown(folder, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// Ends servers and removes folders whose owner is gone.
fn sweep(programs: &Path, parent: &Path, user: Option<User>) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER_PREFIX))
            .and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
        let Some(owner) = owner else { continue };
        // Without this file system nobody can tell whether a process lives.
        if !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        let folder = entry.path();
        let mut stop = program(programs, "pg_ctl", user);
        stop.args(["stop", "-m", "immediate", "-D"])
            .arg(folder.join("data"));
        // Mostly there is no server any more. Another test may be sweeping the same folder.
        drop(run(&mut stop));
        drop(fs::remove_dir_all(&folder));
    }
}

fn end(server: &mut Child) {
    // Both fail only if it has ended already.
    drop(server.kill());
    drop(server.wait());
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    finish(command, &output).map(drop)
}

fn finish(command: &Command, output: &std::process::Output) -> io::Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let name = command.get_program().to_string_lossy();
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{name}: {}", said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_serves_stops_and_serves_again() {
        let mut cluster = PostgresCluster::start().unwrap();
        let folder = cluster.folder.clone();
        let sql = "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7);";
        cluster.psql("postgres", sql).unwrap();
        cluster.stop().unwrap();
        assert!(cluster.psql("postgres", "SELECT 1").is_err());
        cluster.start_server().unwrap();
        cluster.kill().unwrap();
        cluster.start_server().unwrap();
        let kept = cluster.psql("postgres", "SELECT n, 'x' FROM kept").unwrap();
        assert_eq!(kept, "7|x\n");
        let error = cluster.psql("postgres", "SELECT none").unwrap_err();
        assert!(error.to_string().contains("\"none\""), "{error}");
        drop(cluster);
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_dead_owner_left_is_swept() {
        let parent = std::env::temp_dir();
        // Process ids are below 2^22 (proc(5), pid_max).
        let left = parent.join(format!("{FOLDER_PREFIX}4294967295-0"));
        fs::create_dir_all(left.join("data")).unwrap();
        let own = fs::metadata(&left).unwrap().uid();
        let user = other_user(own).unwrap();
        sweep(&programs().unwrap(), &parent, user);
        assert!(!left.exists());
    }
}
