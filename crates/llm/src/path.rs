//! What a path alone tells: the ways of model APIs, which gateways have on any host.

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

/// Ends of paths that only model APIs have.
const MODEL_ENDS: [&str; 22] = [
    "/chat/completions",
    "/codex/responses",
    "/codex/responses/compact",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/images/generations",
    "/v1/messages/batches",
    "/v1/messages/count_tokens",
    "/v1/realtime",
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    ":batchEmbedContents",
    ":countTokens",
    ":embedContent",
    ":generateContent",
    ":rawPredict",
    ":streamGenerateContent",
    ":streamRawPredict",
    ".BidiGenerateContent",
    "/LlmBidiService/BidiGenerateContent",
];

/// Ends of paths that others may have too.
const LIKELY_ENDS: [&str; 5] = [
    "/v1/complete",
    "/v1/messages",
    "/v1/models",
    "/v1/responses",
    "/v1/rerank",
];

/// Ends of paths that many have.
const POSSIBLE_ENDS: [&str; 9] = [
    "/api/chat",
    "/api/embed",
    "/api/generate",
    "/completions",
    "/interactions",
    "/messages",
    "/responses",
    "/v1/chat",
    "/v2/chat",
];

/// Ends behind `/model/<id>`, of Bedrock.
const BEDROCK_ENDS: [&str; 5] = [
    "/converse",
    "/converse-stream",
    "/count-tokens",
    "/invoke",
    "/invoke-with-response-stream",
];

impl PathSays {
    /// What a path without its query says.
    pub(crate) fn of(path: &str) -> Self {
        let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        if ends(&MODEL_ENDS) || (ends(&BEDROCK_ENDS) && path.starts_with("/model/")) {
            Self::Model
        } else if ends(&LIKELY_ENDS) || path.contains("/v1/responses/") {
            Self::LikelyModel
        } else if ends(&POSSIBLE_ENDS) {
            Self::PossiblyModel
        } else if path.split('/').any(|segment| segment == "mcp") {
            Self::Mcp
        } else {
            Self::Nothing
        }
    }
}
