//! One gRPC watch stream with one watch on it, as etcd sends it: fragments, progress and cancels are
//! the `watch` engine's to understand.

use super::{CallError, Header, KeyValue, Span};

/// A watch to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchRequest {
    pub(crate) span: Span,
    /// The first revision wanted; 0 means "from now on". A past or current one is served by etcd's
    /// 100 ms loop.
    pub(crate) start_revision: i64,
    /// Leave puts out: a lock queue waits for deletions only.
    pub(crate) no_put: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    Put,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// A deletion's has only `key` and `mod_revision`.
    pub(crate) kv: KeyValue,
}

/// One message. Look at `canceled` before `created`: a refused watch has both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WatchMessage {
    pub(crate) header: Header,
    /// −1 for an answer to a progress request, and for a watch that was refused.
    pub(crate) watch_id: i64,
    pub(crate) created: bool,
    pub(crate) canceled: bool,
    /// Not 0: the start revision was compacted away; this is the first that can be had.
    pub(crate) compact_revision: i64,
    pub(crate) cancel_reason: String,
    /// More of the same revision follows.
    pub(crate) fragment: bool,
    pub(crate) events: Vec<Event>,
}

/// The open stream. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct WatchStream {}

impl WatchStream {
    /// The next message. An error or `None` ends the stream.
    ///
    /// # Cancel safety
    /// Safe: a message is returned or stays.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchMessage>, CallError> {
        todo!()
    }

    /// Asks for a progress answer.
    pub(crate) async fn request_progress(&mut self) -> Result<(), CallError> {
        todo!()
    }
}
