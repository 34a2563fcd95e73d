//! [`Watcher`]: list, then watch, for ever.

use std::{collections::BTreeMap, fmt};

use tokio::sync::watch;

use super::{
    Source, Update, WatchOptions, WatchStatus,
    line::Line,
    mutation::mutated,
    state::{Action, Machine},
};
use crate::{
    client::{Client, KeyValue, Span},
    clock::Clock,
};

/// Follows a range. Owned by one task; the map is read between updates.
///
/// Nothing happens but in [`next`](Self::next): a watcher that is not polled does not read its
/// stream, and etcd's unread messages then fill the connection's window for all its streams. Call
/// `next` again soon, and do long work elsewhere.
pub(crate) struct Watcher<S: Source = Client> {
    line: Line<S>,
    machine: Machine,
    status: watch::Sender<WatchStatus>,
    /// Published and not yet returned.
    ready: Option<Update>,
    name: String,
}

impl<S: Source> Watcher<S> {
    /// A watcher of `span`. It makes its first request when it is first polled.
    pub(crate) fn new(source: S, clock: Clock, span: Span, options: WatchOptions) -> Self {
        let span = match span {
            // A prefix without its last `/` holds the neighbours too.
            Span::Interval(start, end) if mutated!(NoSlash) => {
                Span::Interval(start[..start.len() - 1].to_vec(), end)
            }
            span => span,
        };
        let (Span::Key(name) | Span::Interval(name, _)) = &span;
        let name = String::from_utf8_lossy(name).into_owned();
        let line = Line::new(source, clock);
        let machine = Machine::new(line.now(), span, options);
        Self {
            status: watch::Sender::new(machine.status()),
            line,
            machine,
            ready: None,
            name,
        }
    }

    /// The next update. Never ends and never fails: it backs off and says so in the status.
    ///
    /// # Cancel safety
    /// Safe at every await: a dropped call loses nothing, the next one goes on.
    pub(crate) async fn next(&mut self) -> Update {
        loop {
            if let Some(update) = self.ready.take() {
                return update;
            }
            let input = (self.line)
                .wait(self.machine.due(), self.machine.reads_stream())
                .await;
            for action in self.machine.step(self.line.now(), input) {
                match self.line.perform(action) {
                    Some(Action::Publish(update)) => self.ready = Some(update),
                    Some(Action::Warn(trouble)) => {
                        tracing::warn!(target: "coord::watch", watch = %self.name, "{trouble}");
                    }
                    Some(Action::Recovered) => {
                        tracing::info!(target: "coord::watch", watch = %self.name, "events flow again");
                    }
                    _ => {}
                }
            }
            self.tell();
        }
    }

    /// Every key of the range at the last update's revision.
    pub(crate) fn map(&self) -> &BTreeMap<Vec<u8>, KeyValue> {
        self.machine.map()
    }

    /// Asks the stream how far it is, beside the times when that is asked anyway: whoever waits for a
    /// revision without a change in this range learns it at once, and not within
    /// [`progress_interval`](WatchOptions::progress_interval). Does nothing while there is no stream.
    pub(crate) fn ask(&mut self) {
        if self.machine.can_ask() {
            self.line.perform(Action::AskProgress);
        }
    }

    /// The status, live: it moves between updates too. A moved `alive_at` or `verified_at` alone
    /// wakes nobody.
    pub(crate) fn status(&self) -> watch::Receiver<WatchStatus> {
        self.status.subscribe()
    }

    fn tell(&self) {
        let new = self.machine.status();
        self.status.send_if_modified(|old| {
            let wakes = old.phase != new.phase
                || old.revision != new.revision
                || old.reconnects != new.reconnects
                || old.trouble != new.trouble;
            *old = new;
            wakes
        });
    }
}

impl<S: Source> fmt::Debug for Watcher<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher")
            .field("range", &self.name)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl<S: Source> Watcher<S> {
    /// When it will act by itself.
    pub(super) fn due(&self) -> Option<crate::clock::Instant> {
        self.machine.due()
    }
}
