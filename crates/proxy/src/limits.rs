//! Every bound of the engine that is not a setting, with its reason.

use std::time::Duration;

/// Leaf certificates held ready. An agent talks to tens of hosts; 1,024 leaves take about 4 MiB.
pub const LEAVES_MAX: usize = 1024;

/// Signatures of certificates that were found right and are not checked again, of 32 bytes each. A
/// chain has two or three, of which most are shared by many hosts: a thousand hosts are remembered.
pub const VERIFIED_SIGNATURES_MAX: usize = 4096;

/// Certificates of upstreams whose facts are kept: more than an agent meets in an hour. One takes about
/// a kilobyte, and 70 at the most.
pub const READ_CERTIFICATES_MAX: usize = 128;

/// Client connections served at once; further ones wait in the kernel's accept queue. Each idle
/// one costs tens of kilobytes, so the bound stands for about a gigabyte.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Octets of a message head, start line included. The most generous of common servers (Node,
/// nginx, Apache) stop between 8 and 64 KiB; agents carry long tokens.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Octets of room for a head that a connection keeps between two messages. Most heads fit; a
/// larger one is rare enough to be allocated for.
pub const HEAD_ROOM_BYTES_KEPT: usize = 4 * 1024;

/// Octets of a request target. RFC 9110 section 4.1 asks for 8,000 at least.
pub const TARGET_BYTES_MAX: usize = 32 * 1024;

/// Field lines in one head.
pub const FIELDS_MAX: usize = 256;

/// Empty lines before a start line.
pub const EMPTY_LINES_MAX: usize = 16;

/// Options in the Connection fields of one head: each is compared with each field.
pub const CONNECTION_OPTIONS_MAX: usize = 64;

/// Octets of the details in a `Proxy-Status` field of ours.
pub const DETAILS_BYTES_MAX: usize = 256;

/// Octets of the extensions of all chunks of one body. Nobody uses them; a peer that sends
/// kilobytes of them wants to make us work (CVE-2023-39326 and its kind).
pub const CHUNK_EXTENSION_BYTES_MAX: u64 = 16 * 1024;

/// Octets of a trailer section.
pub const TRAILER_BYTES_MAX: usize = 32 * 1024;

/// Interim responses before the final one.
pub const INFORMATIONAL_MAX: usize = 64;

/// Octets of a ClientHello that is looked at; a larger one is refused as malformed.
pub const FIRST_BYTES_MAX: usize = 72 * 1024;

/// Octets asked from a socket in one read where the reader itself asks for little.
pub const READ_AHEAD_BYTES: usize = 64 * 1024;

/// Room for such reads that a thread keeps between two of them. One is in use at a time, two where
/// TLS lies within TLS; clients that read slowly hold one each.
pub const READ_ROOMS_MAX: usize = 4;

/// A reader that asks for at least this much is handed to the socket directly.
pub const READ_AHEAD_BYTES_MIN: usize = 8 * 1024;

/// Room that a connection offers for one read of a message: one TLS record of plaintext.
pub const READ_BYTES: usize = 16 * 1024;

/// Octets of a body that leave in one write: a body of 64 KiB with its head, five TLS records. A
/// connection that passes a large body holds as much, and twice as much while it writes.
pub const GATHERED_BYTES: usize = 64 * 1024 + READ_BYTES;

/// Octets that one direction of a tunnel holds between reading and writing.
pub const TUNNEL_BYTES: usize = 64 * 1024;

/// Room of the kernel pipe that one direction of a busy tunnel passes through.
pub const PIPE_BYTES: usize = 256 * 1024;

/// How often in a row a pipe may carry less than [`READ_BYTES`]; after that it is given back, and the tunnel
/// copies.
pub const PIPE_LITTLE_MAX: u32 = 16;

/// How long an idle tunnel keeps its pipes.
pub const PIPE_KEPT: Duration = Duration::from_secs(2);

/// A piece of a body up to this size is copied where it is told; a larger one shares the buffer that it
/// came in.
pub const COPIED_BYTES_MAX: usize = 4096;

/// Up to this size the last head and the first piece of the last body are remembered, per direction of a connection
/// that is watched, so that the same one again is not copied.
pub const REPEATED_BYTES_MAX: usize = 2048;

/// Up to this size a body is kept that came twice, so that who keeps events keeps it once.
pub const KNOWN_BODY_BYTES_MAX: usize = 1024 * 1024;

