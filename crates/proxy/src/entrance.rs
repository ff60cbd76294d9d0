//! What a connection has to pass at the listener before it says whom it wants: the header of a
//! load balancer, TLS. And what is expected of it there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::{TlsAcceptor, TlsStream};
use traffic::wire::client_hello::ClientHello;
use traffic::wire::proxy_protocol::{self, Parsed, Problem, Source};
use traffic::{ClientAddress, ConnectionFacts};

use crate::admission::Gatekeeper;
use crate::clock;
use crate::config::{Listener, ListenerMode, MinTlsVersion};
use crate::first_bytes::{self, Begins};
use crate::stream::{Replay, Wire};
use crate::tls::client_side::ClientAlpn;
use crate::tls::leaf::{LeafCache, LeafError};
use crate::tls::listener_side::ListenerSide;
use crate::tls::settled;

/// What is expected of the connections of one listener.
#[derive(Debug)]
pub(crate) struct Entrance {
    pub(crate) mode: ListenerMode,
    pub(crate) proxy_protocol: bool,
    pub(crate) tls: Option<ListenerSide>,
    pub(crate) gatekeeper: Option<Arc<Gatekeeper>>,
}

/// Why a connection is not let in. But for one that can be turned away, nobody is told: there is no
/// protocol yet to say it in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the client ended the connection at once")]
    Closed,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the client did not finish what it began with in time")]
    TimedOut,
    #[error(transparent)]
    Header(Problem),
    #[error("the connection does not begin with a ClientHello, and this listener wants TLS")]
    NoTls,
    #[error("the client has too many connections, and is told so")]
    TooMany(Box<Replay>),
    #[error("the TLS handshake with the client failed: {0}")]
    Tls(io::Error),
}

impl Entrance {
    pub(crate) fn new(
        listener: &Listener,
        leaves: &Arc<LeafCache>,
        min: MinTlsVersion,
        gatekeeper: Option<Gatekeeper>,
    ) -> Result<Self, LeafError> {
        let tls = listener.tls.as_ref();
        Ok(Self {
            mode: listener.mode.clone(),
            proxy_protocol: listener.proxy_protocol,
            tls: tls
                .map(|tls| ListenerSide::new(tls, leaves, clock::now, min))
                .transpose()?,
            gatekeeper: gatekeeper.map(Arc::new),
        })
    }
}

/// Reads the header of a load balancer; it says where the client connects from, if it knows.
pub(crate) async fn read_header(
    wire: &mut Replay,
    limit: Duration,
) -> Result<Option<ClientAddress>, Refused> {
    let header = async {
        loop {
            match proxy_protocol::parse(wire.ahead()) {
                Parsed::Whole { source, length } => {
                    wire.consume(length);
                    return Ok(source);
                }
                Parsed::Malformed(problem) => return Err(Refused::Header(problem)),
                Parsed::Incomplete => {
                    if wire.read_ahead().await? == 0 {
                        return Err(Refused::Closed);
                    }
                }
            }
        }
    };
    let source = tokio::time::timeout(limit, header).await;
    match source.map_err(|_elapsed| Refused::TimedOut)?? {
        Source::Client { address, .. } => Ok(Some(address.into())),
        Source::Unnamed => Ok(None),
    }
}

/// Looks at the ClientHello that a connection is to begin with.
pub(crate) async fn read_hello(
    wire: &mut Replay,
    limit: Duration,
) -> Result<Arc<ClientHello>, Refused> {
    match first_bytes::read(wire, limit).await {
        Begins::Tls(hello) => Ok(hello),
        Begins::Nothing => Err(Refused::Closed),
        Begins::Silent | Begins::Unfinished => Err(Refused::TimedOut),
        Begins::PlainHttp | Begins::PlainHttp2 | Begins::Other => Err(Refused::NoTls),
    }
}

/// Ends TLS; what it settled is noted in the facts.
pub(crate) async fn open_tls(
    wire: Replay,
    side: &ListenerSide,
    alpn: ClientAlpn,
    facts: &mut ConnectionFacts,
    limit: Duration,
) -> Result<Replay, Refused> {
    let handshake = TlsAcceptor::from(side.server_config(alpn)).accept(wire);
    let tls = match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return Err(Refused::Tls(error)),
        Err(_elapsed) => return Err(Refused::TimedOut),
    };
    let sni = facts.hello.as_ref().and_then(|hello| hello.sni.as_deref());
    facts.tls = Ok(settled::facts(tls.get_ref().1, sni));
    facts.tls_done_at = Some(clock::now());
    Ok(Replay::new(Wire::Tls(Box::new(TlsStream::Server(tls)))))
}
