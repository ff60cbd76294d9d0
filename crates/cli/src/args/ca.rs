//! `oriel ca` and its commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proxy::tls::key::KeyKind;

use super::doctor::ToolFlags;
use super::proxy::{AuthorityFlags, DataFlags};
use crate::quantity::Period;
use crate::trust_store::elsewhere::Platform;

#[derive(Clone, Debug, Args)]
pub(crate) struct Ca {
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a certificate authority; the first run makes one by itself
    #[command(
        after_help = "Examples:\n  oriel ca init\n  oriel ca init --only api.openai.com,api.anthropic.com\n  oriel ca init --key rsa2048 --name \"AI Proxy CA\" --ca-cert mitm.crt --ca-key mitm.key"
    )]
    Init(CaInit),
    /// Show the certificate
    #[command(after_help = "Examples:\n  oriel ca show\n  oriel ca show --fingerprint")]
    Show(CaShow),
    /// Write the certificate; never the key
    #[command(after_help = "Example:\n  oriel ca export --format bundle -o bundle.pem")]
    Export(CaExport),
    /// Check the certificate, its key, the chain to its root, and which tools take it
    #[command(
        after_help = "Examples:\n  oriel ca verify\n  oriel ca verify api.openai.com --tools curl,node\n  oriel ca verify --tools none --ca-cert mitm-chain.crt --ca-key mitm.key"
    )]
    Verify(CaVerify),
    /// Have programs trust the certificate; asks first
    ///
    /// What `oriel run` starts trusts it already. This is for browsers, containers, and programs
    /// behind `oriel serve`. What is changed is remembered, so that `oriel ca uninstall` takes out
    /// exactly that.
    #[command(
        after_help = "Examples:\n  oriel ca install --dry-run\n  sudo oriel ca install --store system --data ~/.local/share/oriel\n  oriel ca install --root ./container-root"
    )]
    Install(CaInstall),
    /// Take out what `oriel ca install` put in, and nothing else
    #[command(
        after_help = "Examples:\n  oriel ca uninstall\n  oriel ca uninstall --root ./container-root"
    )]
    Uninstall(CaUninstall),
    /// Write a request that another authority can sign
    #[command(after_help = "Example:\n  oriel ca csr -o oriel.csr")]
    Csr(CaCsr),
    /// Sign another authority, so that who trusts the one that signs takes its certificates
    #[command(
        after_help = "Examples:\n  oriel ca cross-sign their.csr -o their-chain.crt\n  oriel ca cross-sign --issuer-cert upstream-ca.crt --issuer-key upstream-ca.key -o chain.crt"
    )]
    CrossSign(CaCrossSign),
    /// Use a certificate authority from elsewhere
    #[command(
        after_help = "Examples:\n  oriel ca import mitm-chain.crt --key mitm.key\n  oriel ca import signed.crt --chain upstream-ca.crt     the answer to oriel ca csr"
    )]
    Import(CaImport),
    /// Make a new authority in place of the one in use, which stays trusted for a while
    #[command(after_help = "Example:\n  oriel ca rotate --overlap 30d")]
    Rotate(CaRotate),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaInit {
    /// The kind of its key
    #[arg(long, value_name = "KIND", default_value = "p256")]
    pub(crate) key: Key,
    /// Its common name; by default `oriel on` this machine
    #[arg(long, visible_alias = "cn")]
    pub(crate) name: Option<String>,
    #[arg(long, value_name = "NAME")]
    pub(crate) organization: Option<String>,
    /// Days that it is valid
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
    /// Let it sign for this host and those below it alone: a name, an address, a range of
    /// addresses (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Authorities that it may sign, one below the other; by default it signs no authority
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) path_length: u8,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaExport {
    #[arg(long, default_value = "pem")]
    pub(crate) format: ExportFormat,
    /// Write into this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// For a bundle: also the certificates of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) with: Option<PathBuf>,
    /// For p12: the password that its checksum is made with; nothing in it is secret
    #[arg(long, value_name = "TEXT", default_value = "changeit")]
    pub(crate) password: String,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaVerify {
    /// Check also that the authority may sign for this host
    #[arg(value_name = "HOST")]
    pub(crate) host: Option<String>,
    #[command(flatten)]
    pub(crate) tools: ToolFlags,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaInstall {
    /// Whose trust; by default `user`, and with --root `system`
    #[arg(long)]
    pub(crate) store: Option<TrustStore>,
    #[command(flatten)]
    pub(crate) change: ChangeFlags,
    /// Print the commands that do it on another system
    #[arg(long, value_name = "SYSTEM", conflicts_with_all = ["root", "dry_run", "yes"])]
    pub(crate) print_for: Option<Platform>,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaUninstall {
    /// Whose trust; by default everybody's that was changed
    #[arg(long)]
    pub(crate) store: Option<TrustStore>,
    #[command(flatten)]
    pub(crate) change: ChangeFlags,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

/// Where trust stores are changed, and whether it is asked first.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChangeFlags {
    /// Change the file system in this folder, running nothing of it
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Show what would be touched, and touch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// Whose first line is the password of Java's key stores, if it is not `changeit`
    #[arg(long, value_name = "FILE")]
    pub(crate) java_password_file: Option<PathBuf>,
    /// Whose first line is the password of a certificate database (Firefox: the primary password)
    #[arg(long, value_name = "FILE")]
    pub(crate) nss_password_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrustStore {
    /// Chromium and its kin; on macOS all programs of the user
    User,
    /// What the system gives to all programs
    System,
    /// Every Firefox profile of the user
    Firefox,
    /// Every Java that is found
    Java,
    /// All of these
    All,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaCsr {
    /// Another common name than the authority has
    #[arg(long, visible_alias = "cn")]
    pub(crate) name: Option<String>,
    /// Write into this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaShow {
    /// The certificate alone, PEM; `oriel ca export` has more forms
    #[arg(long, conflicts_with = "fingerprint")]
    pub(crate) pem: bool,
    /// Its SHA-256 fingerprint alone
    #[arg(long)]
    pub(crate) fingerprint: bool,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaCrossSign {
    /// The request of the other authority; by default that of oriel's own is signed
    #[arg(value_name = "CSR", required_unless_present = "issuer_cert")]
    pub(crate) request: Option<PathBuf>,
    /// Certificate of who signs; by default oriel's own authority
    #[arg(long, value_name = "FILE", requires = "issuer_key")]
    pub(crate) issuer_cert: Option<PathBuf>,
    /// Private key of who signs, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "issuer_cert")]
    pub(crate) issuer_key: Option<PathBuf>,
    /// Days that it is valid, but never longer than who signs
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
    /// Authorities that it may sign, one below the other
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) path_length: u8,
    /// Let it sign for this host and those below it alone (repeatable, or with commas)
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Write the new certificate without those of who signed it
    #[arg(long)]
    pub(crate) no_chain: bool,
    /// Write into this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) authority: AuthorityFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaImport {
    /// The certificate, with those it was issued by or without (PEM, DER)
    pub(crate) certificate: PathBuf,
    /// Its private key (PKCS#8, PKCS#1, SEC1; PEM, DER); by default that of the authority in use
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The certificates it was issued by
    #[arg(long, value_name = "FILE")]
    pub(crate) chain: Option<PathBuf>,
    /// Take the place of an authority with another key
    #[arg(long)]
    pub(crate) replace: bool,
    /// How long the one before stays trusted
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub(crate) overlap: Period,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct CaRotate {
    /// How long the one before stays trusted
    #[arg(long, value_name = "TIME", default_value = "30d")]
    pub(crate) overlap: Period,
    /// The common name of the new one; by default that of the old one with a number
    #[arg(long, visible_alias = "cn")]
    pub(crate) name: Option<String>,
    /// Days that the new one is valid
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Key {
    P256,
    P384,
    Rsa2048,
    Rsa3072,
    Rsa4096,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// What clients are to trust: the authority's chain, and those before it that still count
    Pem,
    /// The chain alone: the authority's certificate, the one that signed it, and so on to the root
    Chain,
    /// The authority's certificate alone
    Der,
    /// The same as a configuration profile, for iOS and macOS
    Mobileconfig,
    /// The system's roots and what clients are to trust, PEM
    Bundle,
    /// What clients are to trust, PKCS#12: for Windows, macOS, and Java beside its own roots
    P12,
    /// The roots of the Java in use and what clients are to trust, a trust store (takes keytool)
    Java,
}

impl From<Key> for KeyKind {
    fn from(key: Key) -> Self {
        match key {
            Key::P256 => Self::P256,
            Key::P384 => Self::P384,
            Key::Rsa2048 => Self::Rsa2048,
            Key::Rsa3072 => Self::Rsa3072,
            Key::Rsa4096 => Self::Rsa4096,
        }
    }
}
