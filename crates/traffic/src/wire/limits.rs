//! Every bound of the wire codecs that read streams and content codings, with its reason.

/// Codings that one body may have. Nobody sends more than two.
pub const CODINGS_MAX: usize = 4;

/// Codings that a stream may have while it is watched. Each takes memory for as long as the
/// stream lasts: up to 8 MiB of window for zstd, 16 MiB for brotli, 32 KiB for the others.
pub const STREAM_CODINGS_MAX: usize = 2;

/// Largest window that zstd may ask memory for, as a power of two: 8 MiB, what RFC 9659 demands
/// of decoders and allows encoders.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes that a coding of a stream may give for each byte that came, beyond
/// [`STREAM_EXPANSION_SLACK_BYTES`]. Events of a model shrink to a tenth; a bomb starts at a
/// thousand.
pub const STREAM_EXPANSION_MAX: u64 = 200;

/// Bytes that a coding of a stream may give whatever came: one event of blanks is no bomb.
pub const STREAM_EXPANSION_SLACK_BYTES: u64 = 4 << 20;

/// Bytes kept of one message of a stream, unless the caller says otherwise. The longest events of
/// model APIs carry images in base64 and whole responses: some megabytes.
pub const MESSAGE_BYTES_KEPT: usize = 4 << 20;

/// Bytes of the event name and of the last event id of a server-sent event. Names have tens of
/// bytes, ids may be tokens that a server resumes from.
pub const EVENT_FIELD_BYTES_MAX: usize = 1024;

/// Bytes of one comment of an event stream that are reported. Keep-alives have tens.
pub const COMMENT_BYTES_KEPT: usize = 256;

/// Bytes of the headers of one event stream message: what the format's own clients allow.
pub const EVENT_STREAM_HEADER_BYTES_MAX: usize = 128 << 10;

/// Headers of one event stream message. Services send about five.
pub const EVENT_STREAM_HEADERS_MAX: usize = 128;

/// Bytes of the trailers frame of gRPC-Web that are kept, as of an HTTP trailer section.
pub const GRPC_TRAILER_BYTES_KEPT: usize = 32 << 10;

/// Bytes of a PROXY protocol header of version 1, line end included: the longest that its
/// specification lets be written (section 2.1).
pub const PROXY_HEADER_V1_BYTES_MAX: usize = 107;

/// Bytes of a PROXY protocol header of version 2, further fields included. Load balancers write
/// some hundred; the length field would allow 64 KiB.
pub const PROXY_HEADER_V2_BYTES_MAX: usize = 4096;
