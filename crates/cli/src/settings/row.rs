//! A setting as people are shown it.

use serde::Serialize;

use crate::config::layer::{Origin, Setting};

/// A line of `oriel config show`.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) path: &'static str,
    /// An empty text where nothing is set.
    pub(crate) value: toml::Value,
    pub(crate) origin: Origin,
}

impl Row {
    pub(super) fn of<T: Serialize>(path: &'static str, setting: &Setting<T>) -> Self {
        Self {
            path,
            value: value_of(&setting.value),
            origin: setting.origin.clone(),
        }
    }
}

fn value_of<T: Serialize>(value: &T) -> toml::Value {
    // TOML has no word for nothing: as a field of a table it is left out.
    #[derive(Serialize)]
    struct Field<'a, T> {
        value: &'a T,
    }
    match toml::Table::try_from(Field { value }) {
        Ok(mut table) => table.remove("value").unwrap_or_else(|| "".into()),
        // Paths that are not UTF-8 have no form in TOML.
        Err(_) => "?".into(),
    }
}
