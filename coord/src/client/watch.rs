//! One gRPC watch stream with one watch on it, as etcd sends it: fragments, progress and cancels are
//! the `watch` engine's to understand.

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::{
    WatchFilterType, WatchOptions, WatchRequestSender, WatchResponseStream,
    proto::{PbEvent, PbWatchResponse},
};

use super::{CallError, Certainty, Header, KeyValue, Reason, Span, channel::Shared, txn::header};
use crate::clock::Clock;

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
pub(crate) struct WatchStream {
    requests: WatchRequestSender,
    messages: WatchResponseStream,
    shared: Arc<Shared>,
    generation: u64,
    clock: Clock,
    limit: Duration,
}

impl WatchStream {
    pub(super) fn new(
        stream: etcd_client::WatchStream,
        shared: Arc<Shared>,
        generation: u64,
        clock: Clock,
        limit: Duration,
    ) -> Self {
        let (requests, messages) = stream.split();
        Self {
            requests,
            messages,
            shared,
            generation,
            clock,
            limit,
        }
    }

    /// The next message. An error or `None` ends the stream.
    ///
    /// # Cancel safety
    /// Safe: a message is returned or stays.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchMessage>, CallError> {
        match self.messages.message().await {
            Ok(message) => Ok(message.map(|message| message.0.into())),
            Err(error) => {
                let error = CallError::from(error);
                if error.endpoint_failed() {
                    self.shared.leave(self.generation);
                }
                Err(error)
            }
        }
    }

    /// Asks for a progress answer.
    ///
    /// # Cancel safety
    /// Safe: it is asked for or not.
    pub(crate) async fn request_progress(&mut self) -> Result<(), CallError> {
        let request = self.requests.request_progress();
        match self.clock.timeout(self.limit, request).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_closed)) => Err(CallError::stream_ended()),
            // A hundred requests are waiting before this one.
            Err(_elapsed) => Err(CallError::new(
                Certainty::NotSent,
                Reason::Unavailable,
                "the stream takes no more requests",
            )),
        }
    }
}

impl fmt::Debug for WatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchStream")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

pub(super) fn open(request: &WatchRequest) -> (Vec<u8>, WatchOptions) {
    let mut options = WatchOptions::new()
        .with_start_revision(request.start_revision)
        .with_fragment();
    if request.no_put {
        options = options.with_filters(vec![WatchFilterType::NoPut]);
    }
    match &request.span {
        Span::Key(key) => (key.clone(), options),
        Span::Interval(start, end) => (start.clone(), options.with_range(end.as_slice())),
    }
}

impl From<PbWatchResponse> for WatchMessage {
    fn from(message: PbWatchResponse) -> Self {
        Self {
            header: header(message.header),
            watch_id: message.watch_id,
            created: message.created,
            canceled: message.canceled,
            compact_revision: message.compact_revision,
            cancel_reason: message.cancel_reason,
            fragment: message.fragment,
            events: message.events.into_iter().map(Event::from).collect(),
        }
    }
}

impl From<PbEvent> for Event {
    fn from(event: PbEvent) -> Self {
        Self {
            // etcd knows two kinds: 0 is a put, 1 a deletion.
            kind: match event.r#type {
                0 => EventKind::Put,
                _ => EventKind::Delete,
            },
            kv: event.kv.map(KeyValue::from).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// etcd cuts as it likes, so no test on a real one can insist on a fragment.
    #[test]
    fn fragments_are_asked_for_and_told() {
        let request = WatchRequest {
            span: Span::Key(b"k".to_vec()),
            start_revision: 0,
            no_put: false,
        };
        assert!(format!("{:?}", open(&request).1).contains("fragment: true"));
        for fragment in [true, false] {
            let message = PbWatchResponse {
                fragment,
                ..PbWatchResponse::default()
            };
            assert_eq!(WatchMessage::from(message).fragment, fragment);
        }
    }
}
