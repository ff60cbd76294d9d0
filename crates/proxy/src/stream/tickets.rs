//! Session tickets of TLS 1.3 (RFC 8446 section 4.6.1) that leave together with the first bytes of
//! the application.
//!
//! A server may send them at any time, and rustls does when the handshake ends. By itself that is a
//! packet, which costs a system call here and wakes a client that waits for something else.
//!
//! The wire sees ciphertext alone. It is tickets if it is encrypted from its first octet on, and comes
//! when all of an answer to the client was sent and the client has said something more: that answer
//! begins with a ServerHello or a HelloRetryRequest, and TLS 1.2 begins nothing else that is encrypted
//! before the handshake is over. What is as short as an alert is sent on, since nothing follows it.

use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// The first octet of a record that is encrypted (RFC 8446 section 5.2).
const APPLICATION_DATA: u8 = 23;
/// Octets of tickets: an alert has 24, and what has more than a few tickets is none of ours.
const TICKET_BYTES: RangeInclusive<usize> = 64..=2048;
/// What is written at once behind them.
const SLICES_MAX: usize = 64;

/// Withholds tickets of a server's handshake.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    /// The handshake is over: nothing more is withheld.
    is_over: bool,
    /// All that was to be written was.
    is_sent: bool,
    /// The client has said something since.
    is_answered: bool,
    withheld: BytesMut,
}

impl Tickets {
    /// The client said something.
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
        let first = parts.iter().find_map(|part| part.first());
        if self.is_answered && first == Some(&APPLICATION_DATA) && TICKET_BYTES.contains(&length) {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::crypto::CryptoProvider;
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519};
    use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion};
    use testbed::authority::Authority;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use crate::stream::{Replay, Wire};

    struct Case {
        version: &'static SupportedProtocolVersion,
        /// The client's first key share is for a group that the server does not have.
        retries: bool,
        /// Octets that the wire takes at once.
        room: usize,
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
            let mut wire = Replay::new(Wire::Memory(near));
            wire.withhold_tickets();
            let (server, client) = tokio::join!(
                acceptor.accept(wire),
                connector.connect("localhost".try_into().unwrap(), far)
            );
            let (mut server, mut client) = (server.unwrap(), client.unwrap());
            let kind = client.get_ref().1.handshake_kind().unwrap();
            let expected = match (is_second, case.retries) {
                (true, _) => HandshakeKind::Resumed,
                (false, true) => HandshakeKind::FullWithHelloRetryRequest,
                (false, false) => HandshakeKind::Full,
            };
            assert_eq!(kind, expected);
            let tickets = |server: &tokio_rustls::server::TlsStream<Replay>| {
                let tickets = server.get_ref().0.tickets.as_ref();
                tickets.map_or(0, |tickets| tickets.withheld.len())
            };
            server.get_mut().0.send_tickets_with_next();
            assert_eq!(tickets(&server) > 0, case.withheld, "{}", case.room);

            // Both go on, the client first.
            let (mut asked, mut answered) = ([0; 8], vec![0; 4000]);
            let ask = async {
                client.write_all(b"question").await.unwrap();
                client.flush().await.unwrap();
            };
            let (_, heard) = tokio::join!(ask, server.read_exact(&mut asked));
            heard.unwrap();
            let answer: Vec<u8> = (0..4000_u32).map(|at| at.to_le_bytes()[0]).collect();
            let tell = async {
                server.write_all(&answer).await.unwrap();
                server.flush().await.unwrap();
            };
            let (_, heard) = tokio::join!(tell, client.read_exact(&mut answered));
            heard.unwrap();
            assert!(answered == answer);
            assert!(server.get_ref().0.tickets.is_none());
        }
    }

    #[tokio::test]
    async fn tickets_leave_with_the_first_bytes_and_can_be_used() {
        let (new, old) = (&rustls::version::TLS13, &rustls::version::TLS12);
        for case in [
            Case {
                version: new,
                retries: false,
                room: 100_000,
                withheld: true,
            },
            Case {
                version: new,
                retries: true,
                room: 100_000,
                withheld: true,
            },
            Case {
                version: old,
                retries: false,
                room: 100_000,
                withheld: false,
            },
        ] {
            connect(&case).await;
        }
    }

    #[tokio::test]
    async fn a_wire_that_takes_little_gets_all_in_order() {
        for room in [7, 64, 100, 500, 1000] {
            for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
                let withheld = *version == rustls::version::TLS13;
                connect(&Case {
                    version,
                    retries: false,
                    room,
                    withheld,
                })
                .await;
            }
        }
    }
}
