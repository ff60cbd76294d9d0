//! The last flight of a handshake of TLS 1.3, which leaves together with the first bytes of the
//! application. By itself it is a packet, which costs a system call here and wakes a peer that waits for
//! something else.
//!
//! Of a client that is its Finished, with its certificate where one was asked for (RFC 8446 section 2),
//! of a server the session tickets: it may send them at any time (section 4.6.1), and rustls does when
//! the handshake ends.
//!
//! The wire sees ciphertext alone. What is encrypted from its first record on, but for the
//! change_cipher_spec that old middleboxes want to see, is the last flight if it comes when all that
//! was to be written before was, and the peer has said something since: before that a client has sent a
//! ClientHello, and a server all up to its own Finished; TLS 1.2 begins nothing that is
//! encrypted with such a record before the handshake is over. What is as short as an alert is sent on,
//! since nothing follows it.

use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// The first octet of a record (RFC 8446 section 5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
/// The first octet of a record that is encrypted (RFC 8446 section 5.2).
const APPLICATION_DATA: u8 = 23;
/// The record of a change_cipher_spec.
const CHANGE_CIPHER_SPEC_BYTES: usize = 6;
/// Octets of what is encrypted: an alert has 24, a Finished 58 at least, and what is larger than a
/// chain of certificates is nothing of a handshake.
const ENCRYPTED_BYTES: RangeInclusive<usize> = 48..=16 * 1024;
/// What is written at once behind it.
const SLICES_MAX: usize = 64;

/// Withholds the last flight of a handshake.
#[derive(Debug, Default)]
pub(super) struct LastFlight {
    /// The handshake is over: nothing more is withheld.
    is_over: bool,
    /// All that was to be written was.
    is_sent: bool,
    /// The peer has said something since.
    is_answered: bool,
    withheld: BytesMut,
}

impl LastFlight {
    /// The peer said something.
    pub(super) fn note_read(&mut self) {
        self.is_answered = self.is_sent;
    }

    /// The handshake is over: from now on nothing is withheld.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// Whether there is nothing to withhold any more and nothing withheld to send.
    pub(super) fn is_done(&self) -> bool {
        self.is_over && self.withheld.is_empty()
    }

    pub(super) fn poll_write(
        &mut self,
        mut wire: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_over {
            return self.poll_write_behind(wire, cx, parts);
        }
        let length = parts.iter().map(|part| part.len()).sum();
        if self.is_answered && is_last(parts, length) {
            for part in parts {
                self.withheld.extend_from_slice(part);
            }
            return Poll::Ready(Ok(length));
        }
        let written = ready!(wire.as_mut().poll_write_vectored(cx, parts))?;
        self.is_sent = written == length;
        self.is_answered = false;
        Poll::Ready(Ok(written))
    }

