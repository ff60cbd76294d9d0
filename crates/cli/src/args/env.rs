//! `oriel env`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::given::Given;
use super::proxy::DataFlags;
use crate::config::layer::Layer;
use crate::config::values::Listen;

#[derive(Clone, Debug, Args)]
pub(crate) struct Env {
    /// The shell to write for; by default told from SHELL
    #[arg(long)]
    pub(crate) shell: Option<ShellName>,
    /// Print what takes the variables back
    #[arg(long)]
    pub(crate) unset: bool,
    /// Where `oriel serve` listens, if not at its default
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<Listen>,
    /// Certificate of the authority that `oriel serve` was given
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellName {
    Bash,
    Zsh,
    Fish,
    Pwsh,
    Nu,
    #[value(alias = "tcsh")]
    Csh,
}

impl Env {
    /// The settings among the flags.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_data(&self.data);
        given.add_listen(self.listen);
        given.set(
            "ca.certificate",
            "--ca-cert",
            self.ca_cert.clone(),
            |file| &mut file.ca.certificate,
        );
        given.into_layer()
    }
}

impl ShellName {
    /// The shell of the person, as far as SHELL tells.
    pub(crate) fn of_variable(shell: Option<&str>) -> Self {
        match shell.and_then(|path| path.rsplit('/').next()) {
            Some("zsh") => Self::Zsh,
            Some("fish") => Self::Fish,
            Some("pwsh") => Self::Pwsh,
            Some("nu") => Self::Nu,
            Some("csh" | "tcsh") => Self::Csh,
            _ => Self::Bash,
        }
    }
}
