//! `oriel auth` and its commands.

use clap::{Args, Subcommand};

#[derive(Clone, Debug, Args)]
pub(crate) struct Auth {
    #[command(subcommand)]
    pub(crate) command: AuthCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AuthCommand {
    /// Print the line of a user for `proxy.auth.users_file`; the password is read, not shown
    #[command(
        after_help = "Examples:\n  oriel auth hash dana >> users && chmod 600 users\n  pass show proxy | oriel auth hash dana >> users"
    )]
    Hash {
        /// The user's name
        name: String,
    },
}