/// What all bodies take that are kept so.
pub const KNOWN_BODIES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Large bodies that are known again when they come a second time: 64 octets of each are remembered.
pub const KNOWN_BODIES_MAX: usize = 256;

/// Bodies that are copied at once because they came a second time.
pub const BODIES_COLLECTED_MAX: usize = 4;

/// Events collected on a connection before they are handed to the watcher.
pub const EVENTS_PER_BATCH: usize = 64;
/// Events for which a connection keeps memory when it has handed over what it collected: as many as one
/// request has.
pub const EVENTS_KEPT: usize = 8;

/// Concurrent streams that a client may open on one HTTP/2 connection. RFC 9113 section 6.5.2
/// advises 100 at least.
pub const HTTP2_STREAMS_MAX: u32 = 250;

/// Streams that a client may reset before we saw them, and that we keep in memory for it
/// (CVE-2023-44487).
pub const HTTP2_RESETS_MAX: usize = 50;

/// Requests that a client may reset on one HTTP/2 connection before they are answered, at once.
/// Each costs it two small frames, and us and the upstream a request (CVE-2023-44487).
pub const HTTP2_RESETS_BURST: u32 = 500;

/// Further resets of that kind, per second.
pub const HTTP2_RESETS_PER_SECOND: u32 = 20;

/// Streams of one HTTP/2 connection that may be reset because its client broke the rules on them, such
/// as by a WINDOW_UPDATE of zero, or opened more than [`HTTP2_STREAMS_MAX`], while the connection lasts.
/// Each of the former costs a request that is begun in vain (CVE-2025-8671). Honest clients break no
/// rule; one that does not know the bound yet may open a few hundred.
pub const HTTP2_FAULTS_MAX: usize = 500;

/// Flow-control window of one HTTP/2 stream towards either peer: what a stream can hold that
/// nobody reads.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 512 * 1024;

/// Flow-control window of one HTTP/2 connection towards either peer. It is as large as can be, so
/// that it is never what stops a stream: streams that stand still would use up a smaller one and
/// stop all others with them. The windows of the streams are the bound.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;

/// How long an HTTP/2 upstream with open streams may send nothing before it is asked whether it is
/// there.
pub const HTTP2_SILENCE: Duration = Duration::from_secs(30);

/// How long it may take to answer that. A server that is busy with one request answers late.
pub const HTTP2_PING_ANSWER: Duration = Duration::from_secs(30);

/// The time between two such questions if nothing else came: servers of gRPC hang up on clients that
/// ask more often.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(300);

/// Octets that one HTTP/2 stream may hold for sending before the pump waits.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Hosts whose pools and protocols are remembered; the longest unused is forgotten first.
pub const POOL_HOSTS_MAX: usize = 4096;

/// HTTP/2 connections to one target. A second one is opened only when the first has no free
/// stream.
pub const HTTP2_CONNECTIONS_PER_TARGET_MAX: usize = 8;

/// A larger hosts file is left to the resolver: such lists block names, and would take as much memory again.
pub const HOSTS_FILE_BYTES_MAX: u64 = 256 * 1024;
/// A hosts file that changed so lately is left to the resolver: it may change again and bear the same time,
/// which systems count in steps of up to 10 ms.
pub const HOSTS_FILE_SETTLED: Duration = Duration::from_secs(1);

/// Pause between two connection attempts to the addresses of one name (RFC 8305 section 5).
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// Silence on an upstream connection after which the kernel asks whether the peer is there.
pub const UPSTREAM_KEEPALIVE: Duration = Duration::from_secs(30);

/// How long what was sent to an upstream may stay unacknowledged before the connection is given up.
pub const UPSTREAM_UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Streams of one client connection that may be under way at once, those included that the client
/// has reset and that have not ended here yet.
pub const HTTP2_STREAMS_UNDER_WAY_MAX: usize = 2 * HTTP2_STREAMS_MAX as usize;

/// Addresses tried for one name.
pub const DIAL_ADDRESSES_MAX: usize = 8;

/// Pause of the accept loop when the system has no descriptor left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a closing connection is read further, so that the last reply is not lost to a reset
/// (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_millis(500);
/// How long a connection that has just been accepted may take to its first request when the engine stops, or takes
/// another configuration: who connected did so to ask something, and cannot tell why it is closed.
pub const FIRST_REQUEST_WAIT: Duration = Duration::from_millis(500);

