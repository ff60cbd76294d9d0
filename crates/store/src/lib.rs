//! Turns the events of the engine into records that are kept, searched and read.
//!
//! Where it stands: [`Recorder::handle_events`] takes what the engine reports and returns at once;
//! one writer thread assembles flows, masks credentials and writes batches into a SQLite file;
//! [`Reader`] answers questions about that file, with or without a proxy running. It never sees a
//! socket and never decides about traffic.
//!
//! ```
//! use oriel_store::{NewRun, Query, Reader, Redaction, RunKind, Store, StoreOptions};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("oriel.db");
//!
//! let store = Store::open(&path, StoreOptions::new(Redaction::Basic))?;
//! let run = store.begin_run(NewRun {
//!     name: None,
//!     argv: vec!["curl".to_owned()],
//!     started_at: traffic::Timestamp(0),
//!     kind: RunKind::Run,
//! })?;
//! let recorder = store.recorder(run);
//! recorder.handle_events(&mut Vec::new()); // from the engine
//! store.close()?;
//!
//! let reader = Reader::open(&path)?;
//! assert_eq!(reader.resolve_run("@last")?, run);
//! assert!(reader.flows(&Query::default())?.rows.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(missing_docs)]

mod annotate;
mod archive;
mod clickhouse;
mod database;
mod detail;
mod error;
mod flow_record;
mod formats;
mod head_delta;
mod head_text;
mod id;
mod importer;
mod ingest;
mod interrupted;
mod location;
mod maintenance;
mod migration;
mod plain;
mod postgres;
mod process;
mod record;
mod recorder;
mod retention;
mod row_number;
mod run;
mod search;
mod sessions;
mod shipper;
mod spool;
mod store;

pub mod json;
pub mod limits;
pub mod reader;

pub use annotate::{Annotate, AnnotateError, Annotation, Annotator};
pub use archive::{Archive, ArchiveBatch, ArchiveStatus, Migrated};
pub use clickhouse::{ClickHouseArchive, clickhouse_reader_role, clickhouse_schema};
pub use error::StoreError;
pub use flow_record::{FlowRecord, GapRecord, Origin, Records, RunRecord, flow_uuid};
#[cfg(feature = "parquet")]
pub use formats::ParquetWriter;
pub use formats::{FlowWriter, Format, Found, Import, Place, ReadError};
pub use id::{FlowRef, RunId, UnknownId};
pub use importer::{Imported, Importer};
pub use llm::{Confidence, Method as SessionMethod, TrafficType};
pub use location::{Location, UnknownLocation};
pub use maintenance::{
    Copied, FileStatus, Outgoing, back_up, check_file, check_file_in_phases, copy, file_status,
    forget_archive, migrate_file,
};
pub use postgres::{PostgresArchive, READONLY_ROLE, postgres_schema};
pub use reader::{
    Changes, Cursor, Marker, Order, Page, Query, Reader, Session, SortKey, Stats, StatsGroup,
    StatsKey,
};
pub use record::{
    AncestorView, Body, CertificateView, ConnectionView, ErrorView, FlowDetail, FlowKind, FlowRow,
    FlowState, GatewayView, HeadView, Message, MessageCounts, ProcessView, SessionMark,
    StreamMessage, TlsView, UpstreamView,
};
pub use recorder::{Losses, Queued, Recorder};
pub use retention::{Choice, Chosen, Doomed, Keep, Progress, Removal, Remover};
pub use run::{EndRun, FailureGroup, HostCount, NewRun, Percentiles, Run, RunKind, RunSummary};
pub use search::{
    Excerpt, Hit, Hits, Search, SearchCursor, TextIndex, TextIndexer, TextPart, is_binary,
};
pub use sessions::{SessionEditor, SessionName};
pub use shipper::{Shipper, ShipperOptions, ShipperState, ShipperStatus, ShipperWatch};
pub use spool::Spooled;
pub use store::{Store, StoreOptions};
pub use traffic::rules::redact::Redaction;
