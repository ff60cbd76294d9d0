//! What a handler is shown of the requests of an HTTP/1 client.

use std::sync::Arc;

use bytes::Bytes;
use traffic::Failure;

use crate::destination::Destination;
use crate::handler::{BodyView, RawRequest, Subject};
use crate::http1::asked::Asked;
use crate::http1::hold::Held;
use crate::limits::HEAD_ROOM_BYTES_KEPT;
use crate::translate::heads;

/// The request that a handler was shown last on a connection. The next one is shown in its place:
/// clients mostly send the same fields again, and only what differs is written.
#[derive(Default)]
pub(super) struct Shown {
    last: Option<Box<Last>>,
}

struct Last {
    request: RawRequest,
    /// Of which its fields were read.
    field_lines: Vec<u8>,
    to: Arc<Destination>,
}

impl Shown {
    /// Shows a request; its body too, if that was held.
    pub(super) fn show(
        &mut self,
        asked: &Asked,
        held: Option<&Held>,
        subject: &Subject,
    ) -> Result<&RawRequest, Failure> {
        let last = match self.last.take() {
            Some(mut last) => {
                last.renew(asked, subject)?;
                last
            }
            None => Box::new(Last::new(asked, subject)?),
        };
        let request = &mut self.last.insert(last).request;
        if let Some(held) = held {
            let bytes_max = subject.gate.limits.body_bytes_max;
            let payload = Bytes::copy_from_slice(&held.payload);
            (request.body, request.body_view) =
                BodyView::decoded(&request.headers, payload, false, bytes_max);
        }
        Ok(request)
    }

    /// Lets go of what is not to be held until the next request comes.
    pub(super) fn rest(&mut self, asked: &Asked) {
        if asked.bytes.len() > HEAD_ROOM_BYTES_KEPT {
            self.last = None;
        }
        if let Some(last) = &mut self.last {
            last.request.body = Bytes::new();
            last.request.body_view = BodyView::default();
        }
    }
}

impl Last {
    fn new(asked: &Asked, subject: &Subject) -> Result<Self, Failure> {
        let (method, path) = (asked.method_text(), asked.path_text());
        let fields = heads::fields_from_http1(&asked.request, &asked.bytes)?;
        let to = &asked.plan.to;
        Ok(Self {
            request: RawRequest::new(method, path.into_owned(), fields, to, subject),
            field_lines: asked.field_lines().to_vec(),
            to: Arc::clone(to),
        })
    }

    /// Makes this request of the last one, which has no body any more.
    fn renew(&mut self, asked: &Asked, subject: &Subject) -> Result<(), Failure> {
        let Self {
            request,
            field_lines,
            to,
        } = self;
        if request.method.as_bytes() != asked.method() {
            request.method = asked.method_text().into_owned();
        }
        if request.path.as_bytes() != asked.path() {
            request.path = asked.path_text().into_owned();
        }
        if field_lines != asked.field_lines() {
            heads::renew_fields_from_http1(&mut request.headers, &asked.request, &asked.bytes)?;
            field_lines.clear();
            field_lines.extend_from_slice(asked.field_lines());
        }
        if !Arc::ptr_eq(to, &asked.plan.to) {
            *to = Arc::clone(&asked.plan.to);
            request.scheme = to.scheme.as_str();
            request.authority = to.target.to_string();
        }
        if !Arc::ptr_eq(&request.connection_meta, &subject.meta) {
            request.connection_meta = Arc::clone(&subject.meta);
        }
        Ok(())
    }
}
