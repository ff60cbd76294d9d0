//! The fields of a request head that tell who asks and in which session, found in one pass.

use traffic::Head;

/// A field that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Baggage,
    ClaudeAgent,
    ClaudeParentAgent,
    ClaudeSession,
    CodexParentThread,
    CodexThread,
    CodexTurn,
    ConversationId,
    CopilotIntegration,
    CopilotSession,
    CursorVersion,
    HeliconeSession,
    Interaction,
    KiloTask,
    LitellmSession,
    McpSession,
    MuxWorkspace,
    OpencodeSession,
    Originator,
    ParentSession,
    RequestId,
    SessionId,
    SessionIdOld,
    Title,
    Traceparent,
    UserAgent,
    XClientRequestId,
    XCorrelationId,
    XRequestId,
    XSessionId,
}

/// Each field with its name, in the order of [`Field`].
const NAMES: [(Field, &str); 30] = [
    (Field::Baggage, "baggage"),
    (Field::ClaudeAgent, "x-claude-code-agent-id"),
    (Field::ClaudeParentAgent, "x-claude-code-parent-agent-id"),
    (Field::ClaudeSession, "x-claude-code-session-id"),
    (Field::CodexParentThread, "x-codex-parent-thread-id"),
    (Field::CodexThread, "thread-id"),
    (Field::CodexTurn, "x-codex-turn-metadata"),
    (Field::ConversationId, "conversation_id"),
    (Field::CopilotIntegration, "copilot-integration-id"),
    (Field::CopilotSession, "x-client-session-id"),
    (Field::CursorVersion, "x-cursor-client-version"),
    (Field::HeliconeSession, "helicone-session-id"),
    (Field::Interaction, "x-interaction-id"),
    (Field::KiloTask, "x-kilocode-taskid"),
    (Field::LitellmSession, "x-litellm-session-id"),
    (Field::McpSession, "mcp-session-id"),
    (Field::MuxWorkspace, "x-mux-workspace-id"),
    (Field::OpencodeSession, "x-opencode-session"),
    (Field::Originator, "originator"),
    (Field::ParentSession, "x-parent-session-id"),
    (Field::RequestId, "request-id"),
    (Field::SessionId, "session-id"),
    (Field::SessionIdOld, "session_id"),
    (Field::Title, "x-title"),
    (Field::Traceparent, "traceparent"),
    (Field::UserAgent, "user-agent"),
    (Field::XClientRequestId, "x-client-request-id"),
    (Field::XCorrelationId, "x-correlation-id"),
    (Field::XRequestId, "x-request-id"),
    (Field::XSessionId, "x-session-id"),
];

/// The first value of each that is there.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    values: [Option<&'a [u8]>; NAMES.len()],
}

impl<'a> Fields<'a> {
    pub(crate) fn read(head: &'a Head) -> Self {
        let mut values = [None; NAMES.len()];
        for (name, value) in head.fields() {
            let place = NAMES
                .iter()
                .position(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()));
            if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
                slot.get_or_insert(value);
            }
        }
        Self { values }
    }

    /// The bytes of a field; `None` if it is not there or empty.
    pub(crate) fn bytes(&self, field: Field) -> Option<&'a [u8]> {
        let place = NAMES.iter().position(|(known, _)| *known == field)?;
        let value = self.values.get(place).copied().flatten();
        value.filter(|value| !value.is_empty())
    }

    /// The text of a field; `None` if it is not there, empty or no UTF-8.
    pub(crate) fn text(&self, field: Field) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(field)?).ok()
    }

    pub(crate) fn has(&self, field: Field) -> bool {
        self.bytes(field).is_some()
    }
}
