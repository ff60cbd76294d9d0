//! Where oriel keeps its files: the folders of the XDG base directory specification.

use std::path::{Path, PathBuf};

use crate::environment::Environment;

/// The config file for every user of the machine.
const SYSTEM_CONFIG: &str = "/etc/oriel/config.toml";
/// Where a folder is made if there is not even a home, as in a bare container.
const HOMELESS: &str = "/tmp";

/// The folders in use.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) home: PathBuf,
    /// Whether the home is one that stands in for none: others may have made it first.
    pub(crate) is_homeless: bool,
    pub(crate) system_config: PathBuf,
    pub(crate) user_config: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) cache: PathBuf,
    /// For what may be lost without harm but outlives a restart: logs.
    pub(crate) state: PathBuf,
    /// For files that live as long as a process.
    pub(crate) runtime: PathBuf,
}

impl Paths {
    pub(crate) fn of(environment: &Environment) -> Self {
        let known_home = environment.path("HOME");
        let is_homeless = known_home.is_none();
        let home = known_home.unwrap_or_else(|| stand_in(environment));
        // The specification says: a path that is not absolute is to be ignored.
        let folder = |name: &str, below_home: &str| {
            environment
                .path(name)
                .filter(|path| path.is_absolute())
                .unwrap_or_else(|| home.join(below_home))
                .join("oriel")
        };
        let cache = folder("XDG_CACHE_HOME", ".cache");
        let runtime = environment
            .path("XDG_RUNTIME_DIR")
            .filter(|path| path.is_absolute() && path.is_dir())
            .map_or_else(|| cache.join("runs"), |path| path.join("oriel"));
        Self {
            system_config: SYSTEM_CONFIG.into(),
            home: home.clone(),
            is_homeless,
            user_config: folder("XDG_CONFIG_HOME", ".config").join("config.toml"),
            data: folder("XDG_DATA_HOME", ".local/share"),
            cache,
            state: folder("XDG_STATE_HOME", ".local/state"),
            runtime,
        }
    }
}

/// A folder of this user's alone, for who has no home.
fn stand_in(environment: &Environment) -> PathBuf {
    let temporary = environment.path("TMPDIR");
    let temporary = temporary.unwrap_or_else(|| PathBuf::from(HOMELESS));
    let user = rustix::process::geteuid().as_raw();
    temporary.join(format!("oriel-{user}"))
}

/// The database in a data folder.
pub(crate) fn database(data_folder: &Path) -> PathBuf {
    data_folder.join("oriel.db")
}

/// The certificate authority in a data folder.
pub(crate) fn ca_folder(data_folder: &Path) -> PathBuf {
    data_folder.join("ca")
}

/// What runs leave besides what is in the database, in a data folder.
pub(crate) fn runs_folder(data_folder: &Path) -> PathBuf {
    data_folder.join("runs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_specification() {
        let paths = Paths::of(&Environment::of(&[
            ("HOME", "/home/dana"),
            ("XDG_DATA_HOME", "/data"),
            ("XDG_CONFIG_HOME", "relative"),
        ]));
        assert_eq!(paths.data, Path::new("/data/oriel"));
        assert_eq!(
            paths.user_config,
            Path::new("/home/dana/.config/oriel/config.toml")
        );
        assert_eq!(paths.state, Path::new("/home/dana/.local/state/oriel"));
        assert_eq!(paths.runtime, Path::new("/home/dana/.cache/oriel/runs"));
        assert!(!paths.is_homeless);
    }

    #[test]
    fn who_has_no_home_has_a_folder_of_their_own() {
        let user = rustix::process::geteuid().as_raw();
        let paths = Paths::of(&Environment::default());
        assert!(paths.is_homeless);
        let expected = format!("/tmp/oriel-{user}/.local/share/oriel");
        assert_eq!(paths.data, Path::new(&expected));
    }
}
