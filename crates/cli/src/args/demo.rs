//! `oriel demo`.

use clap::Args;

use super::given::Given;
use super::proxy::DataFlags;
use crate::config::layer::Layer;
use crate::config::values::{Redact, Unlisted};

#[derive(Clone, Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub(crate) data: DataFlags,
}

impl Demo {
    /// What a demo is made of, whatever is configured: one host, opened; nothing of the network.
    pub(crate) fn layer(&self) -> Layer {
        let mut given = Given::default();
        given.add_data(&self.data);
        let host = Some(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
        given.set("intercept.hosts", "demo", host, |file| {
            &mut file.intercept.hosts
        });
        given.set("intercept.bypass", "demo", Some(Vec::new()), |file| {
            &mut file.intercept.bypass
        });
        given.set(
            "intercept.unlisted",
            "demo",
            Some(Unlisted::Block),
            |file| &mut file.intercept.unlisted,
        );
        given.set("intercept.ip_targets", "demo", Some(false), |file| {
            &mut file.intercept.ip_targets
        });
        given.set("upstream.system_roots", "demo", Some(false), |file| {
            &mut file.upstream.system_roots
        });
        given.set("capture.enabled", "demo", Some(true), |file| {
            &mut file.capture.enabled
        });
        given.set("capture.redact", "demo", Some(Redact::Basic), |file| {
            &mut file.capture.redact
        });
        given.into_layer()
    }
}
