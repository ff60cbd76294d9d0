//! What is read at once, and what is not waited for.

use testbed::authority::Authority;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::*;
use crate::stream::{Replay, Wire, reset_on_drop};

fn in_memory() -> (DuplexStream, Http1) {
    let (peer, end) = duplex(1024 * 1024);
    let transport = Transport::Plain(Replay::new(Wire::Memory(end)));
    (peer, Http1::new(transport, BytesMut::new()))
}

async fn fill(http1: &mut Http1) -> io::Result<usize> {
    std::future::poll_fn(|cx| http1.poll_fill(cx)).await
}

async fn gather(http1: &mut Http1, left: Option<u64>) {
    std::future::poll_fn(|cx| {
        http1.gather(cx, left);
        Poll::Ready(())
    })
    .await;
}

#[tokio::test]
async fn a_large_body_is_gathered_as_far_as_it_has_come_and_is_wanted() {
    for (come, left, gathered) in [
        (40 * 1024, None, 40 * 1024),
        (40 * 1024, Some(40 * 1024), 40 * 1024),
        (60 * 1024, Some(20 * 1024), 20 * 1024),
        (300 * 1024, None, GATHERED_BYTES),
        (300 * 1024, Some(300 * 1024), GATHERED_BYTES),
    ] {
        let (mut peer, mut http1) = in_memory();
        peer.write_all(&vec![b'x'; come]).await.unwrap();
        assert_eq!(fill(&mut http1).await.unwrap(), READ_BYTES);
        gather(&mut http1, left).await;
        let length = http1.input.len();
        // The last read may give more than is wanted, and room for no more than twice that.
        assert!(length >= gathered, "{length} of {come}, {left:?}");
        assert!(http1.input.capacity() <= 2 * gathered, "{come}, {left:?}");
    }
}

#[tokio::test]
async fn a_small_piece_leaves_alone() {
    let (mut peer, mut http1) = in_memory();
    peer.write_all(b"data: 1\n\n").await.unwrap();
    fill(&mut http1).await.unwrap();
    peer.write_all(b"data: 2\n\n").await.unwrap();
    gather(&mut http1, None).await;
    assert_eq!(&http1.input[..], b"data: 1\n\n");
}

#[tokio::test]
async fn an_end_and_a_fault_come_after_what_was_gathered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for resets in [false, true] {
        #[expect(clippy::disallowed_methods, reason = "a peer of the test")]
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut peer, (end, _)) = (peer.unwrap(), accepted.unwrap());
        let transport = Transport::Plain(Replay::new(Wire::Tcp(end)));
        let mut http1 = Http1::new(transport, BytesMut::new());
        let body = vec![b'x'; 40 * 1024];
        peer.write_all(&body).await.unwrap();
        reset_on_drop(&peer, resets);
        drop(peer);
        let mut end = fill(&mut http1).await;
        while let Ok(1..) = end {
            gather(&mut http1, None).await;
            end = fill(&mut http1).await;
        }
        assert_eq!(http1.input, body);
        match end {
            Ok(_) => assert!(!resets && http1.read_ended),
            Err(error) => assert!(resets && error.kind() == io::ErrorKind::ConnectionReset),
        }
    }
}

async fn over_tls() -> (impl AsyncWriteExt + Unpin, Http1) {
    let authority = Authority::new("records");
    let identity = authority.issue(&["localhost"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "an end of the test")]
    let (dialled, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let wire = Replay::new(Wire::Tcp(dialled.unwrap()));
    let connector = TlsConnector::from(authority.client_config(&[]));
    let acceptor = TlsAcceptor::from(identity.server_config(&[]));
    let (client, peer) = tokio::join!(
        connector.connect("localhost".try_into().unwrap(), wire),
        acceptor.accept(accepted.unwrap().0)
    );
    let (client, peer) = (client.unwrap(), peer.unwrap());
    let transport = Transport::Tls(Box::new(TlsStream::from(client)));
    (peer, Http1::new(transport, BytesMut::new()))
}

#[tokio::test]
async fn tls_gives_each_record_when_it_came_and_its_end_after_the_last() {
    let (mut peer, mut http1) = over_tls().await;
    assert!(http1.is_quiet());

    // Two records that come at once, and with them what ends the connection.
    peer.write_all(b"first").await.unwrap();
    peer.write_all(b"second").await.unwrap();
    peer.shutdown().await.unwrap();
    assert_eq!(fill(&mut http1).await.unwrap(), 5);
    assert_eq!(&http1.input.split()[..], b"first");
    // The socket tells nothing of the second any more: it has been read from there.
    assert_eq!(fill(&mut http1).await.unwrap(), 6);
    assert_eq!(&http1.input.split()[..], b"second");
    assert_eq!(fill(&mut http1).await.unwrap(), 0);
    assert!(http1.read_ended && !http1.read_cut);
}

#[tokio::test]
async fn what_tls_holds_of_the_next_message_is_seen() {
    let (mut peer, mut http1) = over_tls().await;
    peer.write_all(b"response").await.unwrap();
    peer.write_all(b"and more").await.unwrap();
    fill(&mut http1).await.unwrap();
    http1.consume(8);
    assert!(!http1.is_quiet());
}
