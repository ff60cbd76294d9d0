//! The bytes of a file that is read, with a count of them, and a bound for each flow.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::limits::IMPORTED_FLOW_BYTES_MAX;

/// A file, read from its beginning. It may be hostile: of one flow only so much is read.
#[derive(Debug)]
pub(super) struct Source<R> {
    inner: io::BufReader<R>,
    read: u64,
    left: Rc<Cell<u64>>,
}

/// Begins the next flow while something else holds the source.
#[derive(Clone, Debug)]
pub(super) struct Budget(Rc<Cell<u64>>);

impl<R: Read> Source<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner: io::BufReader::with_capacity(64 * 1024, inner),
            read: 0,
            left: Rc::new(Cell::new(IMPORTED_FLOW_BYTES_MAX)),
        }
    }

    /// The first bytes, which stay to be read.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        io::BufRead::fill_buf(&mut self.inner)
    }

    /// Passes over bytes that were looked at.
    pub(super) fn skip(&mut self, count: usize) {
        io::BufRead::consume(&mut self.inner, count);
        self.count(count);
    }

    /// The next flow begins here.
    pub(super) fn begin(&self) {
        self.left.set(IMPORTED_FLOW_BYTES_MAX);
    }

    pub(super) fn budget(&self) -> Budget {
        Budget(Rc::clone(&self.left))
    }

    /// Bytes that were read.
    pub(super) fn offset(&self) -> u64 {
        self.read
    }

    /// One byte; none at the end.
    pub(super) fn byte(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.read(&mut byte)? == 1).then_some(byte[0]))
    }

    /// A line with its end; false at the end of the file.
    pub(super) fn line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let mut bounded = Read::take(&mut self.inner, IMPORTED_FLOW_BYTES_MAX + 1);
        let read = io::BufRead::read_until(&mut bounded, b'\n', line)?;
        self.count(read);
        if super::draft::length(read) > IMPORTED_FLOW_BYTES_MAX {
            return Err(too_large());
        }
        Ok(read > 0)
    }

    fn count(&mut self, count: usize) {
        self.read += super::draft::length(count);
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count(read);
        let left = self.left.get().checked_sub(super::draft::length(read));
        self.left.set(left.ok_or_else(too_large)?);
        Ok(read)
    }
}

impl Budget {
    /// The next flow begins here.
    pub(super) fn begin(&self) {
        self.0.set(IMPORTED_FLOW_BYTES_MAX);
    }
}

/// The error of a flow beyond the bound.
fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "one flow has more bytes than are taken",
    )
}
