//! Messages that are compressed.

use flate2::{Compress, Compression, FlushCompress};
use testbed::websocket::{Frame, TEXT, WebSocket};
use traffic::{FlowKind, Sender};

use super::{open, told};
use crate::recorder::FlowSeen;
use crate::running::Running;
use crate::soon;

#[tokio::test]
async fn compressed_messages_are_told_inflated() {
    let running = Running::start().await;
    let fields = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let (mut socket, _upstream) = open(&running, "/websocket", &fields).await;
    converse_deflated(&mut socket).await;
    drop(socket);
    let flow = running.recorder.only_flow().await;
    check_deflated(&flow);
    assert_eq!(
        flow.course(),
        "started upstream response streamed response-ended request-ended ended"
    );
}

/// Sends compressed messages and a close frame.
pub(super) async fn converse_deflated(socket: &mut WebSocket) {
    let mut compress = Compress::new(Compression::default(), false);
    for _ in 0..2 {
        let deflated = deflate(&mut compress, b"Hello Hello Hello");
        let frame = Frame::new(TEXT, deflated).compressed();
        socket.send(&frame).await.unwrap();
        assert_eq!(soon(socket.read()).await.unwrap(), Some(frame));
    }
    let close = Frame::close(1000, "bye");
    socket.send(&close).await.unwrap();
    assert_eq!(soon(socket.read()).await.unwrap(), Some(close));
    assert_eq!(soon(socket.read()).await.unwrap(), None);
}

/// Compresses with one history (RFC 7692 section 7.2.1).
fn deflate(compress: &mut Compress, message: &[u8]) -> Vec<u8> {
    let mut deflated = Vec::with_capacity(message.len() + 100);
    let flush = FlushCompress::Sync;
    compress
        .compress_vec(message, &mut deflated, flush)
        .unwrap();
    deflated.truncate(deflated.len() - 4);
    deflated
}

/// Checks what is told of that.
pub(super) fn check_deflated(flow: &FlowSeen) {
    assert!(flow.completed(), "{:?}", flow.outcome());
    assert_eq!(flow.started.kind, FlowKind::WebSocket);
    for sender in [Sender::Client, Sender::Upstream] {
        let told = told(&flow.observed(sender));
        assert_eq!(told.len(), 3, "{told:?}");
        for message in &told[..2] {
            assert!(
                message.starts_with("Text Hello Hello Hello 17/"),
                "{told:?}"
            );
        }
        assert_eq!(told[2], "Close Some(1000) bye");
    }
}
