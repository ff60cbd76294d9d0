//! Connecting to a PostgreSQL server that a URL names, and what its errors mean.
//!
//! Besides what the client library knows, a URL may say `sslmode=verify-ca`, `verify-full` and
//! `sslrootcert=PATH`, as libpq has them, and `schema=NAME`, `connection_limit=NUMBER` and
//! `pool_timeout=SECONDS`, as other programs that read `DATABASE_URL` have them (Prisma, "Connection URLs").

use std::path::PathBuf;
use std::time::Duration;

use postgres::error::{DbError, SqlState};
use postgres::{Client, Config, NoTls};

use super::tls::{self, Roots, Verify};
use crate::limits::{
    POSTGRES_CONNECT_TIMEOUT, POSTGRES_CONNECTIONS_MAX, POSTGRES_LOCK_TIMEOUT,
    POSTGRES_POOL_TIMEOUT, POSTGRES_STATEMENT_TIMEOUT,
};
use crate::{Location, StoreError};

/// The oldest server that has all that the schema uses, as it numbers itself.
const VERSION_MIN: i32 = 120_000;

/// Parameters that other programs put into a URL and that mean nothing here.
const IGNORED: [&str; 4] = [
    "fallback_application_name",
    "gssencmode",
    "pgbouncer",
    "sslsni",
];

/// The settings of a connection that writes. What is acknowledged is durable, whatever the server does for
/// others. What a batch asks for is looked up by indexes, however few rows the planner takes a table to
/// have. New words wait beside their index until [`super::words`] puts them there; searches read what waits.
/// Should they come to 64 MB, who writes does it, each once for all its flows, in memory of the server. What
/// does not fit into a row is compressed by LZ4 where the server has it, in a fraction of the time of its own
/// method.
const WRITER: &str = "SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') = 'off';
   SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
   SET gin_pending_list_limit = '64MB'; SET work_mem = '64MB';
   SELECT set_config(name, 'lz4', false) FROM pg_settings
     WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals);";

/// A server that a URL names. Its text form has no password.
#[derive(Clone, Debug)]
pub(super) struct Server {
    place: String,
    config: Config,
    /// `None`: without TLS.
    verify: Option<Verify>,
    schema: Option<String>,
    /// Connections at once.
    connection_limit: usize,
    /// How long to wait for one of them; `None`: for as long as it takes.
    pool_timeout: Option<Duration>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
    /// To look for what goes, in all of it, and to remove it.
    Remove,
}

