//! The steps that bring a schema up to date, as each kind of database has them.

/// A step. One that was released is never edited.
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

impl Migration {
    /// What tells the step as it was applied from one of another text.
    pub(crate) fn checksum(&self) -> String {
        blake3::hash(self.sql.as_bytes()).to_hex().to_string()
    }
}

/// Steps in order, by the names of their files in a folder below `migrations`.
macro_rules! migrations {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$($crate::migration::Migration {
            name: $name,
            sql: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"), "/migrations/", $folder, $name, ".sql"
            )),
        }),+]
    };
}

pub(crate) use migrations;
