//! A server that a URL names, asked by the HTTP interface.
//!
//! The format of the interface is <https://clickhouse.com/docs/interfaces/http>.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::limits::{
    CLICKHOUSE_ANSWER_BYTES_MAX, CLICKHOUSE_CONNECT_TIMEOUT, CLICKHOUSE_ERROR_BYTES_MAX,
    CLICKHOUSE_REQUEST_TIMEOUT,
};
use crate::{Location, StoreError};

/// The oldest server that has all that is used here: settings of single columns came with 24.1, and this is
/// the next with long-term support.
const VERSION_MIN: (u32, u32) = (24, 3);

/// Numbers of errors that lie in the content of a batch; all others may pass. They are those of
/// `ErrorCodes.cpp`: text, numbers and times that cannot be read, rows of the wrong form.
const CONTENT_ERRORS: [u32; 9] = [6, 26, 27, 38, 41, 53, 69, 72, 117];

/// A value of a query, the first of which stands as `{p1:Type}` in the SQL.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'v> {
    Text(&'v str),
    Number(i64),
}

/// A server, a database on it, and who asks. Its text form has no password.
#[derive(Clone)]
pub(super) struct Server {
    agent: Agent,
    place: String,
    /// `http://host:port/`.
    base: String,
    database: String,
    user: Option<String>,
    password: Option<String>,
}

