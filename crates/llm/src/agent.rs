//! Which program asks, by what it says of itself.

use crate::fields::{Field, Fields};

/// What the User-Agent of a program begins with.
const USER_AGENTS: [(&str, &str); 15] = [
    ("Agents/JavaScript", "openai-agents"),
    ("Agents/Python", "openai-agents"),
    ("GeminiCLI", "gemini-cli"),
    ("GitHubCopilotChat/", "copilot"),
    ("Zed/", "zed"),
    ("aider", "aider"),
    ("claude-cli/", CLAUDE_CODE),
    ("claude-code/", CLAUDE_CODE),
    ("codex-", CODEX),
    ("codex_", CODEX),
    ("copilot/", "copilot"),
    ("goose/", "goose"),
    ("opencode/", "opencode"),
    ("qwen-code", "qwen-code"),
    ("QwenCode", "qwen-code"),
];

/// The name of Claude Code.
pub(crate) const CLAUDE_CODE: &str = "claude-code";
/// The name of Codex.
pub(crate) const CODEX: &str = "codex";

/// The program that sent these fields, where it is a known agent.
pub(crate) fn agent_of(fields: &Fields<'_>) -> Option<&'static str> {
    let by_field = [
        (Field::ClaudeSession, CLAUDE_CODE),
        (Field::CodexTurn, CODEX),
        (Field::OpencodeSession, "opencode"),
        (Field::CopilotIntegration, "copilot"),
        (Field::CursorVersion, "cursor"),
        (Field::KiloTask, "kilo-code"),
        (Field::MuxWorkspace, "mux"),
    ];
    let known = by_field.iter().find(|(field, _)| fields.has(*field));
    if let Some((_, agent)) = known {
        return Some(agent);
    }
    let begins = |text: &str| {
        let found = USER_AGENTS
            .iter()
            .find(|(start, _)| text.starts_with(start));
        found.map(|(_, agent)| *agent)
    };
    [Field::UserAgent, Field::Originator]
        .into_iter()
        .find_map(|field| begins(fields.text(field)?))
        .or_else(|| match fields.text(Field::Title)? {
            "Aider" => Some("aider"),
            _ => None,
        })
}
