//! A URL that is asked who may use the proxy: `GET` with the password as a token, where a status of
//! the 200s admits, 401 and 403 refuse, and anything else is an error.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode, Uri};
use proxy::{Login, Verifier, VerifierError};
use rustls_pki_types::CertificateDer;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::limits::TOKEN_ANSWER_TIMEOUT;

#[derive(Debug)]
pub(crate) struct AskedUrl {
    agent: Agent,
    url: Uri,
    /// Which field carries the token; in `Authorization` it is one of Bearer (RFC 6750).
    field: HeaderName,
}

impl AskedUrl {
    /// Asks this URL, whose certificate one of the roots must vouch for. The error says what is
    /// wrong with them.
    pub(crate) fn new(
        url: &str,
        field: Option<&str>,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, String> {
        let field = field.unwrap_or("authorization");
        let field = HeaderName::from_bytes(field.as_bytes())
            .map_err(|_error| format!("{field:?} is no name of a field"))?;
        let wrong = |why: &str| format!("{url:?} cannot be asked: {why}");
        let parsed: Uri = url.parse().map_err(|_error| wrong("it is no URL"))?;
        let host = parsed.host().unwrap_or_default();
        match parsed.scheme_str() {
            Some("https") => {}
            // A token in clear is for whoever listens.
            Some("http") if is_loopback(host) => {}
            _ => {
                return Err(wrong(
                    "it begins with https://, or http:// and this machine",
                ));
            }
        }
        let roots = roots
            .iter()
            .map(|root| Certificate::from_der(root).to_owned());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // The environment may name this very proxy.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(TOKEN_ANSWER_TIMEOUT))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            url: parsed,
            field,
        })
    }

    /// What the token is carried as; `None` if no field can carry it.
    fn value(&self, login: &Login) -> Option<HeaderValue> {
        let token = login.password.reveal();
        let value = match self.field == http::header::AUTHORIZATION {
            true => HeaderValue::try_from(format!("Bearer {token}")),
            false => HeaderValue::try_from(token),
        };
        let mut value = value.ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Verifier for AskedUrl {
    fn verify<'a>(
        &'a self,
        login: &'a Login,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<bool, VerifierError>> + Send + 'a>> {
        Box::pin(async move {
            let Some(value) = self.value(login) else {
                return Ok(false);
            };
            if login.password.reveal().is_empty() {
                return Ok(false);
            }
            let asked = self.agent.get(&self.url).header(&self.field, value);
            let failed = |why: String| VerifierError(format!("{}: {why}", self.url));
            let answer = tokio::task::spawn_blocking(move || asked.call()).await;
            let answer = answer.map_err(|error| failed(error.to_string()))?;
            let status = answer.map_err(|error| failed(error.to_string()))?.status();
            match status {
                status if status.is_success() => Ok(true),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
                status => Err(failed(format!("it answered with {status}"))),
            }
        })
    }

    /// It is asked about the token alone.
    fn checks_name(&self) -> bool {
        false
    }
}

/// Whether a host of a URL is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request and gives what was asked.
    fn answering(status: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/me", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                stream.read_exact(&mut octet).unwrap();
                head.extend(octet);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        (url, asked)
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (status, expected) in [
            ("200 OK", Ok(true)),
            ("204 No Content", Ok(true)),
            ("401 Unauthorized", Ok(false)),
            ("403 Forbidden", Ok(false)),
            ("302 Found", Err(())),
            ("404 Not Found", Err(())),
            ("500 Oh", Err(())),
        ] {
            let (url, asked) = answering(status);
            let verifier = AskedUrl::new(&url, None, &[]).unwrap();
            let answer = verifier.verify(&Login::new("me", "TOKEN")).await;
            assert_eq!(answer.map_err(drop), expected, "{status}");
            let asked = asked.join().unwrap();
            assert!(asked.starts_with("get /me http/1.1\r\n"), "{asked}");
            assert!(
                asked.contains("\r\nauthorization: bearer token\r\n"),
                "{asked}"
            );
        }
    }

    #[tokio::test]
    async fn another_field_carries_the_token_alone() {
        let (url, asked) = answering("200 OK");
        let verifier = AskedUrl::new(&url, Some("Coder-Session-Token"), &[]).unwrap();
        assert!(verifier.verify(&Login::new("", "TOKEN")).await.unwrap());
        assert!(
            asked
                .join()
                .unwrap()
                .contains("\r\ncoder-session-token: token\r\n")
        );
    }

    #[tokio::test]
    async fn what_no_field_can_carry_is_refused_unasked() {
        let verifier = AskedUrl::new("http://127.0.0.1:1/", None, &[]).unwrap();
        for token in ["a\r\nX: y", ""] {
            assert!(!verifier.verify(&Login::new("me", token)).await.unwrap());
        }
        assert!(verifier.verify(&Login::new("me", "token")).await.is_err());
    }

    #[test]
    fn a_token_does_not_go_out_in_clear() {
        for (url, taken) in [
            ("https://id.example/me", true),
            ("http://localhost:9/me", true),
            ("http://[::1]:9/me", true),
            ("http://id.example/me", false),
            ("ftp://id.example/me", false),
            ("/me", false),
        ] {
            assert_eq!(AskedUrl::new(url, None, &[]).is_ok(), taken, "{url}");
        }
        assert!(AskedUrl::new("https://id.example", Some("a b"), &[]).is_err());
    }
}
