//! [`FromNow`]: deletions below a prefix from now on, for the lock queues.
//!
//! A watch that starts at a past or current revision is served by etcd's 100 ms loop; one that
//! starts at "now" is not, and a lock is handed over within a millisecond. The price: nothing is
//! resumed. After every [`Signal::Opened`] the user makes its own read.

use std::{collections::VecDeque, fmt, time::Duration};

use super::{
    Source,
    line::Line,
    list::revision_of_the_store,
    mutation::mutated,
    recovery::{Recovery, Remedy, Turn, Wait},
    state::{Action, Input, OPEN_TIMEOUT, Read, SILENT},
};
use crate::{
    client::{CallError, Client, Event, EventKind, Span, WatchMessage, WatchRequest},
    clock::{Clock, Instant},
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

/// Follows deletions. Owned by one task; as with a [`Watcher`](super::Watcher), nothing happens but
/// in [`next`](Self::next).
pub(crate) struct FromNow<S: Source = Client> {
    line: Line<S>,
    machine: Machine,
    name: String,
}

impl<S: Source> FromNow<S> {
    /// A watch of deletions in `span`. It makes its first request when it is first polled.
    pub(crate) fn new(source: S, clock: Clock, span: Span) -> Self {
        let line = Line::new(source, clock);
        let (Span::Key(name) | Span::Interval(name, _)) = &span;
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            machine: Machine::new(line.now(), span),
            line,
        }
    }

    /// The next signal. Never ends and never fails.
    ///
    /// # Cancel safety
    /// Safe at every await: a dropped call loses nothing, the next one goes on.
    pub(crate) async fn next(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.machine.signals.pop_front() {
                return signal;
            }
            let input = self.line.wait(self.machine.due(), true).await;
            for action in self.machine.step(self.line.now(), input) {
                match self.line.perform(action) {
                    Some(Action::Warn(trouble)) => {
                        tracing::warn!(target: "coord::watch", watch = %self.name, "{trouble}");
                    }
                    Some(Action::Recovered) => {
                        tracing::info!(target: "coord::watch", watch = %self.name, "events flow again");
                    }
                    _ => {}
                }
            }
        }
    }
}

impl<S: Source> fmt::Debug for FromNow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromNow")
            .field("range", &self.name)
            .field("state", &self.machine.state)
            .finish_non_exhaustive()
    }
}

/// Where a from-now watch stands.
#[derive(Debug)]
enum State {
    /// A stream is needed.
    Need(Wait),
    /// It was asked for, and has not said `created` yet.
    Opening { until: Instant },
    /// Deletions flow, or would.
    Watching(Live),
    /// The stream is silent: the store's revision is read, to tell whether it had to answer.
    Checking(Live),
}

#[derive(Debug)]
struct Live {
    /// The revision of `created`.
    opened: i64,
    since: Instant,
    /// The parts so far of a message that came in fragments.
    fragments: Vec<Event>,
    unanswered: u32,
    tick: Instant,
}

/// The from-now machine: shares opening, recovery and the line with the list-then-watch one, and has
/// neither a map nor a place.
#[derive(Debug)]
struct Machine {
    span: Span,
    state: State,
    recovery: Recovery,
    signals: VecDeque<Signal>,
}

/// How often progress is asked for.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Somebody waits for a lock meanwhile, and gets it only over this watch.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

impl Machine {
    fn new(now: Instant, span: Span) -> Self {
        Self {
            span,
            state: State::Need(Wait::Until(now)),
            recovery: Recovery::within(LONGEST_WAIT),
            signals: VecDeque::new(),
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Need(Wait::Until(at)) => Some(*at),
            State::Opening { until } => Some(*until),
            State::Watching(live) => Some(live.tick),
            // Calls are under way, and every call has a deadline.
            State::Need(Wait::Token) | State::Checking(_) => None,
        }
    }

    fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut turn = Turn::new(now);
        let state = std::mem::replace(&mut self.state, State::Need(Wait::Token));
        self.state = self.next(&mut turn, state, input);
        turn.actions
    }

    fn next(&mut self, turn: &mut Turn, state: State, input: Input) -> State {
        use State::{Checking, Need, Opening, Watching};
        match (state, input) {
            (Need(wait), input) => match self.recovery.waited(turn, wait, input) {
                Ok(()) => {
                    turn.act(Action::Open(WatchRequest {
                        span: self.span.clone(),
                        start_revision: 0,
                        no_put: true,
                    }));
                    let until = turn.now + OPEN_TIMEOUT;
                    Opening { until }
                }
                Err(wait) => Need(wait),
            },

            (Opening { .. }, Input::Opened(Err(error))) => {
                self.failed(turn, None, "cannot open the watch", &error)
            }
            (Opening { until }, Input::Due) if until <= turn.now => {
                turn.leave_endpoint();
                self.back(
                    turn,
                    None,
                    Remedy::Wait,
                    "the watch was not opened in time",
                    "",
                )
            }
            // A refused watch is both `created` and `canceled`.
            (Opening { .. }, Input::Message(message)) if message.canceled => {
                self.canceled(turn, None, &message)
            }
            (Opening { .. }, Input::Message(message)) if message.created => {
                self.recovery.accepted();
                self.recovery.well(turn);
                let opened = message.header.revision;
                if !mutated!(FromNowHidesTheGap) {
                    self.signals.push_back(Signal::Opened { revision: opened });
                }
                Watching(Live {
                    opened,
                    since: turn.now,
                    fragments: Vec::new(),
                    unanswered: 0,
                    tick: turn.now + PROGRESS_INTERVAL,
                })
            }
            (Opening { .. }, Input::Ended(error)) => self.ended(turn, None, error),

            (Watching(live) | Checking(live), Input::Ended(error)) => {
                self.ended(turn, Some(live), error)
            }
            (Watching(live) | Checking(live), Input::Message(message)) => {
                self.message(turn, live, message)
            }
            (Watching(mut live), Input::Due) if live.tick <= turn.now => {
                live.tick = turn.now + PROGRESS_INTERVAL;
                if live.unanswered >= SILENT {
                    live.unanswered = 0;
                    turn.act(Action::Read(
                        Read::Verify,
                        revision_of_the_store(&self.span),
                    ));
                    return Checking(live);
                }
                live.unanswered += 1;
                turn.act(Action::AskProgress);
                Watching(live)
            }
            (Checking(live), Input::Read(Read::Verify, Ok(reply))) => {
                if reply.header.revision == live.opened {
                    // Quiet: etcd answers no progress before the store moves on from `created`.
                    return Watching(live);
                }
                turn.leave_endpoint();
                self.back(turn, Some(live), Remedy::Wait, "the stream is silent", "")
            }
            (Checking(live), Input::Read(Read::Verify, Err(error))) => {
                turn.leave_endpoint();
                let what = "the watch is silent and a read fails";
                self.failed(turn, Some(live), what, &error)
            }
            // The answer to a question that no longer stands.
            (state, _) => state,
        }
    }

    fn message(&mut self, turn: &mut Turn, mut live: Live, message: WatchMessage) -> State {
        live.unanswered = 0;
        if message.canceled {
            return self.canceled(turn, Some(live), &message);
        }
        let progress = message.events.is_empty() && !message.fragment;
        if progress && message.header.revision < live.opened {
            return self.back(turn, Some(live), Remedy::Wait, "the server went back", "");
        }
        live.fragments.extend(message.events);
        if !message.fragment && !progress {
            self.delete(std::mem::take(&mut live.fragments));
        }
        State::Watching(live)
    }

    /// One signal for every revision: deletions of one revision must be judged together.
    fn delete(&mut self, events: Vec<Event>) {
        let deletions = events
            .into_iter()
            .filter(|event| event.kind == EventKind::Delete);
        for Event { kv, .. } in deletions {
            match self.signals.back_mut() {
                Some(Signal::Deleted { revision, keys }) if *revision == kv.mod_revision => {
                    keys.push(kv.key);
                }
                _ => self.signals.push_back(Signal::Deleted {
                    revision: kv.mod_revision,
                    keys: vec![kv.key],
                }),
            }
        }
    }

    fn canceled(&mut self, turn: &mut Turn, live: Option<Live>, message: &WatchMessage) -> State {
        let (remedy, reason) = (Remedy::of_cancel(message), &message.cancel_reason);
        self.back(turn, live, remedy, "etcd canceled the watch", reason)
    }

    fn ended(&mut self, turn: &mut Turn, live: Option<Live>, error: Option<CallError>) -> State {
        match error {
            Some(error) => self.failed(turn, live, "the stream broke", &error),
            None => self.back(turn, live, Remedy::Wait, "the stream ended", ""),
        }
    }

    fn failed(
        &mut self,
        turn: &mut Turn,
        live: Option<Live>,
        what: &'static str,
        error: &CallError,
    ) -> State {
        self.back(turn, live, Remedy::of_error(error), what, &error.message)
    }

    fn back(
        &mut self,
        turn: &mut Turn,
        live: Option<Live>,
        remedy: Remedy,
        what: &'static str,
        detail: &str,
    ) -> State {
        turn.act(Action::Close);
        if let Some(live) = live {
            self.recovery.ended(turn.now, live.since);
            if !mutated!(FromNowHidesTheGap) {
                self.signals.push_back(Signal::Closed);
            }
        }
        State::Need(self.recovery.failed(turn, remedy, what, detail))
    }
}

#[cfg(test)]
impl<S: Source> FromNow<S> {
    /// When it will act by itself.
    pub(super) fn due(&self) -> Option<Instant> {
        self.machine.due()
    }
}
