//! Where a record is: a SQLite file, or the URL of an archive.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::archive::FileArchive;
use crate::clickhouse::ClickHouseArchive;
use crate::postgres::PostgresArchive;
use crate::{Archive, StoreError};

/// Where a record is.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file.
    File(PathBuf),
    /// PostgreSQL: `postgres://` or `postgresql://`, with user, password, host, port, database and
    /// parameters as libpq has them.
    Postgres(String),
    /// ClickHouse by its HTTP interface: `clickhouse://user:password@host:8123/database`, or
    /// `clickhouses://` with TLS.
    ClickHouse(String),
}

/// A text that is no location.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{scheme}:// is not a database that can be used: give a file, postgres://, clickhouse:// or clickhouses://"
)]
pub struct UnknownLocation {
    /// The scheme of the URL.
    pub scheme: String,
}

impl Location {
    /// Whether several oriels may write there.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Opens it for writing.
    pub fn open_archive(&self) -> Result<Box<dyn Archive>, StoreError> {
        match self {
            Self::File(path) => Ok(Box::new(FileArchive::open(path)?)),
            Self::Postgres(url) => Ok(Box::new(PostgresArchive::connect(url)?)),
            Self::ClickHouse(url) => Ok(Box::new(ClickHouseArchive::connect(url)?)),
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Postgres(_) | Self::ClickHouse(_) => None,
        }
    }
}

impl FromStr for Location {
    type Err = UnknownLocation;

    /// A URL, or else a path. `sqlite:PATH` and `file:PATH` are paths too.
    fn from_str(text: &str) -> Result<Self, UnknownLocation> {
        let Some((scheme, _)) = text.split_once("://") else {
            let path = text
                .strip_prefix("sqlite:")
                .or_else(|| text.strip_prefix("file:"));
            return Ok(Self::File(PathBuf::from(path.unwrap_or(text))));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "postgres" | "postgresql" => Ok(Self::Postgres(text.to_owned())),
            "clickhouse" | "clickhouses" => Ok(Self::ClickHouse(text.to_owned())),
            "sqlite" | "file" => {
                let (_, path) = text.split_once("://").unwrap_or_default();
                Ok(Self::File(PathBuf::from(path)))
            }
            scheme => Err(UnknownLocation {
                scheme: scheme.to_owned(),
            }),
        }
    }
}

/// The name of the place: files know an archive by it. It has no password, and of the parameters, which
/// may hold one too, those alone that say which place it is.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Postgres(url) => write!(f, "{}{}", without_password(url), place_of(url)),
            Self::ClickHouse(url) => f.write_str(&without_password(url)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

/// Parameters of a PostgreSQL URL that say where tables are: the server, the database, and the schema, which
/// `options` may say too. In this order, whatever that of the URL is.
const PLACE_PARAMETERS: [&str; 6] = ["host", "hostaddr", "port", "dbname", "options", "schema"];

/// These of its parameters, with `?`; nothing if it has none.
fn place_of(url: &str) -> String {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let mut place = String::new();
    for known in PLACE_PARAMETERS {
        for (name, value) in parameters
            .split('&')
            .filter_map(|text| text.split_once('='))
        {
            if name == known && !value.is_empty() {
                place.push(if place.is_empty() { '?' } else { '&' });
                place.push_str(name);
                place.push('=');
                place.push_str(value);
            }
        }
    }
    place
}

fn without_password(url: &str) -> String {
    let url = url
        .find(['?', '#'])
        .and_then(|end| url.get(..end))
        .unwrap_or(url);
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // A password may hold an @ that was not encoded: what follows the last one is the host.
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split_once(':').map_or(user, |(user, _)| user);
            format!("{scheme}://{user}@{host}{path}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_paths_are_told_apart() {
        let file = |path: &str| Ok(Location::File(PathBuf::from(path)));
        for (text, expected) in [
            ("/data/oriel.db", file("/data/oriel.db")),
            ("oriel.db", file("oriel.db")),
            ("sqlite:///data/oriel.db", file("/data/oriel.db")),
            ("sqlite:data/oriel.db", file("data/oriel.db")),
            ("file:/data/oriel.db", file("/data/oriel.db")),
            (
                "postgres://h/d",
                Ok(Location::Postgres("postgres://h/d".to_owned())),
            ),
            (
                "PostgreSQL://h/d",
                Ok(Location::Postgres("PostgreSQL://h/d".to_owned())),
            ),
            (
                "clickhouses://h",
                Ok(Location::ClickHouse("clickhouses://h".to_owned())),
            ),
            (
                "mysql://h",
                Err(UnknownLocation {
                    scheme: "mysql".to_owned(),
                }),
            ),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for (url, shown) in [
            (
                "postgres://u:secret@h:5432/d?password=secret",
                "postgres://u@h:5432/d",
            ),
            ("postgres://u:se@cret@h/d", "postgres://u@h/d"),
            ("clickhouse://h:8123/d", "clickhouse://h:8123/d"),
            ("postgres://u@h", "postgres://u@h"),
            (
                "postgres:///d?password=secret&schema=a&sslmode=require&host=%2Frun%2Fpg",
                "postgres:///d?host=%2Frun%2Fpg&schema=a",
            ),
            ("postgres://h/d?sslmode=require", "postgres://h/d"),
            ("postgres://h/d?schema=&schema", "postgres://h/d"),
            (
                "clickhouse://u:secret@h/d?ca=/secret.pem",
                "clickhouse://u@h/d",
            ),
        ] {
            let location: Location = url.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert!(!format!("{location:?}").contains("secret"));
        }
    }
}