/// How long a flow goes on without progress once the client has ended its side. Some clients end
/// their side after the request and still read; most that end it are gone, and what they asked
/// for costs money.
pub const HALF_CLOSED: Duration = Duration::from_secs(5);

/// How long the first bytes after a CONNECT are waited for, before the client is taken for one
/// whose server speaks first and is tunnelled.
pub const FIRST_BYTES: Duration = Duration::from_secs(3);

/// Pause between two looks at idle upstream connections.
pub const POOL_SWEEP: Duration = Duration::from_secs(5);

/// How long finding the process behind a connection may take. It takes milliseconds; a machine on
/// which it takes a second has more urgent things to do.
pub const PROCESS_LOOKUP: Duration = Duration::from_secs(1);

/// How long the end of the proxy waits for processes that are being looked up: they take
/// milliseconds, and a short run has no other chance to name its client.
pub const PROCESS_LOOKUPS_DRAIN: Duration = Duration::from_millis(100);

/// Lookups of processes at once that are not answered in place. Each reads thousands of small files of the
/// kernel, which no more threads make faster. As many sockets are kept for asking the kernel.
pub const PROCESS_LOOKUPS_MAX: usize = 4;

/// Processes that are remembered as owners of connections, to be asked first for the next one. An
/// agent and its tools are a handful. Two files are held open for each.
pub const PROCESS_OWNERS_MAX: usize = 32;

/// How long what was read of a process is said of its further connections. What may change meanwhile is what
/// a program changes of itself: its arguments, its user, its control group.
pub const PROCESS_DESCRIBED_AGE_MAX: Duration = Duration::from_secs(1);

/// Processes that are looked at in one lookup, the youngest first.
pub const PROCESSES_MAX: usize = 65_536;

/// Descriptors of one process that are looked at.
pub const PROCESS_DESCRIPTORS_MAX: usize = 65_536;

/// Descriptors of a process that are looked at first, to either side of the one of its latest connection: a
/// client numbers its connections one after the other, and uses again the numbers of those that it closed.
pub const PROCESS_DESCRIPTORS_NEAR: u32 = 8;

/// Places among the descriptors of a process at which its connections were found lately, all of which are looked
/// at.
pub const PROCESS_AREAS_MAX: usize = 8;

/// Descriptors that are looked at for a connection, of all processes together, before the search is left to a
/// thread for blocking work. One takes a microsecond or two, so that all are no longer than a step of TLS.
pub const PROCESS_GUESSES_MAX: usize = 32;

/// Connections of a process whose descriptors are remembered while they are open, and as many after they
/// ended: a client that holds more opens them rarely.
pub const PROCESS_PLACES_MAX: usize = 512;

/// Descriptors to either side that are looked at next, of the process that connected last alone.
pub const PROCESS_DESCRIPTORS_AROUND: u32 = 256;

/// Octets kept of the arguments of a process: prompts on command lines are long, and the kernel
/// allows megabytes.
pub const PROCESS_ARGUMENTS_BYTES_MAX: usize = 16 * 1024;

/// Octets read of a file in which the kernel describes a process. They have a few kilobytes.
pub const PROCESS_FILE_BYTES_MAX: usize = 64 * 1024;

/// Octets read of the kernel's table of sockets: some 400,000 sockets.
pub const SOCKET_TABLE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Ancestors of a process that are named. A tool of an agent in a terminal has about eight.
pub const PROCESS_ANCESTORS_MAX: usize = 16;

/// What waits to be told to a handler of one connection id. A model's stream has tens of pieces a
/// second; a handler that is a thousand behind will not catch up.
pub const DISPATCH_ITEMS_MAX: usize = 1024;

/// Threads that a handler may have for `should_intercept_tls` at once: one that hangs keeps its
/// thread. The runtime has 512 for such work, some of which resolve names.
pub const INTERCEPT_QUESTIONS_MAX: usize = 64;

/// Octets of what waits to be told to a handler of one connection id.
pub const DISPATCH_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Octets shown to analyzers of each body, content codings undone. The longest contexts of today
/// fit.
pub const ANALYSIS_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Octets of bodies that are collected for analyzers at once, over all flows. Beyond it bodies are
/// cut: a hundred agents with long contexts fit.
pub const ANALYSIS_COLLECTED_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Events that wait for the analyzers: some seconds of a busy proxy.
pub const ANALYSIS_EVENTS_MAX: usize = 65_536;

