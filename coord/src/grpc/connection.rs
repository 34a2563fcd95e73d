//! [`Connection`]: one HTTP/2 connection to an endpoint.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use hyper::client::conn::http2::SendRequest;

use super::request::RequestBody;

type Sender = ArcSwapOption<SendRequest<RequestBody>>;

/// One HTTP/2 connection. Calls clone the sender; the connection ends when the last sender is gone and
/// the last answer has ended.
///
/// Once no more calls can be sent on it, there is no sender: a request that was sent in that very moment
/// lies in the queue of the senders, and is given back when the last of them is gone. The call that
/// waits for it holds the endpoint, and so must not hold a sender.
#[derive(Debug)]
pub(super) struct Connection(Arc<Sender>);

impl Connection {
    pub(super) fn new(sender: SendRequest<RequestBody>) -> Self {
        Self(Arc::new(ArcSwapOption::from_pointee(sender)))
    }

    /// To be dropped by who drives the connection, after the driver.
    pub(super) fn driven(&self) -> Driven {
        Driven(Arc::downgrade(&self.0))
    }

    /// To send one request on; `None`: it was closed.
    pub(super) fn sender(&self) -> Option<SendRequest<RequestBody>> {
        self.0.load().as_deref().cloned()
    }

    pub(super) fn is_open(&self) -> bool {
        let sender = self.0.load();
        sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }
}

/// Takes the sender away when it is dropped.
#[derive(Debug)]
#[must_use = "dropped, it closes the connection"]
pub(super) struct Driven(Weak<Sender>);

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(sender) = self.0.upgrade() {
            sender.store(None);
        }
    }
}
