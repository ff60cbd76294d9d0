//! The kinds of messages of a WebSocket and their opcodes (RFC 6455 section 11.8), which foreign files
//! have.

const KINDS: [(i64, &str); 5] = [
    (1, "text"),
    (2, "binary"),
    (8, "close"),
    (9, "ping"),
    (10, "pong"),
];

/// The opcode of a kind of message.
pub(super) fn opcode(kind: &str) -> Option<i64> {
    let found = KINDS.iter().find(|(_, known)| *known == kind);
    found.map(|(opcode, _)| *opcode)
}

/// The kind of message of an opcode.
pub(super) fn kind(opcode: i64) -> Option<&'static str> {
    let found = KINDS.iter().find(|(known, _)| *known == opcode);
    found.map(|(_, kind)| *kind)
}
