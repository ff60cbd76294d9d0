//! The binary format of COPY (PostgreSQL's documentation of COPY, "Binary Format"): rows of fields,
//! each with its length in front. Types are as `<type>_recv` of the server takes them.

use traffic::Timestamp;

use super::time::server_micros;

/// Rows that are sent together.
#[derive(Debug)]
pub(super) struct CopyRows {
    bytes: Vec<u8>,
    /// Fields of a row.
    fields: i16,
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Neither flags nor an extension of the header.
const HEADER_REST: [u8; 8] = [0; 8];
/// Length of a field that is NULL, and the number of fields that ends the rows.
const NONE: [u8; 4] = (-1_i32).to_be_bytes();
const END: [u8; 2] = (-1_i16).to_be_bytes();

/// Object ids of the types whose arrays are written; see pg_type.dat of the server.
const BYTEA: u32 = 17;
const TEXT: u32 = 25;

impl CopyRows {
    /// No rows yet; each will have so many fields.
    pub(super) fn new(fields: usize) -> Self {
        let mut bytes = Vec::with_capacity(64 * 1024);
        bytes.extend_from_slice(SIGNATURE);
        bytes.extend_from_slice(&HEADER_REST);
        Self {
            bytes,
            fields: i16::try_from(fields).expect("a table has at most 1600 columns"),
        }
    }

    /// Begins a row: its fields follow.
    pub(super) fn begin_row(&mut self) {
        self.bytes.extend_from_slice(&self.fields.to_be_bytes());
    }

    /// What is to be sent; what is added later comes behind it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets what was sent.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Ends the rows.
    pub(super) fn end(&mut self) {
        self.bytes.extend_from_slice(&END);
    }

    pub(super) fn null(&mut self) {
        self.bytes.extend_from_slice(&NONE);
    }

    pub(super) fn bytea(&mut self, value: &[u8]) {
        self.length(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// A text; U+0000 becomes U+FFFD, for the server's texts have no place for it.
    pub(super) fn text(&mut self, value: &str) {
        self.bytea(storable(value).as_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.bytea(&[u8::from(value)]);
    }

    pub(super) fn int4(&mut self, value: i32) {
        self.bytea(&value.to_be_bytes());
    }

    pub(super) fn int8(&mut self, value: i64) {
        self.bytea(&value.to_be_bytes());
    }

    /// A `timestamp` in UTC, as near as the server can hold it.
    pub(super) fn timestamp(&mut self, value: Timestamp) {
        self.int8(server_micros(value));
    }

    /// A `jsonb`, in version 1 of its form. There must be no `\u0000` in it.
    pub(super) fn jsonb(&mut self, json: &[u8]) {
        self.length(json.len() + 1);
        self.bytes.push(1);
        self.bytes.extend_from_slice(json);
    }

    /// A `tsvector` of words without places, each once. They have no U+0000 in them.
    pub(super) fn tsvector(&mut self, words: &[String]) {
        let bytes: usize = words.iter().map(|word| word.len() + 3).sum();
        self.length(4 + bytes);
        self.length(words.len());
        for word in words {
            self.bytes.extend_from_slice(word.as_bytes());
            // The end of the text, and the number of its places.
            self.bytes.extend_from_slice(&[0, 0, 0]);
        }
    }

    pub(super) fn texts(&mut self, values: &[String]) {
        self.array(TEXT, values.len(), |rows| {
            for value in values {
                rows.text(value);
            }
        });
    }

    pub(super) fn byteas<'v>(&mut self, values: impl ExactSizeIterator<Item = &'v [u8]>) {
        self.array(BYTEA, values.len(), |rows| {
            for value in values {
                rows.bytea(value);
            }
        });
    }

    /// A field that may be absent.
    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    /// An array of one dimension, counted from 1 on, without NULL.
    fn array(&mut self, element: u32, length: usize, write: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.length(0);
        let dimensions = i32::from(length > 0);
        self.bytes.extend_from_slice(&dimensions.to_be_bytes());
        self.bytes.extend_from_slice(&0_i32.to_be_bytes());
        self.bytes.extend_from_slice(&element.to_be_bytes());
        if length > 0 {
            self.length(length);
            self.bytes.extend_from_slice(&1_i32.to_be_bytes());
            write(self);
        }
        let written = length_of(self.bytes.len() - start - NONE.len());
        if let Some(place) = self.bytes.get_mut(start..start + NONE.len()) {
            place.copy_from_slice(&written);
        }
    }

    fn length(&mut self, length: usize) {
        self.bytes.extend_from_slice(&length_of(length));
    }
}

/// A length as it is written. The server refuses a field of more than a gigabyte, and does so with this
/// one too.
fn length_of(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

/// A text without U+0000.
pub(super) fn storable(text: &str) -> std::borrow::Cow<'_, str> {
    match memchr::memchr(0, text.as_bytes()) {
        Some(_) => text.replace('\0', "\u{fffd}").into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_lengths_in_front() {
        let mut rows = CopyRows::new(3);
        rows.begin_row();
        rows.text("a\0");
        rows.optional(None::<i64>, CopyRows::int8);
        rows.texts(&["b".to_owned()]);
        rows.begin_row();
        rows.bool(true);
        rows.timestamp(Timestamp(946_684_800_000_001));
        rows.tsvector(&["ab".to_owned()]);
        rows.end();
        let expected = [
            &b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..],
            b"\0\x03\0\0\0\x04a\xef\xbf\xbd\xff\xff\xff\xff",
            b"\0\0\0\x19\0\0\0\x01\0\0\0\0\0\0\0\x19\0\0\0\x01\0\0\0\x01\0\0\0\x01b",
            b"\0\x03\0\0\0\x01\x01\0\0\0\x08\0\0\0\0\0\0\0\x01",
            b"\0\0\0\x09\0\0\0\x01ab\0\0\0\xff\xff",
        ];
        assert_eq!(rows.bytes(), expected.concat());
    }
}
