//! What the file has of a flow already, and whether what comes tells more.

use rusqlite::Connection;

use super::Meeting;
use crate::reader::detail;
use crate::{FlowDetail, FlowRef, FlowState, Message, RunId, StoreError};

/// A flow that is stored.
pub(super) struct Stored {
    pub(super) row: i64,
    pub(super) bodies: BodyRows,
    /// Under the id that the flow has where it comes from.
    detail: FlowDetail,
}

/// The rows of the bodies of a flow.
#[derive(Clone, Copy)]
pub(super) struct BodyRows {
    pub(super) request: Option<i64>,
    pub(super) response: Option<i64>,
}

impl Stored {
    /// Finds a flow that comes, of the run that has this id here.
    pub(super) fn find(
        connection: &Connection,
        run: RunId,
        coming: &FlowDetail,
    ) -> Result<Option<Self>, StoreError> {
        let seq = coming.row.id.seq;
        let Some(mut detail) = detail::read(connection, FlowRef { run, seq })? else {
            return Ok(None);
        };
        detail.row.id = coming.row.id;
        let sql = format!(
            "SELECT id, request_body, response_body FROM ({})",
            detail::FLOW
        );
        let stored = connection.prepare_cached(&sql)?.query_row(
            (run.as_str(), detail::seq(FlowRef { run, seq })),
            |row| {
                Ok(Self {
                    row: row.get(0)?,
                    bodies: BodyRows {
                        request: row.get(1)?,
                        response: row.get(2)?,
                    },
                    detail,
                })
            },
        )?;
        Ok(Some(stored))
    }

    /// Whether what comes has something that is missing here.
    pub(super) fn lacks(&self, coming: &FlowDetail, meeting: Meeting) -> bool {
        match meeting {
            Meeting::Replace => self.is_changed_by(coming),
            Meeting::Complete => self.is_completed_by(coming),
        }
    }

    /// A flow that is stored as ended does not open again.
    fn is_changed_by(&self, coming: &FlowDetail) -> bool {
        // A flow that is open has bodies and messages in the making.
        is_open(&self.detail) || !is_open(coming) && self.detail != *coming
    }

    /// Whether what comes tells more than what is stored: the end of a flow, or while it is open the
    /// head of its response. One that was only found to be interrupted has no end.
    fn is_completed_by(&self, coming: &FlowDetail) -> bool {
        let has_ended = self.detail.request_kept_bytes.is_some();
        let is_answered = |flow: &FlowDetail| flow.row.status.is_some();
        let brings_answer = is_answered(coming) && !is_answered(&self.detail);
        !has_ended && (!is_open(coming) || brings_answer)
    }
}

impl BodyRows {
    pub(super) fn of(self, message: Message) -> Option<i64> {
        match message {
            Message::Request => self.request,
            Message::Response => self.response,
        }
    }
}

fn is_open(flow: &FlowDetail) -> bool {
    flow.row.state == FlowState::Open
}
