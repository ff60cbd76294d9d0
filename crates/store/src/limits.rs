//! Every bound of this crate, with its reason.

use std::time::Duration;

/// Bytes the queue between the engine and the writer may hold: about a second of a fast upstream.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Events the same queue may hold: small events cost more memory than the bytes they carry.
pub const QUEUE_EVENTS_MAX: usize = 200_000;
/// How long the writer gathers before it writes: one transaction per batch, and an answered flow is
/// on disk well within 200 ms. A flow that is open by then waits for another batch, as long at most.
pub const GATHER: Duration = Duration::from_millis(25);
/// The writer stops gathering at this many bytes: what it reads is then still in the cache of the core,
/// which has a megabyte or two. At 60,000 requests a second that is every 15 ms.
pub const GATHER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// This part of the queue is for all but bodies: when bodies fill the rest and are dropped, flows are still
/// told of.
pub const QUEUE_BODILESS_PART: usize = 8;
/// Ends of flows that the queue holds beyond these when it drops the rest: of as many as are assembled at once.
pub const QUEUE_ENDS_MAX: usize = OPEN_FLOWS_MAX;
/// The writer stops gathering when the queue is this part full.
pub const GATHER_FULL_PART: usize = 4;
/// How long SQLite waits for another process that writes.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Compiled statements that a connection which writes keeps: as many as a flow may ask for, with its
/// connections, bodies and messages.
pub const STATEMENTS_KEPT_MAX: usize = 64;
/// How often a file is tried to be opened that others open at the same moment; each attempt waits
/// for its part of [`BUSY_TIMEOUT`].
pub const OPEN_ATTEMPTS: u32 = 10;
/// Pause between two of those attempts.
pub const OPEN_PAUSE: Duration = Duration::from_millis(20);
/// First pause after a write that failed; doubled each time.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two tries to write.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long closing a store waits for what is queued.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Body bytes of open flows that stay in memory before they are moved to the database.
pub const OPEN_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A body that was moved in parts is put together at its end up to this size; a larger one stays
/// in parts.
pub const REJOINED_BODY_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How long the process behind a connection is awaited that is not known when the connection is stored. Who looks
/// for it gives up earlier.
pub const PROCESS_AWAITED_MAX: Duration = Duration::from_secs(10);
/// How often the writer looks for it when nothing else comes.
pub const PROCESS_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Flows of one connection that are told of again when its process is found; it is found long before as many.
pub const AWAITED_FLOWS_MAX: usize = 10_000;
/// Flows open at once that are assembled; a further one is a gap. Each takes about a kilobyte.
pub const OPEN_FLOWS_MAX: usize = 200_000;
/// Interim responses that are kept of one flow.
pub const INFORMATIONAL_MAX: usize = 16;
/// Bytes of one head that are kept; the engine's own limit is lower.
pub const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one head when it is read: masking makes it longer, at most about four times.
pub const READ_HEAD_BYTES_MAX: usize = 8 * HEAD_BYTES_MAX;
/// A head up to this is remembered with its connection, to compare others with it. Most are smaller.
pub const REMEMBERED_HEAD_BYTES_MAX: usize = 2048;

/// Messages of one WebSocket that are kept; later ones are counted. A realtime session of an hour
/// has tens of thousands.
pub const MESSAGES_KEPT_MAX: u64 = 100_000;
/// Bytes kept of one message. Most have some hundred; sound and pictures come in pieces.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes kept of all messages of one WebSocket: an hour of sound both ways.
pub const MESSAGES_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// A message up to this lies in its own row; a larger one is stored like a body.
pub const INLINE_MESSAGE_BYTES_MAX: usize = 512;

