//! An upstream on loopback that answers every request with the same bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// Starts it; it lives until the test process ends.
pub(crate) fn answering(answer: &'static [u8]) -> SocketAddr {
    serving(move |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        // The client may be gone; the test will say so.
        let _gone = stream.write_all(answer);
    })
}

/// Starts one that keeps each connection open for a while and says nothing.
pub(crate) fn silent(length: std::time::Duration) -> SocketAddr {
    serving(move |stream| {
        std::thread::sleep(length);
        drop(stream);
    })
}

pub(crate) fn serving(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

pub(crate) const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";

/// Everything a terminal would obey, in a field and in a body. Of the controls, a field may only
/// hold those above ASCII: the engine refuses the others.
pub(crate) const HOSTILE: &[u8] =
    b"HTTP/1.1 200 OK\r\nX-Hostile: a\xc2\x9b31m\xe2\x80\xaeb\r\nContent-Length: 45\r\nConnection: close\r\n\r\n\
    \x1b[2J\x1b]52;c;aGk=\x07\xc2\x9b31m\xe2\x80\xaetxt\rback\x08spaces\x7f....\n";
