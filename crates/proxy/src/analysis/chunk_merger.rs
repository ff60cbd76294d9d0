//! Joins the chunks of each stream to what a reader wants of it: the text.

mod parts;

use std::collections::VecDeque;

use serde_json::{Map, Value};
use traffic::{Sender, Timestamp};
use uuid::Uuid;

use self::parts::{Parts, Step};
use super::message::sender_name;
use super::text::insert_text;
use super::{AnalysisMsg, Analyzer, Next, Record, StreamChunk};
use crate::limits::{MERGED_BYTES_MAX, MERGED_STREAMS_MAX};

/// Takes the chunks of each stream out of the chain, and makes one record (`chunk_merger`) of them
/// when the stream ends, or a response within it; passes on everything else.
///
/// Streams are joined by flow and direction, never across. Where events are those of OpenAI chat
/// completions, OpenAI responses or Anthropic messages, their deltas are joined part by part: a
/// part for each choice or content block, thinking apart from text, the arguments of each call of a
/// tool by its index. Everything else, and what clients send, is joined as it came.
///
/// The data of a record:
///
/// | name | what |
/// |---|---|
/// | `format` | `openai_chat`, `openai_responses`, `anthropic_messages` or `raw` |
/// | `sender` | `client` or `upstream` |
/// | `merged_content` or `merged_content_base64` | the text of all text parts; all payloads, if raw |
/// | `thinking` | the text of all parts that are thinking, if there are any |
/// | `tool_calls` | objects with `id`, `name` and `arguments` (a text), if there are any |
/// | `event_count`, `total_size` | chunks, and octets of their payloads |
/// | `begun` | when the first one came, in milliseconds since the Unix epoch |
/// | `truncated` | there was more than is shown |
/// | `incomplete` | the stream broke off, or ended without the event that ends it |
///
/// Of each part at most [`MERGED_BYTES_MAX`] octets are kept, and of the streams
/// [`MERGED_STREAMS_MAX`]: when one more begins, the oldest is handed on as incomplete.
#[derive(Debug, Default)]
pub struct ChunkMerger {
    /// The oldest first.
    streams: VecDeque<Stream>,
}

#[derive(Debug)]
struct Stream {
    id: Uuid,
    sender: Sender,
    begun: Timestamp,
    last: Timestamp,
    events: u64,
    size: u64,
    truncated: bool,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Parts(Parts),
    Raw(Vec<u8>),
}

impl ChunkMerger {
    /// Nothing merged yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn take_chunk(&mut self, chunk: &StreamChunk, next: &mut Next) {
        let is_of = |stream: &Stream| (stream.id, stream.sender) == (chunk.id, chunk.sender);
        // The newest are the busy ones.
        let index = match self.streams.iter().rposition(is_of) {
            Some(index) => index,
            None => {
                if self.streams.len() >= MERGED_STREAMS_MAX
                    && let Some(oldest) = self.streams.pop_front()
                {
                    oldest.hand_on(true, next);
                }
                self.streams.push_back(Stream::new(chunk));
                self.streams.len() - 1
            }
        };
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        if stream.push(chunk) == Step::Ends
            && let Some(stream) = self.streams.remove(index)
        {
            stream.hand_on(false, next);
        }
    }

    fn end_flow(&mut self, id: Uuid, broken: bool, next: &mut Next) {
        let (ended, others) = self.streams.drain(..).partition(|stream| stream.id == id);
        self.streams = others;
        let ended: VecDeque<Stream> = ended;
        for stream in ended {
            let unfinished = broken || stream.misses_end();
            stream.hand_on(unfinished, next);
        }
    }
}

impl Analyzer for ChunkMerger {
    fn name(&self) -> &'static str {
        "chunk_merger"
    }

    fn analyze(&mut self, message: AnalysisMsg, next: &mut Next) {
        match message {
            AnalysisMsg::StreamChunk(chunk) => self.take_chunk(&chunk, next),
            AnalysisMsg::ResponseDone(done) => {
                self.end_flow(done.id, done.incomplete.is_some(), next);
                next.pass(AnalysisMsg::ResponseDone(done));
            }
            AnalysisMsg::Request(_) | AnalysisMsg::Record(_) => next.pass(message),
        }
    }

    fn finish(&mut self, next: &mut Next) {
        for stream in std::mem::take(&mut self.streams) {
            stream.hand_on(true, next);
        }
    }
}

impl Stream {
    fn new(first: &StreamChunk) -> Self {
        // Requests over a WebSocket have types that begin like those of responses.
        let parts = match first.sender {
            Sender::Upstream => Parts::of(&first.payload),
            Sender::Client => None,
        };
        let content = parts.map_or_else(|| Content::Raw(Vec::new()), Content::Parts);
        Self {
            id: first.id,
            sender: first.sender,
            begun: first.at,
            last: first.at,
            events: 0,
            size: 0,
            truncated: false,
            content,
        }
    }

    fn push(&mut self, chunk: &StreamChunk) -> Step {
        self.last = chunk.at;
        self.events += 1;
        self.size += chunk.payload.len() as u64;
        self.truncated |= chunk.truncated;
        match &mut self.content {
            Content::Parts(parts) => parts.push(&chunk.payload),
            Content::Raw(bytes) => {
                let room = MERGED_BYTES_MAX.saturating_sub(bytes.len());
                let kept = chunk.payload.get(..room).unwrap_or(&chunk.payload);
                bytes.extend_from_slice(kept);
                self.truncated |= kept.len() < chunk.payload.len();
                Step::GoesOn
            }
        }
    }

    /// Whether its format has an event that ends it, which did not come.
    fn misses_end(&self) -> bool {
        matches!(self.content, Content::Parts(_))
    }

    fn hand_on(self, incomplete: bool, next: &mut Next) {
        let mut data = Map::new();
        let mut truncated = self.truncated;
        match self.content {
            Content::Parts(parts) => {
                truncated |= parts.truncated();
                parts.write(&mut data);
            }
            Content::Raw(bytes) => {
                data.insert("format".into(), "raw".into());
                insert_text(&mut data, "merged_content", &bytes);
            }
        }
        let begun = self.begun.0.div_euclid(1000);
        let facts: [(&str, Value); 6] = [
            ("sender", sender_name(self.sender).into()),
            ("event_count", self.events.into()),
            ("total_size", self.size.into()),
            ("begun", begun.into()),
            ("truncated", truncated.into()),
            ("incomplete", incomplete.into()),
        ];
        data.extend(facts.map(|(name, value)| (name.to_owned(), value)));
        next.pass(AnalysisMsg::Record(Box::new(Record {
            source: "chunk_merger",
            id: self.id,
            at: self.last,
            data: data.into(),
        })));
    }
}

#[cfg(test)]
mod tests;
