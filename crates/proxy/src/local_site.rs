//! A host that the proxy answers for itself: a handful of pages that clients reach through it under
//! a name of their own, and that stand nowhere else. Nothing is dialled for it, whatever the rules
//! say of the host, and its requests are no flows: there is nothing to see that is not known.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use traffic::{Host, Target};

use crate::handler::LocalResponse;

/// The pages of one host, at every port of it, in clear and through TLS. Who has to log in to use a
/// listener has to for them too; reverse listeners have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSite {
    host: Host,
    pages: BTreeMap<String, LocalResponse>,
}

impl LocalSite {
    /// A site without pages.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            host,
            pages: BTreeMap::new(),
        }
    }

    /// Answers GET and HEAD for this path. With a query, `/a?b=1`, it is for exactly that one; a
    /// page without one is for every query that has no page of its own.
    #[must_use]
    pub fn with_page(mut self, path: impl Into<String>, page: LocalResponse) -> Self {
        self.pages.insert(path.into(), page);
        self
    }

    /// Whether a request for this target is answered here.
    pub(crate) fn is_at(&self, target: &Target) -> bool {
        self.host == target.host
    }

    /// The answer to a request for this path and query.
    pub(crate) fn answer(&self, method: &[u8], path: &str) -> LocalResponse {
        if !matches!(method, b"GET" | b"HEAD") {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refused.headers.insert(ALLOW, allowed);
            return refused;
        }
        let bare = path.split(['?', '#']).next().unwrap_or_default();
        let page = self.pages.get(path).or_else(|| self.pages.get(bare));
        let none = || text(StatusCode::NOT_FOUND, "there is no such page\n");
        page.cloned().unwrap_or_else(none)
    }
}

fn text(status: StatusCode, body: &'static str) -> LocalResponse {
    let fields = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)));
    LocalResponse {
        status: status.as_u16(),
        headers: HeaderMap::from_iter(fields),
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_page_for_a_method_a_path_and_a_query() {
        let page = |body| text(StatusCode::OK, body);
        let site = LocalSite::new(Host::parse("oriel.proxy").unwrap())
            .with_page("/", page("home"))
            .with_page("/ca.pem", page("one"))
            .with_page("/ca.pem?chain=1", page("all"));
        for (method, path, status, body) in [
            ("GET", "/", 200, "home"),
            ("GET", "/?x", 200, "home"),
            ("HEAD", "/ca.pem", 200, "one"),
            ("GET", "/ca.pem?chain=1", 200, "all"),
            ("GET", "/ca.pem?chain=2", 200, "one"),
            ("GET", "/ca.pem/", 404, "there is no such page\n"),
            ("GET", "/../ca.pem", 404, "there is no such page\n"),
            ("GET", "*", 404, "there is no such page\n"),
            ("get", "/", 405, "only GET and HEAD\n"),
            ("POST", "/", 405, "only GET and HEAD\n"),
        ] {
            let answer = site.answer(method.as_bytes(), path);
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.body, body, "{method} {path}");
            assert_eq!(answer.headers.contains_key(ALLOW), status == 405);
        }
    }
}
