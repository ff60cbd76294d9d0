//! Watching as a chain of analyzers: the whole engine behind one builder.
//!
//! Where it stands: beside the path of the bytes, behind a [`Watcher`](crate::Watcher). Events are
//! put into a bounded queue; a thread of its own makes [`AnalysisMsg`]s of them and hands each to
//! the analyzers, in the order in which they were added. Nothing here ever waits in the traffic's
//! way: what the queue cannot hold is lost and counted in [`AnalysisCounts`].
//!
//! ```no_run
//! use oriel_proxy::analysis::{ChunkMerger, FileLogger, HttpParser, MitmProxyRunner};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mitm_runner = MitmProxyRunner::builder()
//!     .listen_addr("127.0.0.1:8080")
//!     .allowlist(vec!["api.openai.com", "files.openai.com"])
//!     .ca_cert_path("mitm-ca.crt")
//!     .add_analyzer(HttpParser::new())
//!     .add_analyzer(ChunkMerger::new())
//!     .add_analyzer(FileLogger::new("mitm-traffic.log"))
//!     .build();
//!
//! mitm_runner.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is analyzed
//! Requests that the engine could read: of hosts on the allowlist, and those in plain HTTP. Bytes
//! of tunnels are never looked at, and no message tells of them.
//!
//! Credentials in fields and query parameters are taken out before the first analyzer sees a
//! message ([`AuthHeaderRemover`]), unless
//! [`danger_keep_credentials`](RunnerBuilder::danger_keep_credentials) is asked for. Credentials in
//! bodies are not found.

mod assembly;
mod auth_header_remover;
mod authority_files;
mod chunk_merger;
mod file_logger;
mod http_parser;
mod message;
mod pipeline;
mod queue;
mod runner;
#[cfg(test)]
mod samples;
mod text;

pub use auth_header_remover::AuthHeaderRemover;
pub use chunk_merger::ChunkMerger;
pub use file_logger::FileLogger;
pub use http_parser::HttpParser;
pub use message::{AnalysisMsg, Body, Record, Request, RequestMeta, ResponseDone, StreamChunk};
pub use pipeline::{AnalysisCounts, Next};
pub use runner::{BoundRunner, MitmProxyRunner, RunError, RunnerBuilder};

/// One step of the chain.
///
/// It gets every message that the step before handed on, one at a time, on the thread of the
/// chain; it may block there, and while it does the queue in front fills. For each flow it gets
/// one [`AnalysisMsg::Request`], then any number of [`AnalysisMsg::StreamChunk`], then one
/// [`AnalysisMsg::ResponseDone`], with the [`AnalysisMsg::Record`]s of the steps before between
/// them; messages of different flows interleave. (Where the engine was too fast for the chain,
/// whole flows are missing, or parts of one: its `ResponseDone` then says that it is incomplete.)
///
/// What it hands to [`Next::pass`] is all that the next step gets: the message as it is, changed,
/// with others before or after it, or nothing. Whoever wants to be transparent passes what it
/// does not know.
///
/// One that panics loses the message it was at, nothing of which goes on; the panic is counted,
/// and it gets the next message all the same.
///
/// ```
/// use oriel_proxy::analysis::{AnalysisMsg, Analyzer, Next, Record};
///
/// /// Adds a record with the tokens of each answer.
/// struct Tokens;
///
/// impl Analyzer for Tokens {
///     fn name(&self) -> &'static str {
///         "tokens"
///     }
///
///     fn analyze(&mut self, message: AnalysisMsg, next: &mut Next) {
///         if let AnalysisMsg::ResponseDone(done) = &message
///             && let Some(usage) = &done.usage
///         {
///             next.pass(AnalysisMsg::Record(Box::new(Record {
///                 source: "tokens",
///                 id: done.id,
///                 at: done.at,
///                 data: usage["total_tokens"].clone(),
///             })));
///         }
///         next.pass(message);
///     }
/// }
///
/// # use oriel_proxy::analysis::{Body, ResponseDone};
/// # let done = ResponseDone {
/// #     id: uuid::Uuid::nil(),
/// #     at: traffic::Timestamp(1_767_225_600_000_000),
/// #     status: Some(200),
/// #     usage: Some(serde_json::json!({ "total_tokens": 42 })),
/// #     head: None,
/// #     body: Body::default(),
/// #     chunks: 0,
/// #     incomplete: None,
/// # };
/// let mut next = Next::new();
/// Tokens.analyze(AnalysisMsg::ResponseDone(Box::new(done)), &mut next);
/// let sources: Vec<_> = next.messages().iter().map(|message| message.to_json()["source"].clone()).collect();
/// assert_eq!(sources, ["tokens", "response_done"]);
/// assert_eq!(next.messages()[0].to_json()["data"], 42);
/// ```
pub trait Analyzer: Send + 'static {
    /// What it is called where its failures are logged, for example `file_logger`.
    fn name(&self) -> &'static str;

    /// Takes a message.
    fn analyze(&mut self, message: AnalysisMsg, next: &mut Next);

    /// No message follows: the time to hand on what was held back.
    fn finish(&mut self, next: &mut Next) {
        let _ = next;
    }
}
