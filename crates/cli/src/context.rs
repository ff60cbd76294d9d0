//! What every command is given: the environment, the folders, the terminal and the global options.

use std::path::PathBuf;

use crate::args::{Global, Zone};
use crate::config::layer::Layer;
use crate::environment::Environment;
use crate::own_folder;
use crate::paths::Paths;
use crate::problem::Problem;
use crate::settings::{Purpose, Settings, Sources};
use crate::shell_word::shell_word;
use crate::terminal::Terminal;

/// The surroundings of a command.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) paths: Paths,
    /// The folder that the program was started in.
    pub(crate) folder: PathBuf,
    pub(crate) terminal: Terminal,
    pub(crate) global: Global,
}

impl Context {
    pub(crate) fn new(environment: Environment, global: Global) -> Self {
        Self {
            paths: Paths::of(&environment),
            folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            terminal: Terminal::detect(&environment, global.color, global.ascii),
            environment,
            global,
        }
    }

    /// Whether JSON is asked for.
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Whether to tell how far long work is. What runs for nobody in front has no use for it.
    pub(crate) fn shows_progress(&self) -> bool {
        let is_automated = self.environment.text("CI") == Some("true");
        !self.global.quiet && !self.global.no_progress && !is_automated
    }

    /// The settings in force, or the first mistake in them.
    pub(crate) fn settings(&self, purpose: Purpose, flags: Layer) -> Result<Settings, Problem> {
        self.settings_or_all_problems(purpose, flags)
            .map_err(|problems| {
                let more = problems.len().saturating_sub(1);
                let first = problems.into_iter().next();
                let first = first.unwrap_or_else(|| Problem::bug("a mistake without a text"));
                match more {
                    0 => first,
                    _ => first.fix(format!("{}      shows {more} more", self.config_check())),
                }
            })
    }

    /// The command that looks for mistakes in the files that this one read.
    fn config_check(&self) -> String {
        match &self.global.config {
            Some(file) => {
                let file = shell_word(&file.to_string_lossy());
                format!("oriel config check --config {file}")
            }
            None => "oriel config check".to_owned(),
        }
    }

    /// The settings in force, or every mistake in them.
    pub(crate) fn settings_or_all_problems(
        &self,
        purpose: Purpose,
        flags: Layer,
    ) -> Result<Settings, Vec<Problem>> {
        if self.paths.is_homeless {
            let home = &self.paths.home;
            own_folder::claim(home)
                .map_err(|error| vec![own_folder::foreign(home, &error.to_string())])?;
        }
        Settings::load(&self.sources(), purpose, flags)
    }

    /// Where the settings are read from.
    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            environment: &self.environment,
            paths: &self.paths,
            folder: &self.folder,
            config: self.global.config.as_deref(),
            draft: None,
        }
    }

    /// The zone that people read times in.
    pub(crate) fn zone(&self) -> jiff::tz::TimeZone {
        match self.global.timezone {
            Zone::Local => jiff::tz::TimeZone::system(),
            Zone::Utc => jiff::tz::TimeZone::UTC,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_for_who_wants_to_see_it() {
        let shows = |variables: &[(&str, &str)], change: fn(&mut Global)| {
            let mut global = Global::default();
            change(&mut global);
            Context::new(Environment::of(variables), global).shows_progress()
        };
        assert!(shows(&[], |_| {}));
        assert!(shows(&[("CI", "false")], |_| {}));
        assert!(!shows(&[("CI", "true")], |_| {}));
        assert!(!shows(&[], |global| global.no_progress = true));
        assert!(!shows(&[], |global| global.quiet = true));
    }
}
