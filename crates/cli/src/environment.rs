//! The environment of the process, read once and handed on as a value, so that nothing behind it
//! depends on a global.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The variables of the process as they were when it started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Reads the variables of this process.
    pub(crate) fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        }
    }

    /// The variables without these.
    pub(crate) fn without(&self, names: &[&str]) -> Self {
        let mut variables = self.variables.clone();
        variables.retain(|name, _| !names.iter().any(|gone| name == gone));
        Self { variables }
    }

    /// The value as it is; `None` also where it is empty, which by custom means not set.
    pub(crate) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.given(name).filter(|value| !value.is_empty())
    }

    /// The value as it is, empty or not.
    pub(crate) fn given(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
    }

    /// The value if it is UTF-8 and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.raw(name)?.to_str()
    }

    /// The value as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.raw(name).map(PathBuf::from)
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The names of all variables that are UTF-8.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().filter_map(|name| name.to_str())
    }

    /// Whether colours are asked for even where no terminal is.
    pub(crate) fn forces_colour(&self) -> bool {
        ["CLICOLOR_FORCE", "FORCE_COLOR"]
            .iter()
            .any(|name| self.text(name).is_some_and(|value| value != "0"))
    }

    /// Whether only ASCII is to be printed: asked for, or the locale has no UTF-8.
    pub(crate) fn wants_ascii(&self) -> bool {
        if self.text("ORIEL_ASCII").is_some_and(|value| value != "0") {
            return true;
        }
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| self.text(name));
        // Without any of them the locale is not known: containers set none, yet take UTF-8.
        locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            !locale.contains("utf-8") && !locale.contains("utf8")
        })
    }

    /// Where a program is found on the search path.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| is_executable(path));
        }
        std::env::split_paths(self.raw("PATH")?)
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path))
    }
}

fn is_executable(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_not_set() {
        let environment = Environment::of(&[("A", ""), ("B", "1")]);
        assert!(!environment.is_set("A"));
        assert_eq!(environment.text("B"), Some("1"));
    }

    #[test]
    fn a_locale_without_utf8_wants_ascii() {
        assert!(!Environment::of(&[]).wants_ascii());
        assert!(Environment::of(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).wants_ascii());
        assert!(!Environment::of(&[("LANG", "C.utf8")]).wants_ascii());
        assert!(Environment::of(&[("ORIEL_ASCII", "1"), ("LANG", "C.UTF-8")]).wants_ascii());
    }
}
