//! An upstream of the testbed with what a test needs to reach it: a runtime that drives it, the
//! authority that vouches for it, and ways to call it through the program.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testbed::authority::{Authority, Identity};
use testbed::upstream::{Protocols, Received, Upstream, UpstreamOptions};
use tokio::runtime::Runtime;

use crate::world::{Printed, Service, World};

/// The only name that resolves to loopback everywhere; addresses would be tunnelled.
pub(crate) const NAME: &str = "localhost";

/// A running upstream.
pub(crate) struct Site {
    pub(crate) runtime: Runtime,
    pub(crate) upstream: Upstream,
    pub(crate) authority: Authority,
    /// The certificate of its authority.
    pub(crate) ca: PathBuf,
    scheme: &'static str,
}

impl Site {
    /// Speaks HTTP behind a good certificate.
    pub(crate) fn https(world: &World, protocols: Protocols) -> Self {
        Self::certified(world, |authority| {
            UpstreamOptions::https(authority.issue(&[NAME]), protocols)
        })
    }

    /// Shows whatever certificate it is given.
    pub(crate) fn showing(world: &World, identity: impl FnOnce(&Authority) -> Identity) -> Self {
        Self::certified(world, |authority| {
            UpstreamOptions::https(identity(authority), Protocols::Both)
        })
    }

    /// Speaks HTTP/1.1 in clear.
    pub(crate) fn http(world: &World) -> Self {
        Self::certified(world, |_| UpstreamOptions::http())
    }

    pub(crate) fn certified(
        world: &World,
        options: impl FnOnce(&Authority) -> UpstreamOptions,
    ) -> Self {
        let authority = Authority::new("upstream authority");
        let options = options(&authority);
        let scheme = if options.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        Self {
            upstream: runtime.block_on(Upstream::start(options)).unwrap(),
            runtime,
            ca: world.file("upstream.pem", &authority.certificate_pem()),
            authority,
            scheme,
        }
    }

    pub(crate) fn authority_of_url(&self) -> String {
        format!("{NAME}:{}", self.upstream.address().port())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.authority_of_url())
    }

    /// The one request that arrived.
    pub(crate) fn received(&self) -> Received {
        let mut all = self.upstream.received();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// `oriel run` with this upstream trusted and no summary.
    pub(crate) fn command(&self, world: &World, command: &[&str]) -> Command {
        self.command_with(world, &["--summary", "none"], command)
    }

    pub(crate) fn command_with(&self, world: &World, flags: &[&str], command: &[&str]) -> Command {
        let mut all = vec!["run", "--upstream-ca", text(&self.ca)];
        all.extend(flags);
        all.push("--");
        all.extend(command);
        world.command(&all)
    }

    pub(crate) fn run(&self, world: &World, command: &[&str]) -> Printed {
        Printed::of(self.command(world, command).output().unwrap())
    }

    /// `oriel serve` that opens the connections to this upstream alone.
    pub(crate) fn serve(&self, world: &World) -> Service {
        let arguments = [
            "--admin",
            "off",
            "--upstream-ca",
            text(&self.ca),
            "--intercept",
            NAME,
        ];
        world.serve_port(self.upstream.address().port(), &arguments)
    }

    /// The same command without the program between, told to trust the upstream.
    pub(crate) fn direct(&self, world: &World, command: &[&str]) -> Command {
        let (program, arguments) = command.split_first().unwrap();
        let mut direct = Command::new(program);
        direct
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", world.path(""))
            .env("CURL_CA_BUNDLE", &self.ca)
            .current_dir(world.path(""));
        direct
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All flows that were recorded, oldest first.
pub(crate) fn flows(world: &World) -> Vec<Value> {
    let list = world.json(&["flows", "list", "--json", "--all"]);
    let mut items = list["items"].as_array().unwrap().clone();
    items.reverse();
    items
}

/// The one flow that was recorded.
pub(crate) fn only_flow(world: &World) -> Value {
    let mut all = flows(world);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}