impl Server {
    /// Reads a URL.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let place = Location::Postgres(url.to_owned()).to_string();
        let bad = |detail: String| StoreError::BadUrl {
            place: place.clone(),
            detail,
        };
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (mut kept, mut mode, mut root, mut schema) = (Vec::new(), None, None, None);
        let mut connection_limit = POSTGRES_CONNECTIONS_MAX;
        let mut pool_timeout = Some(POSTGRES_POOL_TIMEOUT);
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = || decoded(value).ok_or_else(|| bad(format!("{name} is no text")));
            match name {
                "sslmode" => mode = Some(value()?),
                "sslrootcert" => root = Some(value()?),
                "schema" => schema = Some(value()?),
                "connection_limit" => {
                    let limit = value()?.parse().ok().filter(|limit| *limit > 0);
                    connection_limit = limit.ok_or_else(|| {
                        bad(
                            "connection_limit is to be a number of connections, 1 or more"
                                .to_owned(),
                        )
                    })?;
                }
                "pool_timeout" => {
                    let seconds = value()?.parse::<u32>().map_err(|error| {
                        bad(format!(
                            "pool_timeout is to be a number of seconds, 0 for no limit: {error}"
                        ))
                    })?;
                    let timeout = Duration::from_secs(seconds.into());
                    pool_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
                }
                name if IGNORED.contains(&name) => {}
                _ => kept.push(parameter),
            }
        }
        let roots = match root.as_deref() {
            None | Some("system") => Roots::System,
            Some(path) => Roots::File(PathBuf::from(path)),
        };
        let verify = match mode.as_deref() {
            Some("disable") => None,
            // As with libpq, an authority that is named is asked.
            None | Some("allow" | "prefer" | "require") => Some(match root {
                Some(_) if mode.as_deref() == Some("require") => Verify::Authority(roots),
                _ => Verify::DangerNothing,
            }),
            Some("verify-ca") => Some(Verify::Authority(roots)),
            Some("verify-full") => Some(Verify::Full(roots)),
            Some(other) => {
                return Err(bad(format!(
                    "sslmode is {other}: it may be disable, prefer, require, verify-ca or verify-full"
                )));
            }
        };
        let url = format!("{base}?{}", kept.join("&"));
        let mut config: Config = url.parse().map_err(|error| bad(text(&error)))?;
        config.ssl_mode(match (&verify, mode.as_deref()) {
            (None, _) => postgres::config::SslMode::Disable,
            (_, None | Some("allow" | "prefer")) => postgres::config::SslMode::Prefer,
            _ => postgres::config::SslMode::Require,
        });
        config.application_name("oriel");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(POSTGRES_CONNECT_TIMEOUT);
        }
        // A peer that does not answer any more is noticed within this.
        config.tcp_user_timeout(POSTGRES_STATEMENT_TIMEOUT);
        Ok(Self {
            place,
            config,
            verify,
            schema,
            connection_limit,
            pool_timeout,
        })
    }

    /// The URL without what is secret, as [`Location`] shows it.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// How many connections there may be at once, 1 or more.
    pub(super) fn connection_limit(&self) -> usize {
        self.connection_limit
    }

    /// How long to wait for one of them; `None`: for as long as it takes.
    pub(super) fn pool_timeout(&self) -> Option<Duration> {
        self.pool_timeout
    }

    /// Connects.
    pub(super) fn connect(&self, purpose: Purpose) -> Result<Client, StoreError> {
        let connected = match &self.verify {
            None => self.config.connect(NoTls),
            Some(verify) => {
                let connector = tls::connector(verify).map_err(|detail| StoreError::BadUrl {
                    place: self.place.clone(),
                    detail,
                })?;
                self.config.connect(connector)
            }
        };
        let failed = |error| self.failed(error);
        let mut client = connected.map_err(failed)?;
        client
            .batch_execute(&self.session(purpose))
            .map_err(failed)?;
        let about = client
            .query_one(
                "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')",
                &[],
            )
            .map_err(failed)?;
        let (version, encoding): (i32, String) = (about.get(0), about.get(1));
        if version < VERSION_MIN {
            return Err(self.unfit(format!(
                "it is PostgreSQL {}, and 12 or newer is needed",
                version / 10_000
            )));
        }
        if encoding != "UTF8" {
            return Err(self.unfit(format!("its encoding is {encoding}, and UTF8 is needed")));
        }
        Ok(client)
    }

    /// What an error of the server, or of the way there, means.
    pub(super) fn failed(&self, error: postgres::Error) -> StoreError {
        let Some(code) = error.code() else {
            // Not the server's: the connection broke, or could not be made.
            return StoreError::Unavailable {
                place: self.place.clone(),
                source: Box::new(error),
            };
        };
        let kind = code.code().get(..2).unwrap_or_default();
        let is_temporary = [
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_FUNCTION,
        ]
        .contains(code);
        // Classes of PostgreSQL's appendix A: what may pass, and what lies in the content.
        match kind {
            "08" | "25" | "28" | "3D" | "3F" | "40" | "53" | "55" | "57" | "58" | "XX" => {
                self.unavailable(error)
            }
            _ if is_temporary => self.unavailable(error),
            "21" | "22" | "23" | "54" => StoreError::NotStorable {
                detail: error.as_db_error().map_or_else(String::new, sentence),
            },
            _ => StoreError::Io {
                source: Box::new(error),
            },
        }
    }

    /// What an error of sending rows means.
    pub(super) fn broken(&self, error: std::io::Error) -> StoreError {
        match error.downcast::<postgres::Error>() {
            Ok(error) => self.failed(error),
            Err(error) => StoreError::Unavailable {
                place: self.place.clone(),
                source: Box::new(error),
            },
        }
    }

    fn unavailable(&self, error: postgres::Error) -> StoreError {
        let source: Box<dyn std::error::Error + Send + Sync> = match error.as_db_error() {
            Some(said) => sentence(said).into(),
            None => Box::new(error),
        };
        StoreError::Unavailable {
            place: self.place.clone(),
            source,
        }
    }

    /// All connections were in use all the time.
    pub(super) fn exhausted(&self) -> StoreError {
        let limit = self.connection_limit;
        let seconds = self.pool_timeout.unwrap_or_default().as_secs();
        let all = match limit {
            1 => "the one connection to it was".to_owned(),
            _ => format!("all {limit} connections to it were"),
        };
        StoreError::Unavailable {
            place: self.place.clone(),
            source: format!(
                "{all} in use for {seconds} s; connection_limit and pool_timeout in its URL change that"
            )
            .into(),
        }
    }

    fn unfit(&self, detail: String) -> StoreError {
        StoreError::BadUrl {
            place: self.place.clone(),
            detail,
        }
    }

    /// The settings of a connection. A writer that waits for a lock for long fails, and tries again
    /// later; what it began is undone.
    pub(super) fn session(&self, purpose: Purpose) -> String {
        let statement = POSTGRES_STATEMENT_TIMEOUT.as_millis();
        let mut sql = format!(
            "SET statement_timeout = {statement}; SET idle_in_transaction_session_timeout = {statement};
             SET lock_timeout = {}; SET TimeZone = 'UTC'; SET client_min_messages = warning;",
            POSTGRES_LOCK_TIMEOUT.as_millis(),
        );
        sql.push_str(match purpose {
            Purpose::Read => "SET default_transaction_read_only = on;",
            Purpose::Write => WRITER,
            // Reading all of a large archive takes as long as it takes, and holds no lock.
            Purpose::Remove => "SET statement_timeout = 0;",
        });
        if let Some(schema) = &self.schema {
            let quoted = schema.replace('"', "\"\"");
            sql.push_str(&format!("SET search_path = \"{quoted}\";"));
        }
        sql
    }
}

