//! One source of settings, and which source a setting is taken from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::config::file::ConfigFile;
use crate::config::keys::{Form, KEYS, Key};
use crate::config::read::ReadFile;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::problem::{Excerpt, Problem};

/// What one source sets, and where exactly it does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) values: ConfigFile,
    pub(crate) origins: BTreeMap<String, Origin>,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    File { path: PathBuf, line: usize },
    Default,
}

/// A value in force and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Setting<T> {
    /// What is in force where no source says anything.
    pub(crate) fn of_default(value: T) -> Self {
        Self {
            value,
            origin: Origin::Default,
        }
    }
}

impl Layer {
    /// What the flags set.
    pub(crate) fn of_flags(values: ConfigFile, origins: BTreeMap<String, Origin>) -> Self {
        Self { values, origins }
    }

    /// What a file sets. Paths in it are meant from its own folder on; `~` is the home.
    pub(crate) fn of_file(file: &ReadFile, home: &Path) -> Self {
        let origin = |span: &std::ops::Range<usize>| Origin::File {
            path: file.path.clone(),
            line: Excerpt::of("", &file.text, span.clone()).line_number,
        };
        let mut values = file.values.clone();
        let folder = file.path.parent().unwrap_or_else(|| Path::new(""));
        values.place_paths(folder, home);
        Self {
            values,
            origins: file
                .spans
                .iter()
                .map(|(path, span)| (path.clone(), origin(span)))
                .collect(),
        }
    }

    /// What the environment sets, and every mistake in it.
    pub(crate) fn of_environment(environment: &Environment) -> (Self, Vec<Problem>) {
        let mut layer = Self::default();
        let mut problems = Vec::new();
        for key in KEYS {
            let set = key.variables.iter().find(|name| environment.is_set(name));
            if let Some(name) = set {
                problems.extend(layer.set_variable(key, name, environment).err());
            }
        }
        (layer, problems)
    }

    fn set_variable(
        &mut self,
        key: &Key,
        name: &'static str,
        environment: &Environment,
    ) -> Result<(), Problem> {
        let text = environment
            .text(name)
            .ok_or_else(|| wrong_variable(name, "…", "it is not UTF-8"))?;
        let shown = if key.may_be_secret() { "…" } else { text };
        let value = value_of(key.form, text)
            .ok_or_else(|| wrong_variable(name, shown, key.form.describe()))?;
        let one = document(key.path, value)
            .try_into::<ConfigFile>()
            .map_err(|error| wrong_variable(name, shown, error.message().trim()))?;
        self.values.take_from(one);
        self.origins
            .insert(key.path.to_owned(), Origin::Variable(name));
        Ok(())
    }
}

impl Form {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Text => "it must be a text",
            Self::Texts => "it must be texts with commas between them",
            Self::Numbers => "it must be whole numbers with commas between them",
            Self::Number => "it must be a whole number",
            Self::Switch => "it must be true, false, 1 or 0",
        }
    }
}

pub(super) fn value_of(form: Form, text: &str) -> Option<Value> {
    let parts = || {
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    };
    let number = |text: &str| text.trim().parse().ok().map(Value::Integer);
    match form {
        Form::Text => Some(Value::String(text.to_owned())),
        Form::Texts => Some(parts().map(Value::from).collect::<Vec<_>>().into()),
        Form::Numbers => parts()
            .map(number)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        Form::Number => number(text),
        Form::Switch => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "yes" => Some(true.into()),
            "false" | "0" | "off" | "no" => Some(false.into()),
            _ => None,
        },
    }
}

/// The document that has only this value.
fn document(path: &str, value: Value) -> toml::Table {
    let (section, key) = path.split_once('.').unwrap_or((path, ""));
    let inner = toml::Table::from_iter([(key.to_owned(), value)]);
    toml::Table::from_iter([(section.to_owned(), Value::Table(inner))])
}

pub(super) fn wrong_variable(name: &str, text: &str, why: &str) -> Problem {
    Problem::new(
        "ORL0405",
        Exit::Usage,
        format!("{name} has a wrong value: {text:?}"),
    )
    .why(why)
    .fix(format!("unset {name}"))
}

