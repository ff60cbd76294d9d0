//! One lane between real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// Two ends of one connection.
async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    #[expect(clippy::disallowed_methods, reason = "both ends are of the test")]
    let connect = TcpStream::connect(address);
    let (near, far) = tokio::join!(connect, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

fn no_descriptor() -> io::Result<Pipe> {
    Err(rustix::io::Errno::MFILE.into())
}

#[tokio::test]
async fn bytes_pass_where_no_pipe_can_be_had() {
    let ((mut from, source), (sink, mut to)) = (connected().await, connected().await);
    let sent: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    let mut lane = Lane::new(BytesMut::from(&b"ahead"[..]), no_descriptor);
    let carried = std::future::poll_fn(|cx| lane.poll(cx, &source, &sink));
    let write = async {
        from.write_all(&sent).await.unwrap();
        from.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let read = to.read_to_end(&mut received);
    let (carried, (), read) = tokio::join!(carried, write, read);
    assert!(carried.is_ok());
    assert_eq!(read.unwrap(), sent.len() + 5);
    assert!(received.starts_with(b"ahead") && received.ends_with(&sent));
    assert_eq!(lane.passed, 1_000_005);
}

#[tokio::test]
async fn a_pipe_is_given_back_and_had_again() {
    let ((mut from, source), (sink, mut to)) = (connected().await, connected().await);
    let mut lane = Lane::new(BytesMut::new(), open_pipe);
    for text in [b"one", b"two"] {
        from.write_all(text).await.unwrap();
        let mut received = [0; 3];
        let carried = std::future::poll_fn(|cx| lane.poll(cx, &source, &sink));
        tokio::select! {
            read = to.read_exact(&mut received) => assert_eq!(read.unwrap(), 3),
            _ = carried => unreachable!("the source has not ended"),
        }
        assert_eq!(&received, text);
        assert!(lane.pipe.is_some());
        lane.rest();
        assert!(lane.pipe.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn giving_the_pipes_back_does_not_move_the_end() {
    let ((_from, client), (upstream, _to)) = (connected().await, connected().await);
    let idle = 5 * PIPE_KEPT;
    let begun = tokio::time::Instant::now();
    let mut passed = Passed::default();
    let ahead = Ahead {
        up: BytesMut::new(),
        down: BytesMut::new(),
    };
    run(client, upstream, ahead, idle, &mut passed).await;
    assert_eq!(
        passed.failure.map(|failure| failure.kind),
        Some(traffic::FailureKind::TimedOut)
    );
    assert_eq!(begun.elapsed().as_secs(), idle.as_secs());
}