/// A body below this is stored as it is: compressing it costs more time than writing what it saves.
pub const COMPRESSED_BODY_BYTES_MIN: usize = 2048;
/// A body up to this is not looked for in the database: the index over random hashes costs more
/// than storing it again. Equal ones that follow each other closely are found in memory.
pub const SMALL_BODY_BYTES_MAX: usize = 4096;
/// zstd level: the fastest one; bodies are mostly text that comes once.
pub const ZSTD_LEVEL: i32 = 1;
/// Hashes of stored bodies that are remembered, to not ask the database for them.
pub const REMEMBERED_HASHES_MAX: usize = 8192;
/// Small bodies that are remembered whole: at most 2 MiB.
pub const REMEMBERED_BODIES_MAX: usize = 512;
/// Certificates whose text is remembered, of clients and of upstreams.
pub const REMEMBERED_CERTIFICATES_MAX: usize = 128;
/// Large bodies that came again and are held, so that they are known by where they lie: at most 16 MiB, and
/// what else lies in the buffers that they came in.
pub const REMEMBERED_LARGE_BODIES_MAX: usize = 16;
/// The largest of them.
pub const REMEMBERED_LARGE_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Pieces of one of them. A piece may hold a buffer many times as large as it is, so one that came in more is not
/// held: of the largest these are pieces of 16 KiB, of which a read gives no more.
pub const REMEMBERED_LARGE_BODY_PIECES_MAX: usize = 64;
/// A content from here on is compared with what was stored before, chunk by chunk: requests to models
/// repeat all that was said before. Below it what is saved is not worth the list of pieces.
pub const PIECED_BODY_BYTES_MIN: usize = 8 * 1024;
/// A content beyond this is stored whole: putting one together takes memory for all of it.
pub const PIECED_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Least and largest length of a chunk. On average one has 1.25 KiB: shorter ones cost more to look
/// for, and of longer ones more is stored again around each change.
pub const CHUNK_BYTES_MIN: usize = 256;
/// See [`CHUNK_BYTES_MIN`].
pub const CHUNK_BYTES_MAX: usize = 8 * 1024;
/// Chunks that are remembered with the row that holds them, about 80 bytes each: 80 MiB of contents,
/// a few hundred conversations.
pub const REMEMBERED_CHUNKS_MAX: usize = 65_536;
/// Rows that one content is put together from at most: each takes some microseconds to find and
/// unpack. One that would need more is stored whole, and what follows is made of it.
pub const PIECE_SOURCES_MAX: usize = 256;
/// Places that are remembered as stored already: hosts, with the methods and routes they are asked by.
pub const REMEMBERED_PLACES_MAX: usize = 1024;
/// Versions of responses, each with a content type, that are remembered as stored already.
pub const REMEMBERED_RESPONSE_KINDS_MAX: usize = 1024;
/// Of these, how long a content type is at most.
pub const REMEMBERED_CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Sessions that are remembered as stored already, with each of their agents.
pub const REMEMBERED_SESSIONS_MAX: usize = 1024;
/// Ids by which requests before and behind a gateway are known to be one that are remembered. The
/// second comes milliseconds after the first.
pub const REMEMBERED_LINKS_MAX: usize = 4096;
/// Flows without a session that wait for one that has the same id. One request makes two or three.
pub const LINKED_FLOWS_MAX: usize = 64;
/// Time between two flows that have an id in common, beyond which it is taken for a coincidence.
pub const LINK_AGE_MAX: Duration = Duration::from_secs(10 * 60);
/// Ends of conversations that are remembered, to know a request that goes on with one: about a hundred bytes
/// each. A conversation needs the last of its own alone.
pub const REMEMBERED_CONVERSATIONS_MAX: usize = 8192;
/// Time after which nobody goes on with a conversation that names no session: a working day with its breaks.
pub const CONVERSATION_AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Connections of each side that are remembered as stored already, with up to three heads each: at
/// most 48 MiB of heads, mostly a fifth of that.
pub const REMEMBERED_CONNECTIONS_MAX: usize = 4096;

