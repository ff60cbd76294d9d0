//! What a request repeats of the ones before it: agents that say no id still send the whole conversation
//! each time, so a request whose messages go on where those of an earlier one ended belongs to it.
//!
//! Only hashes leave this file. They are not made to resist somebody who wants two conversations to be taken
//! for one: who can send both may as well say so.

use std::hash::{DefaultHasher, Hasher};

use crate::json::Value;
use crate::limits::{CONVERSATION_BYTES_MIN, CONVERSATION_MESSAGES_MAX};

/// The messages of a request, from the first on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// One hash for each message that the conversation may have ended with so far: of it and all before it.
    prefixes: Vec<u64>,
}

/// Counts what it passes on.
#[derive(Clone, Default)]
struct Counting {
    hasher: DefaultHasher,
    bytes: usize,
}

impl Conversation {
    /// Reads the array of messages of a whole body: `messages`, `input` or `contents`.
    pub(crate) fn read(messages: Value<'_>) -> Option<Self> {
        let mut hasher = Counting::default();
        let mut has_begun = false;
        let mut prefixes = Vec::new();
        for (number, message) in messages.elements().enumerate() {
            // Texts that are to be embedded are no conversation.
            if number >= CONVERSATION_MESSAGES_MAX || !message.is_object() {
                return None;
            }
            message.hash(&mut hasher);
            // What stands before the first word of the user is the same in many conversations.
            has_begun = has_begun || is_said_by_user(message);
            if has_begun && hasher.bytes >= CONVERSATION_BYTES_MIN {
                prefixes.push(hasher.finish());
            }
        }
        (!prefixes.is_empty()).then_some(Self { prefixes })
    }

    /// The hash of all of it.
    #[must_use]
    pub fn whole(&self) -> Option<u64> {
        self.prefixes.last().copied()
    }

    /// The hashes that earlier requests of it may have had, the longest first.
    pub fn earlier(&self) -> impl Iterator<Item = u64> {
        self.prefixes.iter().rev().skip(1).copied()
    }
}

/// A message without a role is a thing that was said or done: not of a system.
fn is_said_by_user(message: Value<'_>) -> bool {
    let role = message.text_of("role");
    role.is_none_or(|role| role == "user")
}

impl Hasher for Counting {
    fn write(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.hasher.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(messages: &[&str]) -> Option<Conversation> {
        let text = format!("[{}]", messages.join(","));
        Conversation::read(Value::new(text.as_bytes()))
    }

    #[test]
    fn a_request_goes_on_where_an_earlier_one_ended() {
        let system = format!(r#"{{"role":"system","content":"{}"}}"#, "s".repeat(500));
        let asked = r#"{"role":"user","content":"why?"}"#;
        let marked = r#"{"role":"user","content":"why?","cache_control":{"type":"ephemeral"}}"#;
        let answered = r#"{"role":"assistant","content":"so"}"#;
        let first = read(&[&system, marked]).unwrap();
        let second = read(&[
            &system,
            asked,
            answered,
            r#"{"role":"user","content":"and?"}"#,
        ]);
        let second = second.unwrap();
        assert!(second.earlier().any(|hash| Some(hash) == first.whole()));
        assert_eq!(second.earlier().count(), 2);
        assert_eq!(first.earlier().count(), 0, "a system alone is of many");
        let other = read(&[&system, r#"{"role":"user","content":"how?"}"#, answered]).unwrap();
        assert!(!other.earlier().any(|hash| Some(hash) == first.whole()));
        // Too little to tell two conversations apart.
        assert_eq!(read(&[asked]), None);
        assert_eq!(read(&[&system]), None);
        assert_eq!(Conversation::read(Value::new(b"\"why?\"")), None);
        let text = format!("\"{}\"", "t".repeat(500));
        assert_eq!(read(&[&text, &text]), None);
        let endless = vec![asked; CONVERSATION_MESSAGES_MAX + 1];
        assert_eq!(read(&endless), None);
        assert!(read(&endless[1..]).is_some());
    }
}
