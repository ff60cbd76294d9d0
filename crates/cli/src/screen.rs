//! Text for a terminal that is written piece by piece: it is escaped line by line.

use std::borrow::Cow;
use std::io::{self, Write};

/// Writes whole lines, escaped.
pub(crate) struct Screen<W> {
    out: W,
    escape: fn(&str) -> Cow<'_, str>,
    /// What has come of a line.
    begun: Vec<u8>,
}

impl<W: Write> Screen<W> {
    pub(crate) fn new(out: W, escape: fn(&str) -> Cow<'_, str>) -> Self {
        Self {
            out,
            escape,
            begun: Vec::new(),
        }
    }

    fn write_begun(&mut self) -> io::Result<()> {
        let text = String::from_utf8_lossy(&self.begun);
        self.out.write_all((self.escape)(&text).as_bytes())?;
        self.begun.clear();
        Ok(())
    }
}

impl<W: Write> Write for Screen<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.write_begun()?;
            }
        }
        Ok(bytes.len())
    }

    /// Writes a line that was begun too: nothing may follow it.
    fn flush(&mut self) -> io::Result<()> {
        self.write_begun()?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::escape_text;

    #[test]
    fn pieces_are_escaped_as_the_whole_is() {
        let text = "a\u{9b}b\n\u{1b}é\u{202e}🦀\nend\u{7f}";
        for size in 1..text.len() {
            let mut written = Vec::new();
            let mut screen = Screen::new(&mut written, escape_text);
            for piece in text.as_bytes().chunks(size) {
                screen.write_all(piece).unwrap();
            }
            screen.flush().unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), escape_text(text));
        }
    }
}
