//! The folder that everything lies in, and how a suite's command is started there: direct, or
//! through `oriel run`.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use testbed::authority::Authority;

use crate::console;
use crate::failure::Failure;

/// How long one suite may take one way, in seconds. The longest takes about ten minutes.
const SECONDS_MAX: &str = "1800";

/// Everything that is fetched and written.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    oriel: PathBuf,
}

/// How a suite reaches its servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Through,
}

/// One run of a command.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// The name of its files: lower case, no spaces.
    pub(super) name: &'a str,
    pub(super) way: Way,
    /// Options of `oriel run`.
    pub(super) options: &'a [&'a OsStr],
    /// Variables beside those that every run gets.
    pub(super) variables: &'a [(&'a str, &'a OsStr)],
    pub(super) folder: &'a Path,
}

/// What came out of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its output, with what it complained about. Also in a file of the run's name, `.log`.
    pub(super) text: String,
    /// What `oriel run` says about its traffic; null when direct.
    pub(super) summary: Value,
}

impl Place {
    pub(super) fn make(workspace: &Path) -> Result<Self, Failure> {
        let target = workspace.join("target");
        let root = target.join("conformance");
        std::fs::create_dir_all(root.join("home"))?;
        Ok(Self {
            oriel: target.join("debug/oriel"),
            root,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// The path of a file that a command is to write. It is not there: what an earlier run has
    /// left must not be taken for this one's.
    pub(super) fn fresh(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        if path.exists() {
            std::fs::remove_file(&path)?;
        }
        Ok(path)
    }

    /// A folder with nothing in it.
    pub(super) fn empty_folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Makes an authority, in the files `NAME.pem` and `NAME.key`.
    pub(super) fn authority(&self, name: &str) -> Result<Authority, Failure> {
        let authority = Authority::new(&format!("conformance {name}"));
        self.write(&format!("{name}.pem"), &authority.certificate_pem())?;
        let key = self.write(&format!("{name}.key"), &authority.key_pem())?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(key, owner_only)?;
        Ok(authority)
    }

    /// Runs a command with none of this process's environment but the search path.
    pub(super) fn run(&self, run: &Run<'_>, words: &[&OsStr]) -> Result<Outcome, Failure> {
        let base = run.base();
        console::complain(&format!("==> {base}"));
        let summary = self.fresh(&format!("{base}.json"))?;
        let mut command = match run.way {
            Way::Direct => Command::new("timeout"),
            Way::Through => self.oriel_run(&base, &summary, run.options)?,
        };
        command.args(["--kill-after=10", SECONDS_MAX]).args(words);
        command.env_clear().stdin(Stdio::null());
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command.envs(run.variables.iter().copied());
        let output = command.current_dir(run.folder).output()?;
        let text = [output.stdout, output.stderr].concat();
        std::fs::write(self.path(&format!("{base}.log")), &text)?;
        let summary = match run.way {
            Way::Direct => Value::Null,
            Way::Through => serde_json::from_slice(&std::fs::read(&summary)?)?,
        };
        Ok(Outcome {
            text: String::from_utf8_lossy(&text).into_owned(),
            summary,
        })
    }

    /// Runs one of oriel's other commands on what a run has stored.
    pub(super) fn ask_oriel(&self, run: &Run<'_>, words: &[&str]) -> Result<Value, Failure> {
        let mut command = Command::new(&self.oriel);
        command.args(words).arg("--json").env_clear();
        command.arg("--data").arg(self.data_folder(&run.base()));
        let output = command.envs(self.environment()).output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn oriel_run(
        &self,
        base: &str,
        summary: &Path,
        options: &[&OsStr],
    ) -> Result<Command, Failure> {
        let data = self.empty_folder(&format!("{base}-data"))?;
        let mut command = Command::new(&self.oriel);
        command.args(["run", "--include-loopback", "--summary", "full", "--data"]);
        command.arg(data).arg("--summary-file").arg(summary);
        command.args(options).args(["--", "timeout"]);
        Ok(command)
    }

    fn data_folder(&self, base: &str) -> PathBuf {
        self.path(&format!("{base}-data"))
    }

    fn environment(&self) -> [(&'static str, PathBuf); 4] {
        let search = std::env::var_os("PATH").unwrap_or_default();
        [
            ("PATH", search.into()),
            ("HOME", self.path("home")),
            ("LANG", "C.UTF-8".into()),
            ("TZ", "UTC".into()),
        ]
    }
}

impl Run<'_> {
    /// What the names of its files begin with.
    fn base(&self) -> String {
        match self.way {
            Way::Direct => format!("{}-direct", self.name),
            Way::Through => format!("{}-through", self.name),
        }
    }
}

impl Outcome {
    /// How many requests oriel read and forwarded, each a flow in its store.
    pub(super) fn flows(&self) -> u64 {
        self.summary["requests"]["total"].as_u64().unwrap_or(0)
    }
}

/// Runs a command that fetches something. What it prints goes into a log file.
pub(super) fn fetch(place: &Place, what: &str, mut command: Command) -> Result<(), Failure> {
    let log = place.path("fetch.log");
    let file = std::fs::File::create(&log)?;
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .map_err(|error| Failure::new(format!("{what} needs {program}: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!(
            "cannot fetch {what}, is there no network? {} has what {program} said; \
             `--only SUITE` runs the others",
            log.display()
        )));
    }
    Ok(())
}