impl ConfigFile {
    /// Makes paths independent of the folder that the program is started in.
    fn place_paths(&mut self, folder: &Path, home: &Path) {
        let on_listener = self.proxy.reverse.iter_mut().flatten();
        let tls = self.proxy.tls.iter_mut();
        let tls = tls.chain(on_listener.filter_map(|reverse| reverse.tls.as_mut()));
        let users = self.proxy.auth.iter_mut();
        let users = users.map(|auth| &mut auth.users_file);
        let tokens = self.gateway.routes.iter_mut().flatten();
        let tokens = tokens.map(|route| &mut route.token_file);
        let in_tls = tls.flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        let single = [
            &mut self.proxy.unix,
            &mut self.ca.certificate,
            &mut self.ca.key,
            &mut self.store.data_folder,
            &mut self.upstream_proxy.ca,
            &mut self.upstream_proxy.credentials_file,
        ];
        let listed = self.upstream.ca_files.iter_mut().flatten();
        let shown = self.upstream.client_certificates.iter_mut().flatten();
        let shown = shown.flat_map(|shown| [&mut shown.certificate, &mut shown.key]);
        let routes = self.upstream_proxy.routes.iter_mut().flatten();
        let of_routes = routes.flat_map(|route| [&mut route.ca, &mut route.credentials_file]);
        let single = single
            .into_iter()
            .chain(in_tls)
            .chain(users)
            .chain(of_routes)
            .chain(tokens)
            .flatten();
        for path in single.chain(listed).chain(shown) {
            *path = match path.strip_prefix("~") {
                Ok(below_home) => home.join(below_home),
                Err(_) => folder.join(&*path),
            };
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "env {name}"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_reaches_its_key() {
        for key in KEYS {
            let text = match key.path {
                "proxy.listen" | "admin.listen" => "127.0.0.1:1",
                "proxy.credentials" | "upstream_proxy.credentials" => "me:secret",
                "intercept.unlisted" => "block",
                "upstream.private_reach" => "none",
                "intercept.sni_mismatch" => "deny",
                "tls.min_version" => "1.3",
                "intercept.auto_bypass" => "host",
                "intercept.auto_bypass_for" => "1s",
                "capture.redact" => "none",
                "capture.body_bytes_kept" | "retention.max_size" => "1MiB",
                "retention.keep" | "retention.keep_bodies" | "database.local_keep" => "1d",
                "database.overflow" => "block",
                "retention.tags" => "scratch=1d",
                "database.url" => "postgres://db.test/oriel",
                "log.format" => "json",
                path if path.starts_with("timeouts.") || path == "pool.idle" => "1s",
                _ => match key.form {
                    Form::Switch => "true",
                    _ => "1",
                },
            };
            for name in key.variables {
                let environment = Environment::of(&[(name, text)]);
                let layer = Layer::of_environment(&environment).0;
                let written = Value::try_from(&layer.values).unwrap();
                let (section, inner) = key.path.split_once('.').unwrap();
                let got = written.get(section).and_then(|section| section.get(inner));
                assert!(got.is_some(), "{name} is not read into {}", key.path);
                assert_eq!(layer.origins[key.path], Origin::Variable(name));
            }
        }
    }

    #[test]
    fn paths_in_a_file_are_meant_from_its_folder() {
        let text = "[ca]\ncertificate = \"ca.pem\"\nkey = \"/etc/key.pem\"\n\
            [store]\ndata_folder = \"~/data\"\n[upstream]\nca_files = [\"x/y.pem\"]\n";
        let file = crate::config::read::parse(Path::new("/conf/config.toml"), text.to_owned());
        let values = Layer::of_file(&file.file.unwrap(), Path::new("/home/dana")).values;
        assert_eq!(values.ca.certificate.unwrap(), Path::new("/conf/ca.pem"));
        assert_eq!(values.ca.key.unwrap(), Path::new("/etc/key.pem"));
        assert_eq!(
            values.store.data_folder.unwrap(),
            Path::new("/home/dana/data")
        );
        assert_eq!(
            values.upstream.ca_files.unwrap(),
            [Path::new("/conf/x/y.pem")]
        );
    }

    #[test]
    fn lists_have_commas() {
        let environment = Environment::of(&[("ALLOWLIST_HOSTS", "a.test, *.b.test,")]);
        let layer = Layer::of_environment(&environment).0;
        let hosts = layer.values.intercept.hosts.unwrap();
        assert_eq!(hosts, ["a.test", "*.b.test"]);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let environment = Environment::of(&[("ORIEL_CAPTURE", "maybe"), ("ORIEL_LISTEN", "x")]);
        let (_, problems) = Layer::of_environment(&environment);
        assert_eq!(problems.len(), 2, "{problems:?}");
        let problem = problems.last().unwrap();
        assert_eq!(problem.code, "ORL0405");
        assert!(problem.what.contains("ORIEL_CAPTURE"), "{}", problem.what);
    }
}
