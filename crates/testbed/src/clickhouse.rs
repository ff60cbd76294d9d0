//! A throw-away ClickHouse: the engine of the real one (the Python package `chdb`) behind its HTTP
//! interface, on loopback. It ends with its owner, however that ends.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct ClickHouse {
    server: Child,
    port: u16,
    login: String,
}

impl ClickHouse {
    /// Starts a server that asks nobody who they are. `clients` is the folder of Python clients that
    /// has the package; fails with what to install where it has not.
    pub fn start(clients: &Path) -> io::Result<Self> {
        Self::start_for(clients, "", "")
    }

    /// The same for one user only.
    pub fn start_for(clients: &Path, user: &str, password: &str) -> io::Result<Self> {
        let python = clients.join("bin/python");
        let missing = |why: &str| {
            let python = python.display();
            io::Error::other(format!(
                "{python} cannot serve ClickHouse ({why}): `.ci/run` makes it, and installs chdb there"
            ))
        };
        let mut server = Command::new(&python)
            .args(["-c", include_str!("clickhouse.py"), user, password])
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
        Ok(Self {
            server,
            port,
            login: match user {
                "" => String::new(),
                user => format!("{user}:{password}@"),
            },
        })
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!(
            "clickhouse://{}127.0.0.1:{}/{database}",
            self.login, self.port
        )
    }
}

impl Drop for ClickHouse {
    /// It ends when its standard input does, and takes its files with it.
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        // There is nobody to tell; the process is gone either way.
        let _status = self.server.wait();
    }
}
