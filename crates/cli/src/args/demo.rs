//! `oriel demo`.

use clap::Args;

use super::given::Given;
use super::proxy::DataFlags;
use crate::config::layer::Layer;
use crate::config::values::Redact;

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
        given.keep_to_this_machine("demo");
        given.set("intercept.ip_targets", "demo", Some(false), |file| {
            &mut file.intercept.ip_targets
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
