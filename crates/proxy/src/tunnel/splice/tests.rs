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
    let ((mut from, mut source), (sink, mut to)) = (connected().await, connected().await);
    let (mut source, _) = source.split();
    let sent: Vec<u8> = (0..=250).cycle().take(1_000_000).collect();
    let mut lane = Lane::new(BytesMut::from(&b"ahead"[..]), no_descriptor);
    let carried = std::future::poll_fn(|cx| lane.poll(cx, &mut source, &sink));
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

/// Sends so many octets over a lane, and waits until they have come.
async fn carry(
    lane: &mut Lane,
    (from, source): (&mut TcpStream, &mut ReadHalf<'_>),
    (sink, to): (&TcpStream, &mut TcpStream),
    length: usize,
) {
    let sent: Vec<u8> = (0..=250).cycle().take(length).collect();
    let mut received = vec![0; length];
    let exchange = async {
        let (written, read) = tokio::join!(from.write_all(&sent), to.read_exact(&mut received));
        written.unwrap();
        assert_eq!(read.unwrap(), length);
    };
    let carried = std::future::poll_fn(|cx| lane.poll(cx, source, sink));
    tokio::select! {
        () = exchange => {}
        _ = carried => unreachable!("the source has not ended"),
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn much_goes_through_a_pipe_and_little_is_copied() {
    let ((mut from, mut source), (sink, mut to)) = (connected().await, connected().await);
    let (mut source, _) = source.split();
    let mut lane = Lane::new(BytesMut::new(), open_pipe);
    let mut passed = 0;
    let mut pass = async |lane: &mut Lane, length| {
        let (source, sink) = ((&mut from, &mut source), (&sink, &mut to));
        carry(lane, source, sink, length).await;
        passed += length as u64;
        assert_eq!((lane.passed, lane.held, lane.copied.len()), (passed, 0, 0));
    };
    for _ in 0..3 {
        pass(&mut lane, READ_BYTES - 1).await;
        assert!(lane.pipe.is_none());
    }
    // It is given back after a rest, and had again.
    for _ in 0..2 {
        pass(&mut lane, 1_000_000).await;
        assert!(lane.pipe.is_some());
        lane.rest();
        assert!(lane.pipe.is_none());
    }
    // So it is when it is not worth it any more.
    pass(&mut lane, 1_000_000).await;
    lane.little = 0;
    for _ in 0..=PIPE_LITTLE_MAX {
        assert!(lane.pipe.is_some());
        pass(&mut lane, 10).await;
    }
    pass(&mut lane, 10).await;
    assert!(lane.pipe.is_none());
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
