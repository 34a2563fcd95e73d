//! [`Watcher`]: list, then watch, for ever.

use std::collections::BTreeMap;

use super::{Source, Update, WatchOptions, WatchStatus};
use crate::{
    client::{Client, KeyValue, Span},
    clock::Clock,
};

/// Follows a range. Owned by one task; the map is read between updates.
#[derive(Debug)]
pub(crate) struct Watcher<S: Source = Client> {
    _source: S,
}

impl<S: Source> Watcher<S> {
    pub(crate) fn new(_source: S, _clock: Clock, _span: Span, _options: WatchOptions) -> Self {
        todo!()
    }

    /// The next update. Never ends and never fails: it backs off and says so in the status.
    ///
    /// # Cancel safety
    /// Safe at every await: a dropped call loses nothing, the next one goes on.
    pub(crate) async fn next(&mut self) -> Update {
        todo!()
    }

    /// Every key of the range at the last update's revision.
    pub(crate) fn map(&self) -> &BTreeMap<Vec<u8>, KeyValue> {
        todo!()
    }

    /// The status, live: it moves between updates too.
    pub(crate) fn status(&self) -> tokio::sync::watch::Receiver<WatchStatus> {
        todo!()
    }
}