    /// Writes what was withheld, once the handshake is over.
    pub(super) fn poll_flush(
        &mut self,
        mut wire: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.is_over && !self.withheld.is_empty() {
            let written = ready!(wire.as_mut().poll_write(cx, &self.withheld))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.withheld.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what was withheld, and these parts behind it.
    fn poll_write_behind(
        &mut self,
        mut wire: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        while !self.withheld.is_empty() {
            let mut all = [IoSlice::new(&[]); SLICES_MAX];
            let before = std::iter::once(IoSlice::new(&self.withheld));
            let slices = before.chain(parts.iter().copied());
            let count = all
                .iter_mut()
                .zip(slices)
                .map(|(to, from)| *to = from)
                .count();
            let all = all.get(..count).unwrap_or_default();
            let written = ready!(wire.as_mut().poll_write_vectored(cx, all))?;
            if written == 0 {
                return Poll::Ready(Ok(0));
            }
            let of_withheld = written.min(self.withheld.len());
            self.withheld.advance(of_withheld);
            if written > of_withheld {
                return Poll::Ready(Ok(written - of_withheld));
            }
        }
        wire.poll_write_vectored(cx, parts)
    }
}

/// Whether these parts, of so many octets together, are the last flight.
fn is_last(parts: &[IoSlice<'_>], length: usize) -> bool {
    let octet = |at: usize| {
        let mut before = 0;
        parts.iter().find_map(|part| {
            let octet = part.get(at - before);
            before += part.len();
            octet.copied()
        })
    };
    let encrypted_from = match octet(0) {
        Some(CHANGE_CIPHER_SPEC) => CHANGE_CIPHER_SPEC_BYTES,
        _ => 0,
    };
    octet(encrypted_from) == Some(APPLICATION_DATA)
        && ENCRYPTED_BYTES.contains(&(length - encrypted_from))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::CryptoProvider;
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519};
    use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};
    use testbed::authority::Authority;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use crate::stream::{Replay, Wire};

    struct Case {
        version: &'static SupportedProtocolVersion,
        /// The client's first key share is for a group that the server does not have.
        retries: bool,
        /// Octets that the wire takes at once.
        room: usize,
        /// The client flushes before it says anything.
        flushes: bool,
        withheld: bool,
    }

    /// Makes two connections, of which the second resumes the first.
    async fn connect(case: &Case) {
        let authority = Authority::new("tickets");
        let identity = authority.issue(&["localhost"]);
        let provider = |groups| {
            let provider = CryptoProvider {
                kx_groups: groups,
                ..rustls::crypto::aws_lc_rs::default_provider()
            };
            Arc::new(provider)
        };
        let resolver = Arc::clone(&identity.server_config(&[]).cert_resolver);
        let own = if case.retries { SECP256R1 } else { X25519 };
        let mut server = ServerConfig::builder_with_provider(provider(vec![own]))
            .with_protocol_versions(&[case.version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        server.send_tls13_tickets = 1;
        server.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate()).unwrap();
        let client = rustls::ClientConfig::builder_with_provider(provider(vec![X25519, SECP256R1]))
            .with_protocol_versions(&[case.version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (acceptor, connector) = (
            TlsAcceptor::from(Arc::new(server)),
            TlsConnector::from(Arc::new(client)),
        );
        for is_second in [false, true] {
            let (near, far) = duplex(case.room);
            let (near, far) = (withholding(near), withholding(far));
            let serve = async {
                let mut server = acceptor.accept(near).await.unwrap();
                server.get_mut().0.send_last_flight_with_next();
                assert_eq!(withheld(server.get_ref().0), case.withheld, "{}", case.room);
                let mut asked = [0; 8];
                server.read_exact(&mut asked).await.unwrap();
                assert_eq!(&asked, b"question");
                server
            };
            let ask = async {
                let name = "localhost".try_into().unwrap();
                let mut client = connector.connect(name, far).await.unwrap();
                client.get_mut().0.send_last_flight_with_next();
                assert_eq!(withheld(client.get_ref().0), case.withheld, "{}", case.room);
                if case.flushes {
                    client.flush().await.unwrap();
                    assert!(client.get_ref().0.last_flight.is_none());
                }
                client.write_all(b"question").await.unwrap();
                client.flush().await.unwrap();
                client
            };
            let (mut server, mut client) = tokio::join!(serve, ask);
            let kind = client.get_ref().1.handshake_kind().unwrap();
            let expected = match (is_second, case.retries) {
                (true, _) => HandshakeKind::Resumed,
                (false, true) => HandshakeKind::FullWithHelloRetryRequest,
                (false, false) => HandshakeKind::Full,
            };
            assert_eq!(kind, expected);

            let answer: Vec<u8> = (0..4000_u32).map(|at| at.to_le_bytes()[0]).collect();
            let mut answered = vec![0; 4000];
            let tell = async {
                server.write_all(&answer).await.unwrap();
                server.flush().await.unwrap();
            };
            let (_, heard) = tokio::join!(tell, client.read_exact(&mut answered));
            heard.unwrap();
            assert!(answered == answer);
            assert!(server.get_ref().0.last_flight.is_none());
            assert!(client.get_ref().0.last_flight.is_none());
        }
    }

    fn withholding(end: DuplexStream) -> Replay {
        let mut wire = Replay::new(Wire::Memory(end));
        wire.withhold_last_flight();
        wire
    }

    fn withheld(wire: &Replay) -> bool {
        wire.last_flight.is_some()
    }

    const CASE: Case = Case {
        version: &rustls::version::TLS13,
        retries: false,
        room: 100_000,
        flushes: false,
        withheld: true,
    };

    #[tokio::test]
    async fn last_flights_leave_with_the_first_bytes_and_are_understood() {
        connect(&CASE).await;
        let retries = true;
        connect(&Case { retries, ..CASE }).await;
    }

    #[tokio::test]
    async fn a_last_flight_leaves_when_it_is_flushed() {
        let flushes = true;
        connect(&Case { flushes, ..CASE }).await;
        let room = 7;
        connect(&Case {
            flushes,
            room,
            ..CASE
        })
        .await;
    }

    #[tokio::test]
    async fn nothing_is_withheld_of_older_versions() {
        connect(&Case {
            version: &rustls::version::TLS12,
            withheld: false,
            ..CASE
        })
        .await;
    }

    #[tokio::test]
    async fn a_wire_that_takes_little_gets_all_in_order() {
        for room in [7, 64, 100, 500, 1000] {
            connect(&Case { room, ..CASE }).await;
            connect(&Case {
                version: &rustls::version::TLS12,
                withheld: false,
                room,
                ..CASE
            })
            .await;
        }
    }

    /// An alert ends the handshake, so nothing comes that it could leave with.
    #[tokio::test]
    async fn an_alert_leaves_at_once() {
        let (identity, stranger) = (Authority::new("one"), Authority::new("another"));
        let acceptor = TlsAcceptor::from(identity.issue(&["localhost"]).server_config(&[]));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(stranger.certificate()).unwrap();
        let client = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(client));
        let (near, far) = duplex(100_000);
        let connect = connector.connect("localhost".try_into().unwrap(), withholding(far));
        let (served, connected) = tokio::join!(acceptor.accept(withholding(near)), connect);
        assert!(connected.is_err());
        let error = served.unwrap_err().to_string();
        assert!(error.contains("alert"), "{error}");
    }
}
