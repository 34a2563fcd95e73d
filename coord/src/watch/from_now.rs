//! [`FromNow`]: deletions below a prefix from now on, for the lock queues.

use super::Source;
use crate::{
    client::{Client, Span},
    clock::Clock,
};

/// What a from-now watch tells. The user makes its own reads after `Opened`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Open from the revision after `revision` (the header of `created`). Every deletion after it is
    /// told. On a reopening whatever was deleted in between is *not*: read.
    Opened { revision: i64 },
    /// All deletions of one revision.
    Deleted { revision: i64, keys: Vec<Vec<u8>> },
    /// The stream is gone; nothing is told until the next `Opened`.
    Closed,
}

#[derive(Debug)]
pub(crate) struct FromNow<S: Source = Client> {
    _source: S,
}

impl<S: Source> FromNow<S> {
    pub(crate) fn new(_source: S, _clock: Clock, _span: Span) -> Self {
        todo!()
    }

    /// The next signal. Never ends.
    ///
    /// # Cancel safety
    /// Safe at every await.
    pub(crate) async fn next(&mut self) -> Signal {
        todo!()
    }
}
