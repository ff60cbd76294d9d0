//! What a path alone tells: the ways of model APIs, which gateways have on any host.
//!
//! Asked for every request: it looks at the last segment first, since that settles nearly all.

use memchr::memchr_iter;

/// What a path says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathSays {
    /// A model is asked; nothing else has such a path.
    Model,
    /// A model is asked, unless the body denies it.
    LikelyModel,
    /// A model is asked if the body says so.
    PossiblyModel,
    /// A tool server is asked, unless a browser asks.
    Mcp,
    /// Nothing.
    Nothing,
}

impl PathSays {
    /// What a path without its query says.
    pub(crate) fn of(path: &str) -> Self {
        let (before, last) = path.rsplit_once('/').unwrap_or(("", path));
        let is_v1 = before.ends_with("/v1");
        let sure = |is_sure: bool, otherwise: Self| if is_sure { Self::Model } else { otherwise };
        let says = match last {
            // OpenAI's, and what is compatible with it.
            "completions" => sure(is_v1 || before.ends_with("/chat"), Self::PossiblyModel),
            "embeddings" | "realtime" => sure(is_v1, Self::Nothing),
            "generations" => sure(before.ends_with("/v1/images"), Self::Nothing),
            "speech" | "transcriptions" => sure(before.ends_with("/v1/audio"), Self::Nothing),
            "models" | "rerank" | "complete" if is_v1 => Self::LikelyModel,
            "responses" if before.ends_with("/codex") => Self::Model,
            "responses" if is_v1 => Self::LikelyModel,
            "compact" | "input_tokens" => sure(before.ends_with("/responses"), Self::Nothing),
            "cancel" | "input_items" if before.contains("/v1/responses/") => Self::LikelyModel,
            // Anthropic's.
            "messages" if is_v1 => Self::LikelyModel,
            "count_tokens" | "batches" => sure(before.ends_with("/v1/messages"), Self::Nothing),
            // Others'.
            "chat" if is_v1 || before.ends_with("/v2") || before.ends_with("/api") => {
                Self::PossiblyModel
            }
            "generate" | "embed" if before.ends_with("/api") => Self::PossiblyModel,
            "messages" | "responses" | "interactions" => Self::PossiblyModel,
            // Bedrock's, behind the name of a model.
            "converse"
            | "converse-stream"
            | "count-tokens"
            | "invoke"
            | "invoke-with-response-stream" => sure(before.starts_with("/model/"), Self::Nothing),
            _ if before.ends_with("/v1/responses") => Self::LikelyModel,
            _ => sure(is_verb_of_google(last), Self::Nothing),
        };
        match says {
            Self::Nothing if has_mcp_segment(path) => Self::Mcp,
            says => says,
        }
    }
}

/// `gemini-2.5-pro:streamGenerateContent`, and the methods of the socket that speaks.
fn is_verb_of_google(segment: &str) -> bool {
    // All end so: Content, Contents, Tokens, Predict.
    if !segment.ends_with(['t', 's']) || segment.len() < "rawPredict".len() {
        return false;
    }
    let verb = segment.rsplit([':', '.']).next().unwrap_or_default();
    if verb.len() == segment.len() {
        return segment == "BidiGenerateContent";
    }
    matches!(
        verb,
        "batchEmbedContents"
            | "BidiGenerateContent"
            | "countTokens"
            | "embedContent"
            | "generateContent"
            | "rawPredict"
            | "streamGenerateContent"
            | "streamRawPredict"
    )
}

/// Whether a whole segment is `mcp`.
fn has_mcp_segment(path: &str) -> bool {
    let path = path.as_bytes();
    memchr_iter(b'/', path).any(|at| {
        let rest = path.get(at + 1..).unwrap_or_default();
        let after = rest.strip_prefix(b"mcp");
        after.is_some_and(|after| matches!(after.first(), None | Some(b'/')))
    })
}
