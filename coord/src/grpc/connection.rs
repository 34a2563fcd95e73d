//! [`Connection`]: one HTTP/2 connection to an endpoint.

use hyper::client::conn::http2::SendRequest;

use super::request::RequestBody;

/// One HTTP/2 connection. Calls clone the sender; the connection ends when the last sender is gone and
/// the last answer has ended.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<RequestBody>) -> Self {
        Self { sender }
    }

    /// To send one request on.
    pub(super) fn sender(&self) -> SendRequest<RequestBody> {
        self.sender.clone()
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}
