//! Every bound of this crate, with its reason.

/// Bytes of a body, decoded, in which a session id is looked for. Agents write it behind the whole
/// conversation, and the longest conversations, with pictures, have about 20 MB. A scan passes some
/// hundred megabytes in a second.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of a body, decoded, that are looked at to tell JSON-RPC and calls of models from other
/// JSON. Every request with JSON to any host is looked at so.
pub const SHAPE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a JSON text that is taken out of a body. Ids have tens of bytes, the `user_id` of Claude
/// Code some hundred.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Bytes of a session id, or of the id of an agent.
pub const ID_BYTES_MAX: usize = 256;

/// The shortest request id by which two requests are taken for the same one. Shorter ones are
/// often counted up, or the same for all.
pub const REQUEST_ID_BYTES_MIN: usize = 16;

/// Messages of one request that are compared with those of others. Agents compact what they say long before.
pub const CONVERSATION_MESSAGES_MAX: usize = 8192;

/// What was said before two requests are taken for parts of one conversation: many begin with "hi".
pub const CONVERSATION_BYTES_MIN: usize = 256;

/// Bytes of an answer in which its id is looked for: it stands in the first event, behind its name.
pub const RESPONSE_ID_WITHIN: usize = 4096;

/// Ids of one request by which it may be linked to others.
pub const LINKS_MAX: usize = 4;
