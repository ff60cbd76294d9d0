//! A handler whose type is not known any more.

use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;

use super::lane::Told;
use super::{
    ConnectionMeta, HandlerDecision, InterceptHandler, Interests, ProcessInfo, RawRequest,
    RequestLine,
};

type BoxedFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`InterceptHandler`], callable through a pointer.
pub(super) trait Erased: Send + Sync {
    fn interests_in(&self, request: &RequestLine<'_>) -> Interests;
    fn should_intercept_tls(&self, host: &str, process: Option<&ProcessInfo>) -> bool;
    fn on_tls_failure(&self, host: &str, error: &str);
    fn on_request<'a>(&'a self, request: &'a RawRequest) -> BoxedFuture<'a, HandlerDecision>;
    fn tell<'a>(&'a self, id: Uuid, told: &'a Told) -> BoxedFuture<'a, ()>;
    fn on_connection_open(&self, meta: &ConnectionMeta);
    fn on_connection_close(&self, id: Uuid);
}

impl<H: InterceptHandler> Erased for H {
    fn interests_in(&self, request: &RequestLine<'_>) -> Interests {
        InterceptHandler::interests_in(self, request)
    }

    fn should_intercept_tls(&self, host: &str, process: Option<&ProcessInfo>) -> bool {
        InterceptHandler::should_intercept_tls(self, host, process)
    }

    fn on_tls_failure(&self, host: &str, error: &str) {
        InterceptHandler::on_tls_failure(self, host, error);
    }

    fn on_request<'a>(&'a self, request: &'a RawRequest) -> BoxedFuture<'a, HandlerDecision> {
        Box::pin(InterceptHandler::on_request(self, request))
    }

    fn tell<'a>(&'a self, id: Uuid, told: &'a Told) -> BoxedFuture<'a, ()> {
        match told {
            Told::Response(response) => Box::pin(self.on_response(response)),
            Told::WebSocketStart(response) => Box::pin(self.on_websocket_start(response)),
            Told::Chunk(chunk) => Box::pin(self.on_stream_chunk(chunk)),
            Told::StreamEnd => Box::pin(self.on_stream_end(id)),
        }
    }

    fn on_connection_open(&self, meta: &ConnectionMeta) {
        InterceptHandler::on_connection_open(self, meta);
    }

    fn on_connection_close(&self, id: Uuid) {
        InterceptHandler::on_connection_close(self, id);
    }
}
