//! [`Connection`]: one HTTP/2 connection to an endpoint.

use std::sync::{Arc, Weak};

use arc_swap::ArcSwapOption;
use hyper::client::conn::http2::SendRequest;

use super::{request::RequestBody, socket::Socket};

/// One HTTP/2 connection. Calls clone the sender; the connection ends when the last sender is gone and
/// the last answer has ended.
///
/// Once no more calls can be sent on it, there is no sender: a request that was sent in that very moment
/// lies in the queue of the senders, and is given back when the last of them is gone. The call that
/// waits for it holds the endpoint, and so must not hold a sender.
#[derive(Debug)]
pub(super) struct Connection(Arc<ArcSwapOption<Open>>);

#[derive(Debug)]
struct Open {
    sender: SendRequest<RequestBody>,
    socket: Socket,
}

impl Connection {
    pub(super) fn new(sender: SendRequest<RequestBody>, socket: Socket) -> Self {
        let open = Open { sender, socket };
        Self(Arc::new(ArcSwapOption::from_pointee(open)))
    }

    /// To be dropped by who drives the connection, after the driver.
    pub(super) fn driven(&self) -> Driven {
        Driven(Arc::downgrade(&self.0))
    }

    /// To send one request on, at once; `None`: it was closed, here or by the server.
    pub(super) fn sender(&self) -> Option<SendRequest<RequestBody>> {
        let open = self.0.load();
        let open = open.as_ref()?;
        if open.socket.hung_up() {
            // So that it is not picked again before its driver has found out.
            self.0.store(None);
            return None;
        }
        Some(open.sender.clone())
    }

    pub(super) fn is_open(&self) -> bool {
        let open = self.0.load();
        open.as_ref().is_some_and(|open| !open.sender.is_closed())
    }
}

/// Takes the sender away when it is dropped.
#[derive(Debug)]
#[must_use = "dropped, it closes the connection"]
pub(super) struct Driven(Weak<ArcSwapOption<Open>>);

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(open) = self.0.upgrade() {
            open.store(None);
        }
    }
}
