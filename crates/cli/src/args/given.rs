//! From flags to settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::proxy::{AuthorityFlags, DataFlags, PairFlags, ProxyFlags};
use crate::config::file::{ConfigFile, Reverse};
use crate::config::layer::{Layer, Origin};
use crate::config::values::{Listen, Unlisted};
use crate::quantity::Size;

/// Settings that flags gave, with the flag of each.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: ConfigFile,
    origins: BTreeMap<String, Origin>,
}

impl Given {
    fn note(&mut self, path: &str, flag: &'static str) {
        self.origins.insert(path.to_owned(), Origin::Flag(flag));
    }

    /// Puts a value in its place, if the flag was given.
    pub(super) fn set<T>(
        &mut self,
        path: &str,
        flag: &'static str,
        value: Option<T>,
        place: impl FnOnce(&mut ConfigFile) -> &mut Option<T>,
    ) {
        if value.is_some() {
            *place(&mut self.values) = value;
            self.note(path, flag);
        }
    }

    /// Sets what a proxy for this machine alone has, whatever is configured: its hosts are opened,
    /// nothing goes out.
    pub(super) fn keep_to_this_machine(&mut self, by: &'static str) {
        let hosts = Some(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        self.set("intercept.hosts", by, hosts, |file| {
            &mut file.intercept.hosts
        });
        self.set("intercept.bypass", by, Some(Vec::new()), |file| {
            &mut file.intercept.bypass
        });
        let block = Some(Unlisted::Block);
        self.set("intercept.unlisted", by, block, |file| {
            &mut file.intercept.unlisted
        });
        self.set("upstream.system_roots", by, Some(false), |file| {
            &mut file.upstream.system_roots
        });
    }

    /// Takes over where the data is.
    pub(super) fn add_data(&mut self, flags: &DataFlags) {
        self.set("store.data_folder", "--data", flags.data.clone(), |file| {
            &mut file.store.data_folder
        });
    }

    /// Takes over which authority is meant.
    pub(super) fn add_authority(&mut self, flags: &AuthorityFlags) {
        self.add_data(&flags.data);
        self.set(
            "ca.certificate",
            "--ca-cert",
            flags.ca_cert.clone(),
            |file| &mut file.ca.certificate,
        );
        self.set("ca.key", "--ca-key", flags.ca_key.clone(), |file| {
            &mut file.ca.key
        });
    }

    /// Takes over where to listen.
    pub(super) fn add_listen(&mut self, listen: Option<Listen>) {
        self.set("proxy.listen", "--listen", listen, |file| {
            &mut file.proxy.listen
        });
    }

    /// Takes over the place in front of a gateway, which is at `default` unless it is named.
    pub(super) fn add_pair(&mut self, flags: &PairFlags, default: SocketAddr) {
        let reverse = flags.pair.clone().map(|to| {
            vec![Reverse {
                listen: flags.pair_listen.unwrap_or(Listen(default)),
                to,
                tls: None,
            }]
        });
        self.set("proxy.reverse", "--pair", reverse, |file| {
            &mut file.proxy.reverse
        });
    }

    /// Takes over what every proxy has.
    pub(super) fn add_proxy(&mut self, flags: &ProxyFlags) {
        self.add_authority(&flags.authority);
        self.set("admin.listen", "--admin", flags.admin, |file| {
            &mut file.admin.listen
        });
        self.set(
            "upstream.ca_files",
            "--upstream-ca",
            some_of(&flags.upstream_ca),
            |file| &mut file.upstream.ca_files,
        );
        self.set(
            "upstream_proxy.url",
            "--upstream-proxy",
            flags.upstream_proxy.clone(),
            |file| &mut file.upstream_proxy.url,
        );
        self.set(
            "upstream_proxy.ca",
            "--upstream-proxy-ca",
            flags.upstream_proxy_ca.clone(),
            |file| &mut file.upstream_proxy.ca,
        );
        self.set(
            "intercept.hosts",
            "--intercept",
            some_of(&flags.intercept),
            |file| &mut file.intercept.hosts,
        );
        self.set(
            "intercept.bypass",
            "--bypass",
            some_of(&flags.bypass),
            |file| &mut file.intercept.bypass,
        );
        self.set("intercept.unlisted", "--unlisted", flags.unlisted, |file| {
            &mut file.intercept.unlisted
        });
        self.set(
            "upstream.danger_accept_invalid",
            "--danger-accept-invalid-upstream",
            some_of(&flags.danger_accept_invalid_upstream),
            |file| &mut file.upstream.danger_accept_invalid,
        );
        self.add_capture(flags);
    }

    fn add_capture(&mut self, flags: &ProxyFlags) {
        let off = flags.no_capture.then_some(false);
        self.set("capture.enabled", "--no-capture", off, |file| {
            &mut file.capture.enabled
        });
        self.set("capture.redact", "--redact", flags.redact, |file| {
            &mut file.capture.redact
        });
        let none = flags.no_bodies.then_some(Size(0));
        self.set("capture.body_bytes_kept", "--no-bodies", none, |file| {
            &mut file.capture.body_bytes_kept
        });
        self.set(
            "capture.body_bytes_kept",
            "--max-body",
            flags.max_body,
            |file| &mut file.capture.body_bytes_kept,
        );
    }

    /// The settings, to be laid over those of files and variables.
    pub(super) fn into_layer(self) -> Layer {
        Layer::of_flags(self.values, self.origins)
    }
}

fn some_of<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
