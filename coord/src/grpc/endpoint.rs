//! [`Endpoint`]: one instance, as calls and pickers see it.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use tokio::sync::Notify;

use super::{connection::Connection, load::Load};
use crate::clock::Clock;

/// One instance while it is connected: where it is, how busy, and the connection to it. Its weight and
/// what else may change stand in the [`ReadySet`](super::ready::ReadySet), so that a change keeps the
/// connection. A new connection is a new endpoint: what calls say that were on the old one does not
/// count against it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
    pub(super) load: Load,
    /// By which a call that ends without an answer says how long it took.
    pub(super) clock: Clock,
    /// It ends with the last call on it, once the keeper has let go of the endpoint. A call that finds
    /// it closed looks for another.
    pub(super) connection: Connection,
    /// The keeper's: see [`Shared::trouble`](super::shared::Shared::trouble).
    pub(super) trouble: Arc<Notify>,
}

/// How a call ended, as far as it tells something of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server answered; also with an error of the application's.
    Answered,
    /// The server answered that it has no room for the call: it serves, but its answers' quickness is
    /// no reason to send it more.
    Overloaded,
    /// The server refused or reset the call, or the answer's status says that the server cannot serve.
    Failed,
    /// The time ran out, here or by the answer's status. How much there was the caller has chosen: it
    /// is a failure once the server [has answered nothing for a while](super::load::Load).
    Late,
    /// The connection broke, and all calls on it with that. It ends the endpoint; nothing else follows:
    /// many calls in flight on a server that is restarted are one failure, and none of the next
    /// connection's.
    Broken,
    /// Neither: the caller gave up, or the call never reached the server.
    Unknown,
}

impl Endpoint {
    /// Whether calls can be sent on its connection.
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_open()
    }
}