/// Bytes of a file that is imported which one flow may take: a HAR has bodies in base64.
pub const IMPORTED_FLOW_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes of a body in a HAR, its content coding undone: as much as is shown.
pub const EXPORTED_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Flows of one group of rows of a Parquet file: as many are in memory, unless their bodies are larger.
pub const PARQUET_GROUP_ROWS_MAX: usize = 10_000;
/// Bytes of the heads and bodies of one such group.
pub const PARQUET_GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Lists within lists of a typed netstring; mitmproxy writes five.
pub const TNETSTRING_DEPTH_MAX: usize = 32;
/// Bytes of a body that are indexed and searched, its content coding undone: a long conversation.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Letters and digits without a sign between them that may be words; more are pictures in base64.
pub const TEXT_RUN_BYTES_MAX: usize = 256;
/// Bytes that an archive keeps of a word: PostgreSQL takes 2046 at most, and no word that people look for
/// has more than a few.
pub const ARCHIVE_WORD_BYTES_MAX: usize = 256;
/// Bytes of the different words of a flow that an archive keeps: PostgreSQL takes a mebibyte at most. A
/// large vocabulary has a tenth of that.
pub const ARCHIVE_WORDS_BYTES_MAX: usize = 512 * 1024;
/// Flows whose texts are read from an archive at once to look for a phrase: their bodies are in memory.
pub const ARCHIVE_SEARCH_AT_ONCE: usize = 20;
/// Flows with the words that one search looks at: a filter may leave out most.
pub const SEARCH_CANDIDATES_MAX: usize = 50_000;
/// Flows whose texts one search reads: of several words the index does not know whether they stand
/// beside each other.
pub const SEARCH_READ_MAX: usize = 2_000;
/// Flows that are indexed in one transaction: a fraction of a second.
pub const INDEX_STEP_FLOWS_MAX: u64 = 1_000;
/// Bytes of texts that are indexed in one transaction.
pub const INDEX_STEP_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Pages of the index that are written anew in one transaction when flows went: some milliseconds.
pub const INDEX_MERGE_PAGES: i64 = 64;
/// The index is written anew when of as many flows as this one went: each of the others is read once.
pub const INDEX_MERGED_AT_PART: u64 = 10;
/// How often a service looks whether the record is there, until it is.
pub const INDEX_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long no flow may have come before a service indexes.
pub const INDEX_IDLE_FOR: Duration = Duration::from_secs(2);
/// How long a service that is never idle puts it off.
pub const INDEX_WAITS_MAX: Duration = Duration::from_secs(60);
/// Bytes of one tag: a word or a few.
pub const TAG_BYTES_MAX: usize = 64;
/// Tags of one flow: more is a list that nobody reads.
pub const TAGS_MAX: usize = 32;
/// Bytes of the note of a flow: it is shown beside the flow in lists.
pub const NOTE_BYTES_MAX: usize = 4096;