/// Octets of the events that wait for the analyzers; as many again may be at the analyzers.
pub const ANALYSIS_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long analyzers may go on with what is queued once the proxy has stopped.
pub const ANALYSIS_FINISH: Duration = Duration::from_secs(10);

/// Streams that are merged at once; the one that began first is handed on unfinished when another
/// begins. HTTP/2 carries 250 at once on a connection.
pub const MERGED_STREAMS_MAX: usize = 1024;

/// Octets of text of one merged stream, of each of its parts. The longest answers of models have
/// about half of it.
pub const MERGED_BYTES_MAX: usize = 1024 * 1024;

/// Parts that one merged stream is sorted into: choices, blocks of thinking, calls of tools.
pub const MERGED_PARTS_MAX: usize = 256;

/// Size at which a log file is rotated.
pub const LOG_FILE_BYTES: u64 = 10 * 1024 * 1024;

/// Rotated log files that are kept besides the one that is written.
pub const LOG_FILES_KEPT: usize = 5;

/// Longest wait that can be configured, in milliseconds: a day. What is meant to last longer is
/// meant to last forever, and nothing here does.
pub const SETTING_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// When a client that was refused because too much is going on is told to come again, in seconds.
/// Flows last from milliseconds to minutes; sooner would only add to what is going on.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// Wrong logins that a client may try within [`ATTEMPTS_WINDOW`]. A person mistypes a few times, a
/// program with an old password tries once and stops; who guesses needs thousands.
pub const ATTEMPTS_MAX: u32 = 10;

/// After this long a client that was wrong too often may try again.
pub const ATTEMPTS_WINDOW: Duration = Duration::from_secs(60);

/// Clients whose wrong logins are counted at once, some 60 bytes each.
pub const ATTEMPTS_CLIENTS_MAX: usize = 4096;

/// How long a login that was found right is admitted without asking again: for how long a revoked
/// token still begins requests, inside connections that were opened with it as well. What has begun
/// goes on, a tunnel that is not opened too.
pub const ADMITTED_FOR: Duration = Duration::from_secs(300);

/// Logins that are remembered as right, at each listener. Each takes some 60 bytes.
pub const ADMITTED_MAX: usize = 4096;

/// Logins that are looked at together. Hashing a password takes a core and tens of megabytes for as
/// long as it takes.
pub const VERIFICATIONS_MAX: usize = 4;

/// How long it may take to find out whether a login is right, waiting for others included. Clients
/// wait for as long with their first request.
pub const VERIFICATION_TIMEOUT: Duration = Duration::from_secs(10);

/// Flows at once, if nothing else is configured. Each costs tens of kilobytes, as a connection does;
/// streams of HTTP/2 would otherwise multiply those by hundreds.
pub const FLOWS_MAX: usize = 16_384;

/// Connections of one client at once, if nothing else is configured: a quarter of all, so that one
/// that forgets to close them does not keep others out. All agents of a machine may be one client.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = CONNECTIONS_MAX / 4;

/// Octets held for a handler at once, if nothing else is configured: bodies that wait to be whole
/// and what waits to be told. Twenty-five bodies of the largest size that is held by default.
pub const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Programs and hosts whose refusals of our certificate are counted. There are as many as programs
/// that do not trust us, times the hosts they ask; the one longest past goes.
pub const REJECTIONS_MAX: usize = 1024;

/// After how long without a refusal a count begins anew: what refused has been mended, or was a
/// passing state.
pub const REJECTIONS_FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// Connections remembered whose clients took our certificate, to tell one that knows the
/// certificate it wants from one that does not trust us at all.
pub const ACCEPTED_MAX: usize = 1024;

/// Characters of a client's name that are told with its flows.
pub const USER_CHARS_MAX: usize = 256;

/// Connections to one target that a SOCKS proxy is asked for at once while it has led there with none
/// of them. Clients open tens, and the first answers within a moment; one that comes back to oriel
/// opens as many as it can, of two or three descriptors each.
pub const NESTED_MAX: usize = 256;

/// Engines of oriel that something may come through, one after the other. People have two or three.
pub const HOPS_MAX: usize = 16;
