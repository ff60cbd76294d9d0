//! A throw-away ClickHouse: the engine of the real one (the Python package `chdb`) behind its HTTP
//! interface, on loopback. It ends with its owner, however that ends.
//!
//! It is a cluster named `fleet`, whose one shard it is. There is nobody to replicate to.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct ClickHouse {
    python: PathBuf,
    folder: PathBuf,
    user: String,
    password: String,
    port: u16,
    server: Option<Child>,
}

impl ClickHouse {
    /// Starts a server that asks nobody who they are. `clients` is the folder of Python clients that
    /// has the package; fails with what to install where it has not.
    pub fn start(clients: &Path) -> io::Result<Self> {
        Self::start_for(clients, "", "")
    }

    /// The same for one user only.
    pub fn start_for(clients: &Path, user: &str, password: &str) -> io::Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = format!("oriel-ch-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir(&folder)?;
        let mut clickhouse = Self {
            python: clients.join("bin/python"),
            folder,
            user: user.to_owned(),
            password: password.to_owned(),
            port: 0,
            server: None,
        };
        clickhouse.start_server()?;
        Ok(clickhouse)
    }

    /// The URL of a database, for the user and with the password that it began with.
    pub fn url(&self, database: &str) -> String {
        let login = match self.user.as_str() {
            "" => String::new(),
            user => format!("{user}:{}@", self.password),
        };
        format!("clickhouse://{login}127.0.0.1:{}/{database}", self.port)
    }

    /// Starts the server again after [`ClickHouse::kill`], on the same port and with the same data.
    pub fn start_server(&mut self) -> io::Result<()> {
        let missing = |why: &str| {
            let python = self.python.display();
            io::Error::other(format!(
                "{python} cannot serve ClickHouse ({why}): `.ci/run` makes it, and installs chdb there"
            ))
        };
        let mut server = Command::new(&self.python)
            .args(["-c", include_str!("clickhouse.py")])
            .args([&self.user, &self.password])
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| missing(&error.to_string()))?;
        let mut line = String::new();
        if let Some(output) = server.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let Ok(port) = line.trim().parse() else {
            server.wait()?;
            return Err(missing("it ended before it was ready"));
        };
        self.port = port;
        self.server = Some(server);
        Ok(())
    }

    /// Kills the server, as a crash would.
    pub fn kill(&mut self) -> io::Result<()> {
        match self.server.take() {
            Some(mut server) => {
                server.kill()?;
                server.wait().map(drop)
            }
            None => Ok(()),
        }
    }

    /// From now on it asks for another password.
    pub fn change_password(&self, password: &str) -> io::Result<()> {
        self.tell(&format!("password {password}\n"))
    }

    /// From now on each answer comes so much later.
    pub fn answer_slowly(&self, milliseconds: u32) -> io::Result<()> {
        self.tell(&format!("slow {milliseconds}\n"))
    }

    /// Asks the database `default`: rows are lines, columns stand between tabs.
    pub fn query(&self, sql: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))?;
        let (user, password) = (&self.user, &self.password);
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\
             X-ClickHouse-User: {user}\r\nX-ClickHouse-Key: {password}\r\n\r\n{sql}",
            sql.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, rows)) if head.starts_with("HTTP/1.1 200 ") => Ok(rows.to_owned()),
            _ => Err(io::Error::other(answer)),
        }
    }

    fn tell(&self, line: &str) -> io::Result<()> {
        let mut input = self
            .server
            .as_ref()
            .and_then(|server| server.stdin.as_ref());
        match &mut input {
            Some(input) => input.write_all(line.as_bytes()),
            None => Err(io::Error::other("the server does not run")),
        }
    }
}

impl Drop for ClickHouse {
    /// It ends when its standard input does, and takes its files with it.
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.stdin.take());
            // There is nobody to tell; the process is gone either way.
            let _status = server.wait();
        }
        // Left by a server that was killed.
        drop(fs::remove_dir_all(&self.folder));
    }
}
