//! Undoes content codings (RFC 9110 section 8.4.1) of what was captured: the only place that
//! decompresses.
//!
//! Bodies pass and are stored as they came; this is for reading them, whole ([`decode`]) or while
//! they come ([`Decoder`]). A body may be hostile (a few bytes that grow to gigabytes), cut short,
//! or not what its header says. The answer is always what could be read, and a note on what could
//! not.

mod layer;

use std::borrow::Cow;
use std::fmt;

use self::layer::{Bounds, Coding, End, Layer};
use super::limits::{
    CODINGS_MAX, STREAM_CODINGS_MAX, STREAM_EXPANSION_MAX, STREAM_EXPANSION_SLACK_BYTES,
};

/// What could be read of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The bytes; borrowed where nothing had to be decoded.
    pub bytes: Cow<'a, [u8]>,
    /// True if that is all there is.
    pub complete: bool,
    /// What is worth knowing about it.
    pub note: Option<Note>,
}

/// What is worth knowing about a body that was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The body ends before its coding does.
    Truncated {
        /// The coding.
        coding: &'static str,
    },
    /// The body is not in the coding that its header names, or not from some byte on.
    Corrupt {
        /// The coding.
        coding: &'static str,
    },
    /// There is more than was asked for.
    TooLarge {
        /// The bytes asked for.
        bytes_max: usize,
    },
    /// A stream grows as no honest one does. Nothing more of it is given.
    Bomb {
        /// The coding.
        coding: &'static str,
    },
    /// Bytes follow the end of the coding. They were left out.
    BytesAfterEnd {
        /// The coding.
        coding: &'static str,
    },
    /// A coding that is not known here. The bytes are still in it.
    Unknown {
        /// Its name in the header.
        coding: String,
    },
    /// More codings than any honest body has. The bytes are still in them.
    TooManyCodings,
}

/// Undoes what a Content-Encoding field lists, the last coding first, and gives at most
/// `bytes_max` bytes. No step gives more than that either.
#[must_use]
pub fn decode<'a>(encodings: &str, body: &'a [u8], bytes_max: usize) -> Decoded<'a> {
    let bounds = Bounds {
        bytes_max: bytes_max as u64,
        expansion_max: None,
        slack_bytes: 0,
    };
    let (mut layers, unread) = layers_of(encodings, CODINGS_MAX, bounds);
    let mut decoded = Decoded {
        bytes: Cow::Borrowed(body),
        complete: unread.is_none(),
        note: None,
    };
    if !layers.is_empty() && !body.is_empty() {
        let mut bytes = Vec::new();
        push_through(&mut layers, body, &mut |piece| {
            bytes.extend_from_slice(piece);
        });
        decoded.bytes = Cow::Owned(bytes);
        let inner_failed = layers.iter().any(Layer::has_failed);
        for layer in &layers {
            let end = layer.end_of_input();
            // When an inner coding fails, the outer ones are not read to their end.
            if end != End::Truncated || !inner_failed {
                decoded.take_end(layer.coding(), end, bytes_max);
            }
        }
    }
    if let Some(note) = unread {
        decoded.add_note(note);
    }
    decoded.cap(bytes_max);
    decoded
}

/// Undoes the content codings of a stream while it comes: what the sender flushed is given as
/// soon as its last byte is there.
///
/// Nothing is collected. A coding holds its window (see `STREAM_CODINGS_MAX`), and one that gives
/// more than `STREAM_EXPANSION_MAX` times what came is stopped. The output does not depend on how
/// the bytes are cut, but for one thing: how much is given of the piece in which a coding turns out
/// to be corrupt or a bomb.
#[derive(Debug)]
pub struct Decoder {
    /// The outermost coding first.
    layers: Vec<Layer>,
}

impl Decoder {
    /// For what a Content-Encoding field lists. A stream in a coding that is not known, or in
    /// more than two, cannot be read: the note says which.
    pub fn new(encodings: &str) -> Result<Self, Note> {
        let bounds = Bounds {
            bytes_max: u64::MAX,
            expansion_max: Some(STREAM_EXPANSION_MAX),
            slack_bytes: STREAM_EXPANSION_SLACK_BYTES,
        };
        match layers_of(encodings, STREAM_CODINGS_MAX, bounds) {
            (layers, None) => Ok(Self { layers }),
            (_, Some(note)) => Err(note),
        }
    }

