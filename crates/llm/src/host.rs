//! What a host alone tells about the requests to it.
//!
//! Names are compared whole or from a dot on, never in the middle: `api.openai.com.attacker.example`
//! is a host like any other.

use traffic::{Host, Target};

/// What a host tells. It is worth remembering: finding it out costs more than all the rest that is
/// done for a request that is no call of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostClass {
    /// Models are asked there.
    Model,
    /// Models are asked there below `/openai`: Azure.
    AzureOpenai,
    /// By its name a tool server.
    McpByName,
    /// This machine.
    Loopback,
    /// Any other.
    Any,
}

/// Hosts of model APIs; what is below one is one too, for example `eu.api.openai.com`.
const MODEL_HOSTS: [&str; 24] = [
    "api.ai21.com",
    "api.anthropic.com",
    "api.cerebras.ai",
    "api.cohere.ai",
    "api.cohere.com",
    "api.deepseek.com",
    "api.fireworks.ai",
    "api.groq.com",
    "api.minimax.io",
    "api.mistral.ai",
    "api.moonshot.ai",
    "api.openai.com",
    "api.perplexity.ai",
    "api.sambanova.ai",
    "api.together.xyz",
    "api.x.ai",
    "api.z.ai",
    "codestral.mistral.ai",
    "dashscope.aliyuncs.com",
    "generativelanguage.googleapis.com",
    "inference.ai.azure.com",
    "integrate.api.nvidia.com",
    "openai.azure.com",
    "router.huggingface.co",
];

/// Where Amazon's services are.
const AMAZON: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "api.aws"];

impl HostClass {
    /// What the host of a target tells by itself.
    pub(crate) fn of(target: &Target) -> Self {
        if target.host.is_loopback() {
            return Self::Loopback;
        }
        let name = match &target.host {
            Host::Name(name) => name.strip_suffix('.').unwrap_or(name),
            Host::Ip(address) if address.is_unspecified() => return Self::Loopback,
            Host::Ip(_) => return Self::Any,
        };
        let is_model_host = MODEL_HOSTS.iter().any(|known| is_or_below(name, known));
        if is_model_host || is_bedrock(name) {
            Self::Model
        } else if is_or_below(name, "azure.com") {
            Self::AzureOpenai
        } else if name.split('.').any(is_mcp_label) {
            Self::McpByName
        } else {
            Self::Any
        }
    }
}

/// Whether a name is this one or below it.
fn is_or_below(name: &str, known: &str) -> bool {
    let rest = name.strip_suffix(known);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// `bedrock-runtime.us-east-1.amazonaws.com`, with its FIPS, dual-stack and private forms.
fn is_bedrock(name: &str) -> bool {
    let is_service = |label: &str| label == "bedrock" || label.starts_with("bedrock-");
    AMAZON.iter().any(|suffix| {
        let rest = name.strip_suffix(suffix);
        let rest = rest.and_then(|rest| rest.strip_suffix('.'));
        rest.is_some_and(|rest| rest.split('.').any(is_service))
    })
}

fn is_mcp_label(label: &str) -> bool {
    label == "mcp" || label.starts_with("mcp-") || label.ends_with("-mcp")
}
