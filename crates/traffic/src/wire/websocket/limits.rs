//! Every bound of reading WebSocket messages, with its reason.

/// Octets of a frame header: two, a length of eight, a mask of four (RFC 6455 section 5.2).
pub const HEADER_BYTES_MAX: usize = 14;

/// Octets of the payload of a control frame (RFC 6455 section 5.5). Of a longer one, which breaks
/// the rules, so many are kept.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Octets that the compressed messages of one direction may inflate to, whatever their size on the
/// wire. A message of megabytes is rare.
pub const INFLATED_BYTES_FREE: u64 = 16 * 1024 * 1024;

/// Octets that they may inflate to in addition for each compressed octet. Text shrinks to a tenth
/// or, repeating what was sent before, to a hundredth; DEFLATE can go to a thousandth, and a sender
/// of that buys a thousand times the work that it does itself.
pub const INFLATED_BYTES_PER_BYTE: u64 = 128;

/// Compressed octets after which the two bounds above are looked at anew, counted over the
/// direction: so the answer does not depend on how the bytes are cut.
pub const DEFLATED_BLOCK_BYTES: u64 = 4 * 1024;

/// Compressed octets that are unmasked in one go. Small enough for the stack.
pub const DEFLATED_CHUNK_BYTES: usize = 4 * 1024;

/// Inflated octets that are taken from the decoder in one go.
pub const INFLATED_CHUNK_BYTES: usize = 16 * 1024;

/// Extensions in one response, and parameters of one. One extension with four parameters is in
/// use.
pub const EXTENSIONS_MAX: usize = 16;