    /// True if there is nothing to undo.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.layers.is_empty()
    }

    /// Takes bytes and gives what they let out, in pieces of some kilobytes.
    pub fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
        push_through(&mut self.layers, bytes, out);
    }

    /// Why nothing more can be read, or that there is more than should be; known so far.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        self.first_note(Layer::end)
    }

    /// The same once no bytes follow: a coding that has not ended is cut short.
    #[must_use]
    pub fn note_at_end(&self) -> Option<Note> {
        let so_far = self.note();
        so_far.or_else(|| self.first_note(|layer| Some(layer.end_of_input())))
    }

    fn first_note(&self, end: impl Fn(&Layer) -> Option<End>) -> Option<Note> {
        let mut notes = self
            .layers
            .iter()
            .map(|layer| note_of(layer.coding(), end(layer)?));
        notes.find_map(|note| note)
    }
}

/// The layers of a field, the outermost first, up to one that cannot be undone.
fn layers_of(encodings: &str, codings_max: usize, bounds: Bounds) -> (Vec<Layer>, Option<Note>) {
    let names = || {
        let names = encodings.split(',').map(str::trim);
        names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"))
    };
    let mut layers = Vec::new();
    if names().nth(codings_max).is_some() {
        return (layers, Some(Note::TooManyCodings));
    }
    for name in names().rev() {
        let Some(coding) = Coding::named(name) else {
            let coding = name.to_owned();
            return (layers, Some(Note::Unknown { coding }));
        };
        layers.push(Layer::new(coding, bounds));
    }
    (layers, None)
}

/// Gives what comes out of the last layer.
fn push_through(layers: &mut [Layer], bytes: &[u8], out: &mut dyn FnMut(&[u8])) {
    match layers {
        [] => out(bytes),
        [first, inner @ ..] => first.push(bytes, &mut |piece| {
            push_through(inner, piece, out);
            !inner.iter().any(Layer::has_failed)
        }),
    }
}

/// What is worth noting about an end.
fn note_of(coding: Coding, end: End) -> Option<Note> {
    let coding = coding.as_str();
    match end {
        End::Whole => None,
        End::Followed => Some(Note::BytesAfterEnd { coding }),
        End::Truncated => Some(Note::Truncated { coding }),
        End::Corrupt => Some(Note::Corrupt { coding }),
        End::TooLarge => Some(Note::Bomb { coding }),
    }
}

impl Decoded<'_> {
    /// Keeps the first note: the ones after it follow from it.
    fn add_note(&mut self, note: Note) {
        self.note.get_or_insert(note);
    }

    fn take_end(&mut self, coding: Coding, end: End, bytes_max: usize) {
        self.complete &= matches!(end, End::Whole | End::Followed);
        let note = match end {
            End::TooLarge => Note::TooLarge { bytes_max },
            end => match note_of(coding, end) {
                Some(note) => note,
                None => return,
            },
        };
        self.add_note(note);
    }

    fn cap(&mut self, bytes_max: usize) {
        if self.bytes.len() <= bytes_max {
            return;
        }
        match &mut self.bytes {
            Cow::Borrowed(bytes) => *bytes = bytes.get(..bytes_max).unwrap_or(bytes),
            Cow::Owned(bytes) => bytes.truncate(bytes_max),
        }
        self.complete = false;
        self.add_note(Note::TooLarge { bytes_max });
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { coding } => write!(f, "the {coding} body is cut short"),
            Self::Corrupt { coding } => write!(f, "the body is not valid {coding}"),
            Self::TooLarge { bytes_max } => write!(f, "only the first {bytes_max} bytes"),
            Self::Bomb { coding } => write!(f, "the {coding} stream grows without measure"),
            Self::BytesAfterEnd { coding } => {
                write!(f, "bytes follow the end of the {coding} body")
            }
            Self::Unknown { coding } => write!(f, "the content coding `{coding}` is not known"),
            Self::TooManyCodings => write!(f, "more than {CODINGS_MAX} content codings"),
        }
    }
}

#[cfg(test)]
mod tests;