/// What a server said, in one sentence.
fn sentence(said: &DbError) -> String {
    let mut text = said.message().to_owned();
    for more in [said.detail(), said.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}

/// An error with what caused it.
fn text(error: &postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A text with its percent-encoded bytes decoded (RFC 3986 section 2.1); `None` if it is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let digits = after
            .get(..2)
            .and_then(|digits| str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(decoded) if *byte == b'%' => {
                bytes.push(decoded);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &str) -> Result<Server, StoreError> {
        Server::parse(&format!("postgresql://u:secret@db.test:5432/d{parameters}"))
    }

    #[test]
    fn what_is_verified_follows_sslmode_as_with_libpq() {
        use postgres::config::SslMode::{Disable, Prefer, Require};
        let file = || Roots::File(PathBuf::from("/tmp/a b.pem"));
        for (parameters, mode, verify) in [
            ("", Prefer, Some(Verify::DangerNothing)),
            ("?sslmode=disable", Disable, None),
            (
                "?sslmode=prefer&sslrootcert=/x",
                Prefer,
                Some(Verify::DangerNothing),
            ),
            ("?sslmode=require", Require, Some(Verify::DangerNothing)),
            (
                "?sslmode=require&sslrootcert=%2Ftmp%2fa%20b.pem",
                Require,
                Some(Verify::Authority(file())),
            ),
            (
                "?sslmode=verify-ca",
                Require,
                Some(Verify::Authority(Roots::System)),
            ),
            (
                "?application_name=x&sslrootcert=/tmp/a%20b.pem&sslmode=verify-full",
                Require,
                Some(Verify::Full(file())),
            ),
        ] {
            let server = parse(parameters).unwrap();
            assert_eq!(server.verify, verify, "{parameters}");
            assert_eq!(server.config.get_ssl_mode(), mode, "{parameters}");
            assert_eq!(server.place(), "postgresql://u@db.test:5432/d");
        }
    }

    #[test]
    fn parameters_of_other_programs_are_understood_or_named() {
        let server = parse("?schema=team%22a&connection_limit=5&connect_timeout=3").unwrap();
        assert!(
            server
                .session(Purpose::Read)
                .contains("search_path = \"team\"\"a\"")
        );
        assert_eq!(server.connection_limit(), 5);
        assert_eq!(server.pool_timeout(), Some(POSTGRES_POOL_TIMEOUT));
        let server = parse("?pool_timeout=0").unwrap();
        assert_eq!(server.connection_limit(), POSTGRES_CONNECTIONS_MAX);
        assert_eq!(server.pool_timeout(), None);
        for (parameters, part) in [
            ("?connection_limit=0", "connection_limit is to be"),
            ("?connection_limit=many", "connection_limit is to be"),
            ("?pool_timeout=-1", "pool_timeout is to be"),
            ("?sslmode=sometimes", "sslmode is sometimes"),
            ("?colour=blue", "colour"),
            ("?sslrootcert=%ff", "sslrootcert"),
        ] {
            let error = parse(parameters).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
            assert!(!format!("{error:?}").contains("secret"));
        }
    }
}
