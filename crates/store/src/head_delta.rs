//! A head as what differs from another head of the same connection: a client sends nearly the same
//! lines again and again, and so does an upstream.
//!
//! The format is a list of steps. A step begins with a varint `n` (see [`crate::detail`]). Is `n`
//! even, `n / 2` bytes follow that stand in the head as they are. Is it odd, a varint `skip` follows:
//! `skip` lines of the base are passed over and the `n / 2` after them are copied. A head without a
//! base is one step.

use memchr::memchr;

use crate::detail::{put_varint, take_bytes, take_varint};

/// How many lines of the base are looked at for one line of a head.
const LINES_AHEAD_MAX: usize = 16;

/// A head that others are compared with.
#[derive(Debug, Default)]
pub(crate) struct Base {
    text: Vec<u8>,
    /// Where each line ends, behind its line feed.
    ends: Vec<usize>,
}

/// Lines of the base that are about to be copied.
#[derive(Default)]
struct Copied {
    skip: usize,
    lines: usize,
}

impl Base {
    /// Takes a head as the base.
    pub(crate) fn new(text: &[u8]) -> Self {
        let ends = lines(text).scan(0, |end, line| {
            *end += line.len();
            Some(*end)
        });
        Self {
            ends: ends.collect(),
            text: text.to_owned(),
        }
    }

    /// The lines from this one on.
    fn lines_from(&self, line: usize) -> impl Iterator<Item = &[u8]> {
        let start = match line {
            0 => 0,
            line => self.ends.get(line - 1).copied().unwrap_or(self.text.len()),
        };
        let ends = self.ends.get(line..).unwrap_or_default();
        ends.iter().scan(start, |start, end| {
            let line = self.text.get(*start..*end);
            *start = *end;
            line
        })
    }
}

/// Appends what a head is, compared with the base.
pub(crate) fn write(base: &Base, head: &[u8], out: &mut Vec<u8>) {
    let mut copied = Copied::default();
    let mut next = 0;
    let mut literal_start = 0;
    let mut start = 0;
    for line in lines(head) {
        let mut ahead = base.lines_from(next).take(LINES_AHEAD_MAX);
        if let Some(skip) = ahead.position(|known| known == line) {
            put_literal(head.get(literal_start..start).unwrap_or_default(), out);
            if skip > 0 || copied.lines == 0 {
                copied.put(out);
                copied = Copied { skip, lines: 0 };
            }
            copied.lines += 1;
            next += skip + 1;
            literal_start = start + line.len();
        } else {
            copied.put(out);
            copied = Copied::default();
        }
        start += line.len();
    }
    copied.put(out);
    put_literal(head.get(literal_start..).unwrap_or_default(), out);
}

/// Puts a head together again; `None` if this is no list of steps, or the head would be longer than
/// `bytes_max`.
pub(crate) fn read(base: &[u8], mut steps: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut left = lines(base);
    while !steps.is_empty() {
        let step = take_varint(&mut steps)?;
        let count = step >> 1;
        if step & 1 == 0 {
            head.extend_from_slice(take_bytes(&mut steps, count)?);
        } else {
            let skip = take_varint(&mut steps)?;
            for _ in 0..skip {
                left.next()?;
            }
            for _ in 0..count {
                head.extend_from_slice(left.next()?);
            }
        }
        if head.len() > bytes_max {
            return None;
        }
    }
    Some(head)
}

/// The lines with their line feeds; the last may have none.
fn lines(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let end = match memchr(b'\n', text) {
            Some(at) => at + 1,
            None if text.is_empty() => return None,
            None => text.len(),
        };
        let (line, rest) = text.split_at(end);
        text = rest;
        Some(line)
    })
}

fn put_literal(literal: &[u8], out: &mut Vec<u8>) {
    if !literal.is_empty() {
        put_varint(out, number(literal.len()) << 1);
        out.extend_from_slice(literal);
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Copied {
    fn put(&self, out: &mut Vec<u8>) {
        if self.lines > 0 {
            put_varint(out, number(self.lines) << 1 | 1);
            put_varint(out, number(self.skip));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(base: &[u8], head: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&Base::new(base), head, &mut out);
        out
    }

    #[test]
    fn what_is_equal_takes_no_room() {
        let base = b"GET / HTTP/1.1\r\nHost: x\r\nDate: 1\r\nA: b\r\n\r\n";
        let other = b"GET / HTTP/1.1\r\nHost: x\r\nDate: 22\r\nA: b\r\n\r\n";
        assert_eq!(written(base, base), [5 << 1 | 1, 0]);
        let expected = [
            &[2 << 1 | 1, 0, 10 << 1],
            &b"Date: 22\r\n"[..],
            &[2 << 1 | 1, 1],
        ];
        assert_eq!(written(base, other), expected.concat());
        assert!(written(b"", b"").is_empty());
    }

    proptest! {
        /// Lines come, go and change: the head comes back.
        #[test]
        fn any_head_comes_back(base in "([abc]{0,2}\n){0,30}[ab]{0,2}", head in "([abc]{0,2}\n){0,30}[ab]{0,2}") {
            let steps = written(base.as_bytes(), head.as_bytes());
            prop_assert_eq!(read(base.as_bytes(), &steps, 1000), Some(head.into_bytes()));
        }

        #[test]
        fn takes_any_steps(base in any::<Vec<u8>>(), steps in any::<Vec<u8>>()) {
            if let Some(head) = read(&base, &steps, 500) {
                prop_assert!(head.len() <= 500);
            }
        }
    }
}
