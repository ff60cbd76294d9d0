//! What a request is for, as the texts of a row: method, URL, host and path.

use std::fmt::Write as _;

use traffic::{FlowKind, FlowStarted, Host, Scheme, Target};

/// The texts. Kept between flows, since many ask for what the one before asked for.
#[derive(Debug, Default)]
pub(crate) struct Place {
    /// What the texts were read from.
    source: Option<Source>,
    pub(crate) method: String,
    /// `scheme://host:port/path?query` without the port that the scheme implies; `host:port` for a
    /// tunnel.
    pub(crate) url: String,
    /// An IPv6 address stands here without brackets.
    pub(crate) host: String,
    /// Without the query; empty for a tunnel.
    pub(crate) path: String,
}

#[derive(Debug)]
struct Source {
    kind: FlowKind,
    scheme: Scheme,
    target: Target,
    line: String,
}

impl Place {
    /// Reads a request line that is masked already.
    pub(crate) fn read(&mut self, started: &FlowStarted, line: &str) {
        let is_known = self.source.as_ref().is_some_and(|source| {
            source.kind == started.kind
                && source.scheme == started.scheme
                && source.line == line
                && source.target == started.target
        });
        if is_known {
            return;
        }
        self.source = Some(Source {
            kind: started.kind,
            scheme: started.scheme,
            target: started.target.clone(),
            line: line.to_owned(),
        });
        self.method.clear();
        self.url.clear();
        self.host.clear();
        self.path.clear();
        let (method, rest) = line.split_once(' ').unwrap_or((line, ""));
        self.method.push_str(method);
        let target = &started.target;
        match &target.host {
            Host::Name(name) => self.host.push_str(name),
            Host::Ip(address) => write!(self.host, "{address}").expect("a String takes all"),
        }
        if started.kind == FlowKind::Tunnel {
            write!(self.url, "{target}").expect("a String takes all");
            return;
        }
        let wanted = rest.rsplit_once(' ').map_or(rest, |(wanted, _)| wanted);
        let wanted = origin_form(wanted);
        self.url.push_str(started.scheme.as_str());
        self.url.push_str("://");
        match &target.host {
            Host::Name(name) => self.url.push_str(name),
            Host::Ip(_) => write!(self.url, "{}", target.host).expect("a String takes all"),
        }
        if target.port != started.scheme.default_port() {
            write!(self.url, ":{}", target.port).expect("a String takes all");
        }
        if wanted.starts_with(['/', '?']) {
            self.url.push_str(wanted);
        }
        let path = wanted
            .split_once(['?', '#'])
            .map_or(wanted, |(path, _)| path);
        self.path.push_str(path);
    }
}

/// The path and query of an absolute-form target; other forms as they are.
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    let Some((_, rest)) = target.split_once("://") else {
        return target;
    };
    let path = rest.find(['/', '?', '#']).and_then(|at| rest.get(at..));
    path.unwrap_or("/")
}
