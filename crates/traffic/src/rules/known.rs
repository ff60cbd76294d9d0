//! Hosts that models and the agents' own services are known to live on.

/// Hosts of model APIs, as patterns (see [`super::pattern`]).
pub const LLM_HOSTS: &[&str] = &[
    "api.openai.com",
    "*.api.openai.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "aiplatform.googleapis.com",
    "us-central1-aiplatform.googleapis.com",
    "us-east1-aiplatform.googleapis.com",
    "us-east4-aiplatform.googleapis.com",
    "us-east5-aiplatform.googleapis.com",
    "us-south1-aiplatform.googleapis.com",
    "us-west1-aiplatform.googleapis.com",
    "us-west4-aiplatform.googleapis.com",
    "northamerica-northeast1-aiplatform.googleapis.com",
    "southamerica-east1-aiplatform.googleapis.com",
    "europe-west1-aiplatform.googleapis.com",
    "europe-west2-aiplatform.googleapis.com",
    "europe-west3-aiplatform.googleapis.com",
    "europe-west4-aiplatform.googleapis.com",
    "europe-west9-aiplatform.googleapis.com",
    "europe-north1-aiplatform.googleapis.com",
    "asia-east1-aiplatform.googleapis.com",
    "asia-northeast1-aiplatform.googleapis.com",
    "asia-northeast3-aiplatform.googleapis.com",
    "asia-south1-aiplatform.googleapis.com",
    "asia-southeast1-aiplatform.googleapis.com",
    "australia-southeast1-aiplatform.googleapis.com",
    "*.openai.azure.com",
    "*.cognitiveservices.azure.com",
    "*.services.ai.azure.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "bedrock-runtime.us-east-2.amazonaws.com",
    "bedrock-runtime.us-west-1.amazonaws.com",
    "bedrock-runtime.us-west-2.amazonaws.com",
    "bedrock-runtime.us-gov-east-1.amazonaws.com",
    "bedrock-runtime.us-gov-west-1.amazonaws.com",
    "bedrock-runtime.ca-central-1.amazonaws.com",
    "bedrock-runtime.sa-east-1.amazonaws.com",
    "bedrock-runtime.eu-central-1.amazonaws.com",
    "bedrock-runtime.eu-central-2.amazonaws.com",
    "bedrock-runtime.eu-north-1.amazonaws.com",
    "bedrock-runtime.eu-south-1.amazonaws.com",
    "bedrock-runtime.eu-south-2.amazonaws.com",
    "bedrock-runtime.eu-west-1.amazonaws.com",
    "bedrock-runtime.eu-west-2.amazonaws.com",
    "bedrock-runtime.eu-west-3.amazonaws.com",
    "bedrock-runtime.ap-northeast-1.amazonaws.com",
    "bedrock-runtime.ap-northeast-2.amazonaws.com",
    "bedrock-runtime.ap-northeast-3.amazonaws.com",
    "bedrock-runtime.ap-south-1.amazonaws.com",
    "bedrock-runtime.ap-south-2.amazonaws.com",
    "bedrock-runtime.ap-southeast-1.amazonaws.com",
    "bedrock-runtime.ap-southeast-2.amazonaws.com",
    "bedrock-runtime-fips.us-east-1.amazonaws.com",
    "bedrock-runtime-fips.us-east-2.amazonaws.com",
    "bedrock-runtime-fips.us-west-2.amazonaws.com",
    "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
    "bedrock-mantle.us-east-1.api.aws",
    "bedrock-mantle.us-east-2.api.aws",
    "bedrock-mantle.us-west-2.api.aws",
    "bedrock-mantle.eu-central-1.api.aws",
    "bedrock-mantle.eu-west-1.api.aws",
    "bedrock-mantle.eu-west-2.api.aws",
    "bedrock-mantle.ap-northeast-1.api.aws",
    "bedrock-mantle.ap-south-1.api.aws",
    "openrouter.ai",
    "api.mistral.ai",
    "codestral.mistral.ai",
    "api.groq.com",
    "api.x.ai",
    "*.api.x.ai",
    "api.deepseek.com",
    "api.cohere.com",
    "api.cohere.ai",
    "api.together.xyz",
    "api.together.ai",
    "api.fireworks.ai",
    "api.cerebras.ai",
    "api.z.ai",
    "open.bigmodel.cn",
    "api.moonshot.ai",
    "api.moonshot.cn",
    "api.minimax.io",
    "dashscope.aliyuncs.com",
    "dashscope-intl.aliyuncs.com",
    "router.huggingface.co",
    "api-inference.huggingface.co",
    "api.perplexity.ai",
    "api.sambanova.ai",
    "api.hyperbolic.xyz",
    "api.novita.ai",
    "api.deepinfra.com",
    "integrate.api.nvidia.com",
    "api.replicate.com",
    "api.ai21.com",
    "api.voyageai.com",
    "*.ml.cloud.ibm.com",
    "models.github.ai",
    "models.inference.ai.azure.com",
    "gateway.ai.cloudflare.com",
    "ai-gateway.vercel.sh",
    "ollama.com",
];

/// Hosts that agents reach their vendor's own service on: model calls under a subscription,
/// sign-in and telemetry.
pub const AGENT_HOSTS: &[&str] = &[
    // Codex and ChatGPT
    "chatgpt.com",
    "*.chatgpt.com",
    "auth.openai.com",
    // Claude Code
    "claude.ai",
    "platform.claude.com",
    "console.anthropic.com",
    "statsig.anthropic.com",
    "mcp-proxy.anthropic.com",
    // Gemini CLI and Gemini Code Assist
    "cloudcode-pa.googleapis.com",
    "daily-cloudcode-pa.sandbox.googleapis.com",
    "play.googleapis.com",
    // GitHub Copilot
    "*.githubcopilot.com",
    "copilot-proxy.githubusercontent.com",
    "copilot-telemetry.githubusercontent.com",
    // Cursor
    "*.cursor.sh",
    // opencode
    "opencode.ai",
    "api.opencode.ai",
    "models.dev",
    // Amazon Q Developer and Kiro
    "q.us-east-1.amazonaws.com",
    "q.eu-central-1.amazonaws.com",
    "codewhisperer.us-east-1.amazonaws.com",
    // Windsurf
    "server.codeium.com",
    "*.windsurf.com",
    // Sourcegraph Amp
    "ampcode.com",
    // Warp
    "app.warp.dev",
    // Zed
    "llm.zed.dev",
    "cloud.zed.dev",
    // JetBrains AI
    "api.jetbrains.ai",
    // Augment Code
    "*.api.augmentcode.com",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::rules::pattern::HostPattern;

    #[test]
    fn every_host_is_a_pattern_and_listed_once() {
        let mut seen = HashSet::new();
        for text in LLM_HOSTS.iter().chain(AGENT_HOSTS) {
            HostPattern::parse(text).unwrap();
            assert!(seen.insert(text), "{text} is listed twice");
        }
    }
}
