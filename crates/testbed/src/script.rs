//! A conversation written down step by step, played on a byte stream: what to send, what to wait
//! for, how to end. Every byte that arrives is recorded, so that a test can compare what was sent
//! through a proxy with what is sent without one.
//!
//! Steps wait for bytes or for a [`Gate`], never for time.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::gate::Gate;

/// One step of a conversation.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads up to the empty line that ends a head.
    ReadHead,
    /// Reads until this many more bytes have arrived.
    Read(usize),
    /// Reads until this pattern has arrived.
    ReadUntil(Bytes),
    /// Reads as many bytes as these and fails if they differ.
    Expect(Bytes),
    /// Reads until the peer closes its side.
    ReadToEnd,
    /// Sends exactly these bytes in one write.
    Send(Bytes),
    /// Waits until the test opens the gate.
    Wait(Gate),
    /// Tells the test that this point is reached.
    Open(Gate),
    /// Closes our side and goes on reading.
    CloseWrite,
    /// Ends the connection with a TCP reset.
    Reset,
}

/// How a script went.
#[derive(Clone, Debug)]
pub struct Played {
    /// Every byte that arrived.
    pub received: Bytes,
    /// The step that could not be played, counted from zero, and why.
    pub failure: Option<(usize, String)>,
    /// The script wants a reset, which only the owner of the socket can do.
    pub reset: bool,
}

impl Step {
    /// Sends this text or these bytes.
    pub fn send(bytes: impl AsRef<[u8]>) -> Self {
        Self::Send(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// Expects this text or these bytes.
    pub fn expect(bytes: impl AsRef<[u8]>) -> Self {
        Self::Expect(Bytes::copy_from_slice(bytes.as_ref()))
    }

    /// Reads until this text or these bytes have arrived.
    pub fn read_until(pattern: impl AsRef<[u8]>) -> Self {
        Self::ReadUntil(Bytes::copy_from_slice(pattern.as_ref()))
    }
}

/// Plays the steps in order and stops at the first that fails. The stream stays open: the caller
/// drops or resets it.
///
/// Dropping the future ends the script where it stands.
pub async fn play<S: AsyncRead + AsyncWrite + Unpin>(steps: &[Step], stream: &mut S) -> Played {
    let mut player = Player {
        stream,
        received: BytesMut::new(),
        used: 0,
    };
    let mut failure = None;
    let mut reset = false;
    for (index, step) in steps.iter().enumerate() {
        if matches!(step, Step::Reset) {
            reset = true;
            break;
        }
        if let Err(error) = player.play(step).await {
            failure = Some((index, format!("{step:?}: {error}")));
            break;
        }
    }
    Played {
        received: player.received.freeze(),
        failure,
        reset,
    }
}

struct Player<'a, S> {
    stream: &'a mut S,
    received: BytesMut,
    /// Bytes of `received` that earlier steps have consumed.
    used: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Player<'_, S> {
    async fn play(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::ReadHead => self.read_until(b"\r\n\r\n").await,
            Step::Read(count) => self.read(*count).await.map(|_| ()),
            Step::ReadUntil(pattern) => self.read_until(pattern).await,
            Step::Expect(wanted) => self.expect(wanted).await,
            Step::ReadToEnd => self.read_to_end().await,
            Step::Send(bytes) => self.send(bytes).await,
            Step::Wait(gate) => {
                gate.wait().await;
                Ok(())
            }
            Step::Open(gate) => {
                gate.open();
                Ok(())
            }
            Step::CloseWrite => self.stream.shutdown().await,
            Step::Reset => Ok(()),
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn expect(&mut self, wanted: &[u8]) -> io::Result<()> {
        let arrived = self.read(wanted.len()).await?;
        if arrived == wanted {
            return Ok(());
        }
        let arrived = arrived.escape_ascii();
        Err(io::Error::other(format!("got \"{arrived}\"")))
    }

    async fn read(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.received.len() < self.used + count {
            self.fill_more().await?;
        }
        let start = self.used;
        self.used += count;
        Ok(self.received.get(start..self.used).unwrap_or_default())
    }

    async fn read_until(&mut self, pattern: &[u8]) -> io::Result<()> {
        loop {
            let unused = self.received.get(self.used..).unwrap_or_default();
            let found = unused
                .windows(pattern.len())
                .position(|window| window == pattern);
            if let Some(start) = found {
                self.used += start + pattern.len();
                return Ok(());
            }
            self.fill_more().await?;
        }
    }

    async fn read_to_end(&mut self) -> io::Result<()> {
        while self.stream.read_buf(&mut self.received).await? > 0 {}
        self.used = self.received.len();
        Ok(())
    }

    async fn fill_more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_script_records_all_bytes_and_names_the_failed_step() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let steps = [Step::ReadHead, Step::send("ok"), Step::expect("abc")];
        let peer = async {
            near.write_all(b"GET / HTTP/1.1\r\n\r\nabX").await.unwrap();
            let mut answer = [0; 2];
            near.read_exact(&mut answer).await.unwrap();
            answer
        };
        let (played, answer) = tokio::join!(play(&steps, &mut far), peer);
        assert_eq!(&answer, b"ok");
        assert_eq!(played.received, "GET / HTTP/1.1\r\n\r\nabX");
        assert_eq!(played.failure.map(|(index, _)| index), Some(2));
    }

    #[tokio::test]
    async fn a_gate_holds_the_script_until_it_opens() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let (reached, go) = (Gate::new(), Gate::new());
        let steps = [
            Step::Open(reached.clone()),
            Step::Wait(go.clone()),
            Step::send("x"),
            Step::CloseWrite,
        ];
        let peer = async {
            reached.wait().await;
            go.open();
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.unwrap();
            all
        };
        let (played, all) = tokio::join!(play(&steps, &mut far), peer);
        assert_eq!(all, b"x");
        assert!(played.failure.is_none());
    }
}
