//! Which source each setting is taken from.

use super::Purpose;
use crate::config::file::ConfigFile;
use crate::config::layer::{Layer, Origin, Setting};

/// The sources, the strongest first: that of the flags.
#[derive(Debug)]
pub(super) struct Layers(pub(super) Vec<Layer>);

/// What of the sources a run heeds for a setting. It listens for its own command: where the service
/// listens, and whom it lets in, is not for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum RunTakes {
    All,
    /// What its own flags say.
    Flags,
    Nothing,
}

impl Layers {
    pub(super) fn heeded(&self, purpose: Purpose, run_takes: RunTakes) -> &[Layer] {
        match (purpose, run_takes) {
            (Purpose::Serve, _) | (Purpose::Run, RunTakes::All) => &self.0,
            (Purpose::Run, RunTakes::Flags) => self.0.get(..1).unwrap_or_default(),
            (Purpose::Run, RunTakes::Nothing) => &[],
        }
    }
}

/// The value of the strongest of these layers that has one.
pub(super) fn pick<F: Clone, T: From<F>>(
    layers: &[Layer],
    path: &str,
    read: impl Fn(&ConfigFile) -> Option<&F>,
) -> Option<Setting<T>> {
    layers.iter().find_map(|layer| {
        let value = read(&layer.values)?.clone();
        let origin = layer.origins.get(path).cloned();
        Some(Setting {
            value: T::from(value),
            origin: origin.unwrap_or(Origin::Default),
        })
    })
}