impl Server {
    /// Reads a URL: `clickhouse://user:password@host:8123/database`, or `clickhouses://` with TLS, then
    /// with `?ca=PATH` for an authority of one's own.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let place = Location::ClickHouse(url.to_owned()).to_string();
        let bad = |detail: &str| StoreError::BadUrl {
            place: place.clone(),
            detail: detail.to_owned(),
        };
        let (base, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "clickhouse" => ("http", 8123),
            _ => ("https", 8443),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (
                Some(decoded(user).ok_or_else(|| bad("its user is no text"))?),
                Some(decoded(password).ok_or_else(|| bad("its password is no text"))?),
            ),
            None => (None, None),
        };
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        // An address of IPv6 has colons of its own, within brackets.
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let base = match has_port {
            true => format!("{scheme}://{host}/"),
            false => format!("{scheme}://{host}:{port}/"),
        };
        if base.parse::<Uri>().is_err() {
            return Err(bad("its host or port cannot be"));
        }
        let mut authority_file = None;
        for parameter in parameters.split('&').filter(|text| !text.is_empty()) {
            match parameter.split_once('=') {
                Some(("ca", path)) => authority_file = decoded(path),
                _ => return Err(bad("the only parameter it may have is ca=PATH")),
            }
        }
        let database = decoded(path).ok_or_else(|| bad("its database is no text"))?;
        Ok(Self {
            agent: agent(authority_file.as_deref()).map_err(|detail| bad(&detail))?,
            place,
            base,
            database: if database.is_empty() {
                "default".to_owned()
            } else {
                database
            },
            user,
            password,
        })
    }

    /// The URL without its password and parameters.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Whether the server answers, and is new enough.
    pub(super) fn check_version(&self) -> Result<(), StoreError> {
        #[derive(serde::Deserialize)]
        struct Version {
            version: String,
        }
        let Version { version } = self.one("SELECT version() AS version", &[])?;
        let mut numbers = version.split('.').map_while(|part| part.parse().ok());
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < VERSION_MIN {
            return Err(StoreError::BadUrl {
                place: self.place.clone(),
                detail: format!(
                    "it is ClickHouse {version}, and {}.{} or newer is needed",
                    VERSION_MIN.0, VERSION_MIN.1
                ),
            });
        }
        Ok(())
    }

    /// Runs a statement that answers nothing.
    pub(super) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
        self.send(&[], values, sql.as_bytes()).map(drop)
    }

    /// Runs an `INSERT … FORMAT …` with rows; it is durable when this returns.
    pub(super) fn insert(&self, sql: &str, rows: &[u8]) -> Result<(), StoreError> {
        let settings = [
            ("query", sql),
            // A batch of imported flows may be of many days.
            ("max_partitions_per_insert_block", "0"),
            ("async_insert", "0"),
            // On a cluster, the shards have the rows when this returns.
            ("distributed_foreground_insert", "1"),
        ];
        self.send(&settings, &[], rows).map(drop)
    }

    /// Runs an `INSERT … SELECT …`; it is durable when this returns. Of rows that were written again only the
    /// last is read.
    pub(super) fn write_again(&self, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
        let settings = [
            ("final", "1"),
            ("do_not_merge_across_partitions_select_final", "1"),
            ("distributed_product_mode", "global"),
            ("max_partitions_per_insert_block", "0"),
            ("async_insert", "0"),
            ("distributed_foreground_insert", "1"),
        ];
        self.send(&settings, values, sql.as_bytes()).map(drop)
    }

    /// The rows of a `SELECT`. Of rows that were written again only the last is seen.
    pub(super) fn rows<T: DeserializeOwned>(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<Vec<T>, StoreError> {
        let settings = [
            ("default_format", "JSONEachRow"),
            ("final", "1"),
            ("do_not_merge_across_partitions_select_final", "1"),
            // On a cluster, what a query asks within itself is of all shards.
            ("distributed_product_mode", "global"),
            ("output_format_json_quote_64bit_integers", "0"),
            ("output_format_json_escape_forward_slashes", "0"),
        ];
        let mut answer = self.send(&settings, values, sql.as_bytes())?;
        let mut text = Vec::new();
        answer
            .body_mut()
            .as_reader()
            .take(CLICKHOUSE_ANSWER_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|error| self.unavailable(error))?;
        let rows = serde_json::Deserializer::from_slice(&text).into_iter();
        rows.collect::<Result<_, _>>()
            .map_err(|error| StoreError::Damaged {
                detail: format!("{} answers what it should not: {error}", self.place),
            })
    }

    /// The first row of a `SELECT` that answers one.
    pub(super) fn one<T: DeserializeOwned>(
        &self,
        sql: &str,
        values: &[Value<'_>],
    ) -> Result<T, StoreError> {
        let first = self.rows(sql, values)?.into_iter().next();
        first.ok_or_else(|| StoreError::Damaged {
            detail: format!("{} answers nothing", self.place),
        })
    }

    fn send(
        &self,
        settings: &[(&str, &str)],
        values: &[Value<'_>],
        body: &[u8],
    ) -> Result<Response<ureq::Body>, StoreError> {
        let mut request = self
            .agent
            .post(&self.base)
            .query("database", &self.database);
        // The status is known before the end of the answer only if the server waits for that.
        request = request.query("wait_end_of_query", "1");
        for (name, value) in settings {
            request = request.query(name, value);
        }
        for (number, value) in (1..).zip(values) {
            request = request.query(format!("param_p{number}"), value.parameter());
        }
        if let Some(user) = &self.user {
            request = request.header("X-ClickHouse-User", user);
        }
        if let Some(password) = &self.password {
            request = request.header("X-ClickHouse-Key", password);
        }
        let mut answer = request
            .send(body)
            .map_err(|error| self.unavailable(error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let mut said = Vec::new();
        // What cannot be read of the reason is left out; the status is known.
        let _read = answer
            .body_mut()
            .as_reader()
            .take(CLICKHOUSE_ERROR_BYTES_MAX)
            .read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        let said = said.trim();
        match error_number(said) {
            Some(number) if CONTENT_ERRORS.contains(&number) => Err(StoreError::NotStorable {
                detail: said.to_owned(),
            }),
            Some(_) => Err(self.unavailable(said.to_owned())),
            None => Err(self.unavailable(format!("it answers {status}: {said}"))),
        }
    }

    fn unavailable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Unavailable {
            place: self.place.clone(),
            source: source.into(),
        }
    }
}

impl Value<'_> {
    /// As a parameter of a request: a text is escaped as in the format TabSeparated.
    fn parameter(self) -> String {
        let text = match self {
            Self::Number(number) => return number.to_string(),
            Self::Text(text) => text,
        };
        let mut escaped = String::with_capacity(text.len());
        for letter in text.chars() {
            match letter {
                '\\' => escaped.push_str("\\\\"),
                '\t' => escaped.push_str("\\t"),
                '\n' => escaped.push_str("\\n"),
                '\r' => escaped.push_str("\\r"),
                '\0' => escaped.push_str("\\0"),
                letter => escaped.push(letter),
            }
        }
        escaped
    }
}

/// Who asks over HTTP, and whom it trusts: the authority in a file, or those of the system.
fn agent(authority: Option<&str>) -> Result<Agent, String> {
    let roots: Vec<CertificateDer<'static>> = match authority {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| format!("{path} has no certificates that can be read: {error}"))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let roots = roots
        .iter()
        .map(|root| Certificate::from_der(root).to_owned());
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        // The environment may name this very proxy.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_connect(Some(CLICKHOUSE_CONNECT_TIMEOUT))
        .timeout_global(Some(CLICKHOUSE_REQUEST_TIMEOUT))
        .build();
    Ok(config.new_agent())
}

/// The number in `Code: 60. DB::Exception: …`.
fn error_number(said: &str) -> Option<u32> {
    let digits = said.split_once("Code: ")?.1;
    let end = digits.find(|letter: char| !letter.is_ascii_digit())?;
    digits.get(..end)?.parse().ok()
}

/// Percent-decoded (RFC 3986 section 2.1); `None` if that is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        rest = after;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.place).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let server = Server::parse("clickhouse://me:p%40ss@db.example/flows").unwrap();
        assert_eq!(server.base, "http://db.example:8123/");
        assert_eq!(server.database, "flows");
        assert_eq!(server.user.as_deref(), Some("me"));
        assert_eq!(server.password.as_deref(), Some("p@ss"));
        assert!(!format!("{server:?}").contains("p@ss"));
        for (url, base) in [
            ("clickhouse://h:9", "http://h:9/"),
            ("clickhouses://h", "https://h:8443/"),
            ("clickhouse://[::1]", "http://[::1]:8123/"),
            ("clickhouse://[::1]:7/d", "http://[::1]:7/"),
        ] {
            assert_eq!(Server::parse(url).unwrap().base, base, "{url}");
        }
        for url in [
            "clickhouse://",
            "clickhouse:///d",
            "clickhouse://a b/d",
            "clickhouse://h/d?secure=1",
            "clickhouse://%zz@h/d",
            "clickhouses://h/d?ca=/nowhere/ca.pem",
        ] {
            let error = Server::parse(url).unwrap_err();
            assert!(matches!(error, StoreError::BadUrl { .. }), "{url}: {error}");
        }
    }

    #[test]
    fn errors_are_told_apart() {
        assert_eq!(error_number("Code: 60. DB::Exception: no"), Some(60));
        assert_eq!(error_number("<html>Code"), None);
        assert_eq!(Value::Text("a\\b\tc\n\0'").parameter(), "a\\\\b\\tc\\n\\0'");
    }
}
