//! Asks the running service something through its control socket: one request of HTTP/1.1, one
//! answer, both small.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Place;
use super::lock;
use crate::exit::Exit;
use crate::limits::{ANSWER_BYTES_MAX, LOCK_LOOK_EVERY, ORDER_TRIES_MAX};
use crate::problem::Problem;

/// What the service answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

/// Orders something, and waits for the answer at most this long. A process that hands its place on to another may
/// have taken the order and have no answer to it any more: then it is given again.
pub(crate) fn order(place: &Place, target: &str, patience: Duration) -> std::io::Result<Reply> {
    for _try in 1..ORDER_TRIES_MAX {
        match ask(place, "POST", target, patience) {
            Err(error) if is_cut(&error) => std::thread::sleep(LOCK_LOOK_EVERY),
            asked => return asked,
        }
    }
    ask(place, "POST", target, patience)
}

/// Whether there was nothing of an answer.
fn is_cut(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof
    )
}

/// Asks, and waits for the answer at most this long.
pub(crate) fn ask(
    place: &Place,
    method: &str,
    target: &str,
    patience: Duration,
) -> std::io::Result<Reply> {
    let mut stream = UnixStream::connect(&place.control)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| std::io::Error::other("the service answered something else than was asked"))
}

fn parse(answer: &str) -> Option<Reply> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Some(Reply { status, body })
}

/// How the running service is, once it answers; `None` if none runs.
pub(crate) fn status(place: &Place, patience: Duration) -> Result<Option<Value>, Problem> {
    let deadline = Instant::now() + patience;
    loop {
        let Some(pid) = lock::holder(place)? else {
            return Ok(None);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(place, "GET", "/status", left.max(LOCK_LOOK_EVERY)) {
            Ok(reply) if reply.status == 200 => return Ok(Some(reply.body)),
            Ok(reply) => return Err(silent(pid, &format!("it answered {}", reply.status))),
            // It has begun, or is about to end.
            Err(error) if left.is_zero() => return Err(silent(pid, &error.to_string())),
            Err(_) => std::thread::sleep(LOCK_LOOK_EVERY),
        }
    }
}

fn silent(pid: u32, why: &str) -> Problem {
    let what = format!("the service (pid {pid}) does not answer");
    Problem::new("ORL0902", Exit::Busy, what)
        .why(why)
        .fix("oriel stop      ends it, by force if need be")
        .fix("oriel logs      shows what it said")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let reply = parse("HTTP/1.1 409 Conflict\r\nA: b\r\n\r\n{\"x\":1}\n").unwrap();
        assert_eq!((reply.status, &reply.body["x"]), (409, &Value::from(1)));
        assert!(parse("HTTP/1.1 200 OK\r\n\r\nok\n").unwrap().body.is_null());
        assert!(parse("").is_none());
    }
}
