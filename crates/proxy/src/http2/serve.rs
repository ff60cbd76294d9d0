//! Serves one client connection that speaks HTTP/2. Its streams run as futures in this one task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::Connection;
use traffic::ConnectionFacts;

use crate::connection::Engine;
use crate::deadline::Deadline;
use crate::destination::Scope;
use crate::http2::patience::Patience;
use crate::http2::responder::Responder;
use crate::http2::stream::{self, StreamEnd};
use crate::limits::{
    HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_FAULTS_MAX, HTTP2_RESETS_MAX,
    HTTP2_SEND_BUFFER_BYTES, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
    HTTP2_STREAMS_UNDER_WAY_MAX,
};
use crate::refuse::Refusal;
use crate::stream::Transport;

/// Serves the connection to its end. `facts` are there where the proxy itself was addressed.
///
/// It is boxed: what comes through a tunnel on one of its streams may be HTTP/2 again, and the box
/// ends the recursion of types.
pub(crate) fn serve<'a>(
    transport: Transport,
    scope: Scope,
    facts: Option<ConnectionFacts>,
    engine: &'a Arc<Engine>,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(async move {
        let mut settings = settings();
        if matches!(scope, Scope::Inside(_)) {
            // A WebSocket on a stream (RFC 8441 section 3).
            settings.enable_connect_protocol();
        }
        let handshake = settings.handshake(transport);
        match tokio::time::timeout(engine.timeouts.head, handshake).await {
            Ok(Ok(connection)) => drive(connection, &scope, facts.as_ref(), engine).await,
            Ok(Err(error)) => tracing::debug!(%error, "no HTTP/2 with a client"),
            Err(_) => tracing::debug!("a client did not finish the HTTP/2 preface in time"),
        }
    })
}

/// What a client is told of how we speak HTTP/2.
fn settings() -> h2::server::Builder {
    let mut settings = h2::server::Builder::new();
    settings
        .initial_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(Some(HTTP2_FAULTS_MAX))
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX);
    settings
}

/// Answers what a client asks for with this refusal until it goes, for at most `limit`.
pub(crate) async fn turn_away(transport: Transport, refusal: &Refusal, limit: std::time::Duration) {
    let refusing = async {
        let mut connection = settings().handshake(transport).await?;
        while let Some(asked) = connection.accept().await {
            let (request, respond) = asked?;
            Responder::new(respond, request.method()).refuse(refusal);
            connection.graceful_shutdown();
        }
        Ok::<(), h2::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(limit, refusing).await {
        tracing::debug!(%error, "a client that was turned away broke off");
    }
}

/// Drives the connection and its streams until both are done.
async fn drive(
    mut connection: Connection<Transport, Bytes>,
    scope: &Scope,
    facts: Option<&ConnectionFacts>,
    engine: &Arc<Engine>,
) {
    let told = Arc::default();
    let mut streams = FuturesUnordered::new();
    let mut deadline = Deadline::after(engine.timeouts.idle_client);
    let mut stop = std::pin::pin!(engine.stop.asked());
    let mut leaving = false;
    let mut patience = Patience::new();
    std::future::poll_fn(|cx| {
        loop {
            if !leaving && stop.as_mut().poll(cx).is_ready() {
                leaving = true;
                connection.graceful_shutdown();
            }
            let mut moved = false;
            while streams.len() < HTTP2_STREAMS_UNDER_WAY_MAX {
                match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        moved = true;
                        streams.push(stream::serve(request, respond, scope, facts, &told, engine));
                    }
                    Poll::Ready(Some(Err(_)) | None) => {
                        let_streams_end(&mut streams, cx);
                        return Poll::Ready(());
                    }
                    Poll::Pending => break,
                }
            }
            if streams.len() >= HTTP2_STREAMS_UNDER_WAY_MAX && connection.poll_closed(cx).is_ready()
            {
                let_streams_end(&mut streams, cx);
                return Poll::Ready(());
            }
            while let Poll::Ready(Some(end)) = streams.poll_next_unpin(cx) {
                moved = true;
                if end == StreamEnd::Abandoned && !patience.allows_reset() {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    return Poll::Ready(());
                }
            }
            if !streams.is_empty() || moved {
                deadline.set(engine.timeouts.idle_client);
            }
            if !moved {
                return poll_idle(cx, &mut deadline, !leaving && streams.is_empty()).map(|()| {
                    connection.graceful_shutdown();
                });
            }
        }
    })
    .await;
    // Says goodbye where it can still be said.
    let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
    let _said = tokio::time::timeout(crate::limits::LINGER, closed).await;
}

/// Has the streams learn that their connection is gone: some had given their client all it asked
/// for. Those that are left then are cut with the connection.
fn let_streams_end(
    streams: &mut FuturesUnordered<impl Future<Output = StreamEnd>>,
    cx: &mut Context<'_>,
) {
    while let Poll::Ready(Some(_ended)) = streams.poll_next_unpin(cx) {}
}

/// Ready once a connection without streams was idle for too long.
fn poll_idle(cx: &mut Context<'_>, deadline: &mut Deadline, counts: bool) -> Poll<()> {
    if !counts {
        return Poll::Pending;
    }
    deadline.poll_passed(cx)
}
