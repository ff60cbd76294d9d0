//! `DATABASE_URL` as a source of settings, the weakest one: where it names a PostgreSQL, a service
//! copies its flows there.

use std::collections::BTreeMap;

use super::file::ConfigFile;
use super::layer::{Layer, Origin, wrong_variable};
use super::values::ArchiveChoice;
use crate::environment::Environment;
use crate::problem::Problem;

/// The variable.
pub(crate) const DATABASE_URL: &str = "DATABASE_URL";

/// What it says; nothing if it names a database of another kind, which is then not for us.
pub(crate) fn database_variable(environment: &Environment) -> Result<Option<Layer>, Problem> {
    let Some(text) = environment.text(DATABASE_URL) else {
        return Ok(None);
    };
    let scheme = text.trim().split_once("://").map(|(scheme, _)| scheme);
    let is_postgres = scheme.is_some_and(|scheme| {
        ["postgres", "postgresql"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    });
    if !is_postgres {
        return Ok(None);
    }
    let url: ArchiveChoice = text.parse().map_err(|error: super::values::ArchiveError| {
        wrong_variable(DATABASE_URL, "…", &error.to_string())
    })?;
    let mut values = ConfigFile::default();
    values.database.url = Some(url);
    let origin = Origin::Variable(DATABASE_URL);
    let origins = BTreeMap::from([("database.url".to_owned(), origin)]);
    Ok(Some(Layer { values, origins }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgres_is_taken() {
        let of = |text| {
            let environment = Environment::of(&[(DATABASE_URL, text)]);
            let layer = database_variable(&environment).unwrap()?;
            layer.values.database.url.map(|url| url.to_string())
        };
        for text in ["mysql://u:p@h/d", "file:dev.db", "", "sqlite:/x.db"] {
            assert_eq!(of(text), None, "{text}");
        }
        let shown = of("postgresql://u:p@h/d?password=p").unwrap();
        assert_eq!(shown, "postgresql://u@h/d");
    }
}