/// Bytes that the spool takes at most, unless it is said otherwise: a minute and more of what a fast
/// upstream sends.
pub const SPOOL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// How long the writer waits for another process that writes, if there is a spool: the queue has room for
/// what comes meanwhile. Whoever writes in small transactions is done by then.
pub const SPOOL_AFTER: Duration = Duration::from_secs(1);
/// How long it waits once it goes on into the spool, each time it tries the database.
pub const SPOOL_BUSY_TIMEOUT: Duration = Duration::from_millis(100);
/// Pause between two of these tries.
pub const SPOOL_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked whether a process that died left something in the spool.
pub const SPOOL_LOOK_EVERY: Duration = Duration::from_secs(60);
/// A file of the spool is finished when it has grown to this: what is damaged loses no more, and what is
/// merged is given back bit by bit.
pub const SEGMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of flows that go into the spool as one content: it is built in memory.
pub const SPOOL_CONTENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of bodies and messages of open flows that stay in memory while the database cannot be written;
/// of more, nothing is kept.
pub const SPOOL_OPEN_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Rows that are removed in one transaction: a few milliseconds in which nobody else writes.
pub const REMOVAL_ROWS_MAX: usize = 200;
/// Pause between two of those transactions, in which the writer has its turn.
pub const REMOVAL_PAUSE: Duration = Duration::from_millis(3);
/// Free pages that are given back to the file system in one transaction: 2 MiB.
pub const VACUUM_PAGES_MAX: usize = 256;
/// Rows of `flow_changes` that are kept for followers when a database is opened.
pub const CHANGES_KEPT: i64 = 10_000;
/// Flows that one row of `arrivals` stands for: a lookup of one looks at up to as many.
pub const ARRIVAL_FLOWS_MAX: usize = 500;
/// Messages that one page of a WebSocket has at most.
pub const PAGE_MESSAGES_MAX: usize = 1000;
/// Rows that one page of a list has at most.
pub const PAGE_ROWS_MAX: usize = 10_000;
/// Rows that one look for changes gives at most.
pub const CHANGES_ROWS_MAX: usize = 1000;
/// Bytes of the records that one look gives, the last of them not counted: a few of these are in memory
/// at once while they are copied.
pub const RECORDS_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Flows that are copied from one database to another at once.
pub const RECORDS_FLOWS_MAX: usize = 2000;
/// Runs that are read at once for that.
pub const RECORDS_RUNS_MAX: usize = 500;
/// Pages that a backup copies between two reports: 8 MiB.
pub const BACKUP_PAGES: i32 = 1024;
/// Faults of a file that are named.
pub const CHECK_FINDINGS_MAX: usize = 100;
/// Flows that go to an archive at once: a batch costs it a commit, and is sent again if that fails.
pub const SHIP_FLOWS_MAX: usize = 2000;
/// Runs and gaps that go with them, others go with the next; also runs that are remembered meanwhile.
pub const SHIP_RUNS_MAX: usize = 500;
/// See [`SHIP_RUNS_MAX`].
pub const SHIP_GAPS_MAX: usize = 500;
/// How long copying to an archive pauses when there is nothing: what came meanwhile goes in one batch.
pub const SHIP_PAUSE: Duration = Duration::from_millis(250);
/// How often it is counted what waits for an archive.
pub const SHIP_STATUS_PAUSE: Duration = Duration::from_secs(1);
/// First pause after an archive could not be used; doubled each time.
pub const SHIP_RETRY_PAUSE_MIN: Duration = Duration::from_millis(250);
/// Longest pause until an archive is tried again.
pub const SHIP_RETRY_PAUSE_MAX: Duration = Duration::from_secs(15);
/// Largest program a regular expression of a filter may compile to.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Connecting to PostgreSQL, each address of a name on its own.
pub const POSTGRES_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections to one PostgreSQL database that a process has at once, unless the URL says otherwise: one that
/// copies, one for words, one that reads, one that removes.
pub const POSTGRES_CONNECTIONS_MAX: usize = 4;
/// Waiting for one of them, unless the URL says otherwise.
pub const POSTGRES_POOL_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection is used as it is within this, and asked for a sign of life later.
pub const POSTGRES_IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// Waiting for that sign; then another connection is made.
pub const POSTGRES_IDLE_CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// An idle connection is closed after this, when another one is given back.
pub const POSTGRES_IDLE_MAX: Duration = Duration::from_secs(600);
/// Waiting for a lock that another holds, for example who changes a table.
pub const POSTGRES_LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// One statement, and the silence of a server in the middle of a connection.
pub const POSTGRES_STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);
/// Connecting to ClickHouse.
pub const CLICKHOUSE_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A request to ClickHouse with its answer.
pub const CLICKHOUSE_REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of rows that are sent to ClickHouse at once, and the bytes of one more row.
pub const CLICKHOUSE_INSERT_BYTES: usize = 8 * 1024 * 1024;
/// The largest answer of ClickHouse: as many flows as are asked for at once, with large bodies in base64.
pub const CLICKHOUSE_ANSWER_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// What is read of an error of ClickHouse, which repeats the statement.
pub const CLICKHOUSE_ERROR_BYTES_MAX: u64 = 4096;
/// Flows with their bodies that are asked for at once.
pub const CLICKHOUSE_RECORDS_AT_ONCE: usize = 50;
/// Flows that are removed from ClickHouse by one statement: each rewrites what says which rows of a part are
/// there, and their UUIDs stand in its text, which has 256 KiB at most.
pub const CLICKHOUSE_REMOVAL_FLOWS_MAX: usize = 5000;
/// How old a row is before those who follow are told of it: by then an insert is visible, and what the
/// clocks of servers differ by does not count.
pub const CLICKHOUSE_SETTLING: Duration = Duration::from_secs(2);
/// Bytes of rows that are sent to PostgreSQL at once.
pub const POSTGRES_COPY_BYTES: usize = 1024 * 1024;
/// Flows with their bodies that are asked for at once; a body may have tens of megabytes.
pub const POSTGRES_RECORDS_AT_ONCE: usize = 50;
/// Words that wait beside their index until a second connection puts them into it: the more at once, the
/// more often each of them, which is then put there once. Whoever writes does it at four times as much (see
/// `postgres/connect.rs`): by then the second connection has not come, or does not keep up.
pub const POSTGRES_LISTED_WORD_BYTES: usize = 16 * 1024 * 1024;
/// Flows with a word that are read and sorted rather than looked for from the newest on: some ten
/// milliseconds.
pub const POSTGRES_FEW_FLOWS_MAX: u64 = 2000;
/// A body up to this lies in its own row: one in chunks costs a lookup for each.
pub const POSTGRES_INLINE_BODY_BYTES_MAX: usize = 4096;
/// Least and largest length of a chunk but the last. Each takes about a hundred bytes besides, so that
/// shorter ones save nothing.
pub const POSTGRES_CHUNK_BYTES_MIN: usize = 4096;
/// The largest.
pub const POSTGRES_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Characters of the host and the session id that are stored in columns with an index, which takes at
/// most 2700 bytes. A name of DNS has at most 253.
pub const POSTGRES_INDEXED_CHARS_MAX: usize = 512;
