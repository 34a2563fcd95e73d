//! The state machine: [`State`] and [`Machine::step`].
//!
//! `step` takes what happened ([`Input`]) and says what to do ([`Action`]). It does no IO and reads
//! no clock: the time comes in, and [`Machine::due`] says when it wants to be called without any
//! other cause. The numbers in the comments are those of the rules in the [module's docs](super).
//!
//! | state | what happens | next | done |
//! |---|---|---|---|
//! | Empty | backoff over | Listing | page 1; the old map stays |
//! | Listing | page / last page | Listing / Need | next page / compare, `pos` := the list's revision |
//! | Listing | compacted, future revision, lower term | Listing | page 1 again |
//! | Need | backoff over | Opening | open at `pos` + 1 |
//! | Opening | created, header ≥ `pos` | Watching | progress timer on |
//! | Opening | created, header < `pos` or lower term | Suspect | hold events, probe |
//! | Opening | canceled: token / compacted / other; timeout | Need / Empty / Need; Need | refresh / – / backoff; backoff |
//! | Watching | fragment / its last part | Watching | keep / fold, publish, `pos` = last revision |
//! | Watching | progress, header ≥ `pos` | Watching | `pos` = header, if rule 4 allows |
//! | Watching | progress, header < `pos` or lower term | Suspect | hold events, probe |
//! | Watching | silent twice | Probing | probe; events flow |
//! | Probing | any message | Watching | the answer is ignored |
//! | Probing | unchanged, before / after the stream's start | Watching / Need | `pos` = the answer's revision |
//! | Probing | changed / changed again with no event between | Need / Empty | another endpoint / – |
//! | Suspect, Probing | history went back | Empty | |
//! | Suspect | else | Watching | release the events |
//! | Watching | audit due / audit done | Watching | journal / overlay and compare (or Empty) |
//! | Watching | compacted, too large to decode | Empty | |
//! | any with a stream | end, error | Need | backoff; all that belonged to the stream is dropped |

mod steps;
#[cfg(test)]
mod table;

use std::time::Duration;

use super::{
    Cause, Phase, Update, WatchOptions, WatchStatus,
    list::{List, Sent},
    mutation::mutated,
    place::{Journal, Map, Place},
    recovery::{Recovery, Remedy, Turn, Wait},
};
use crate::{
    client::{CallError, Event, Range, RangeReply, Span, Version, WatchMessage, WatchRequest},
    clock::Instant,
};

/// A stream that is not `created` this long after it was asked for is given up.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// So many progress requests unanswered, with no other message, are silence.
pub(super) const SILENT: u32 = 2;

/// Where a watch stands.
#[derive(Debug)]
pub(super) enum State {
    /// There is no place to watch from: nothing was listed yet, or the place is gone. The map, if
    /// there is one, stays as it was.
    Empty { why: Cause, wait: Wait },
    /// A list is being read; `again` is set while it waits to start again.
    Listing {
        why: Cause,
        list: List,
        again: Option<Instant>,
    },
    /// The map equals the store at `pos`; a stream from `pos` + 1 is needed.
    Need(Wait),
    /// The stream was asked for, and has not said `created` yet.
    Opening { start: i64, until: Instant },
    /// Events flow, or would.
    Watching(Live),
    /// The stream is silent: a probe is to tell whether anything was missed. Events are taken.
    Probing(Live, Probe),
    /// The stream's member stands before `pos`: it lags, or history went back. The stream is not
    /// read until a probe has told which.
    Suspect(Live, Probe),
}

/// A stream that was `created`. All of it is dropped with the stream.
#[derive(Debug)]
pub(super) struct Live {
    start: i64,
    since: Instant,
    member: u64,
    /// The parts so far of a message that came in fragments.
    fragments: Vec<Event>,
    unanswered: u32,
    ticks: u32,
    tick: Instant,
}

/// A probe under way: did anything in the range change after `pos`?
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    sent: Sent,
    keys: usize,
}

#[derive(Debug)]
struct Audit {
    list: List,
    journal: Journal,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// [`Machine::due`] has come.
    Due,
    Refreshed(Result<(), CallError>),
    Read(Read, Result<RangeReply, CallError>),
    Opened(Result<(), CallError>),
    Message(WatchMessage),
    Ended(Option<CallError>),
    Version(Option<Version>),
}

/// What to do. In order.
#[derive(Debug)]
pub(super) enum Action {
    Read(Read, Range),
    Open(WatchRequest),
    /// Drop the stream and every operation that belongs to it.
    Close,
    AskProgress,
    AskVersion(u64),
    RefreshToken,
    LeaveEndpoint,
    Publish(Update),
    /// A trouble began.
    Warn(String),
    Recovered,
}

/// A read's purpose. Of each there is at most one under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    List,
    Audit,
    Probe,
    /// Of the store's revision alone.
    Verify,
}

/// The whole of what one watch knows.
#[derive(Debug)]
pub(super) struct Machine {
    span: Span,
    options: WatchOptions,
    state: State,
    place: Place,
    /// How many keys a page may have: less than the option says once a page was too large.
    page: i64,
    audit: Option<Audit>,
    audit_at: Option<Instant>,
    verify: Option<Sent>,
    /// A probe found a change that no stream had told, and none has told since.
    changed: bool,
    recovery: Recovery,
    opens: u64,
    alive_at: Option<Instant>,
    /// Of the stream's member; unknown again with every stream (rule 5).
    version: Option<Version>,
}

impl Machine {
    pub(super) fn new(now: Instant, span: Span, options: WatchOptions) -> Self {
        let page = options.page.max(1);
        Self {
            span,
            options,
            state: State::Empty {
                why: Cause::Listed,
                wait: Wait::Until(now),
            },
            place: Place::default(),
            page,
            audit: None,
            audit_at: None,
            verify: None,
            changed: false,
            recovery: Recovery::default(),
            opens: 0,
            alive_at: None,
            version: None,
        }
    }

    pub(super) fn map(&self) -> &Map {
        self.place.map()
    }

    /// When to call [`step`](Self::step) with [`Input::Due`]; `None`: only when something happens.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Empty { wait, .. } | State::Need(wait) => match wait {
                Wait::Until(at) => Some(*at),
                Wait::Token => None,
            },
            State::Listing { again, .. } => *again,
            State::Opening { until, .. } => Some(*until),
            State::Watching(live) => match (self.audit_at, &self.audit) {
                (Some(at), None) => Some(at.min(live.tick)),
                _ => Some(live.tick),
            },
            // A read is under way, and every call has a deadline.
            State::Probing(..) | State::Suspect(..) => None,
        }
    }

    /// False while what the stream says must wait.
    pub(super) fn reads_stream(&self) -> bool {
        !matches!(self.state, State::Suspect(..))
    }

    /// Rule 4: a stream was `created`, and its answers are believed.
    pub(super) fn can_ask(&self) -> bool {
        matches!(self.state, State::Watching(_)) && self.has_honest_progress()
    }

    pub(super) fn status(&self) -> WatchStatus {
        let waits = match &self.state {
            State::Empty { .. } | State::Need(_) => true,
            State::Listing { again, .. } => again.is_some(),
            _ => false,
        };
        let phase = match &self.state {
            _ if waits && self.recovery.trouble().is_some() => Phase::BackingOff,
            State::Empty { .. } | State::Listing { .. } => Phase::Listing,
            State::Need(_) | State::Opening { .. } => Phase::Opening,
            State::Watching(_) | State::Probing(..) | State::Suspect(..) => Phase::Watching,
        };
        WatchStatus {
            phase,
            revision: self.place.pos(),
            alive_at: self.alive_at,
            verified_at: self.place.verified_at(),
            reconnects: self.opens.saturating_sub(1),
            trouble: self.recovery.trouble(),
        }
    }

    /// Takes in what happened; says what to do. At most one of the actions publishes, and the map
    /// equals the store at that update's revision until the next step.
    pub(super) fn step(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let mut turn = Turn::new(now);
        let state = std::mem::replace(&mut self.state, State::Need(Wait::Token));
        self.state = self.next(&mut turn, state, input);
        turn.actions
    }

    fn next(&mut self, turn: &mut Turn, state: State, input: Input) -> State {
        use State::{Empty, Listing, Need, Opening, Probing, Suspect, Watching};
        match (state, input) {
            (Empty { why, wait }, input) => match self.recovery.waited(turn, wait, input) {
                Ok(()) => self.list(turn, why),
                Err(wait) => Empty { why, wait },
            },
            (Need(wait), input) => match self.recovery.waited(turn, wait, input) {
                Ok(()) => self.open(turn),
                Err(wait) => Need(wait),
            },

            (Listing { why, list, .. }, Input::Read(Read::List, reply)) => {
                self.listed(turn, why, list, reply)
            }
            (
                Listing {
                    why,
                    mut list,
                    again: Some(at),
                },
                Input::Due,
            ) if at <= turn.now => {
                list.restart(self.place.sent(turn.now));
                turn.act(Action::Read(Read::List, list.read()));
                Listing {
                    why,
                    list,
                    again: None,
                }
            }

            (state @ Opening { .. }, Input::Opened(Ok(()))) => {
                // Rule 4: what is asked before `created` may be answered for no watch at all.
                if mutated!(ProgressBeforeCreated) {
                    turn.act(Action::AskProgress);
                }
                state
            }
            (Opening { .. }, Input::Opened(Err(error))) => {
                self.close(turn, None);
                self.failed(turn, "cannot open the watch", &error)
            }
            (Opening { start, until }, Input::Message(message)) => {
                self.opening(turn, start, until, message)
            }
            (Opening { .. }, Input::Ended(error)) => {
                self.close(turn, None);
                self.ended(turn, error)
            }
            (Opening { until, .. }, Input::Due) if until <= turn.now => {
                self.close(turn, None);
                turn.leave_endpoint();
                self.reopen(turn, Remedy::Wait, "the watch was not opened in time", "")
            }

            (Watching(live) | Probing(live, _) | Suspect(live, _), Input::Ended(error)) => {
                self.close(turn, Some(live));
                self.ended(turn, error)
            }
            // Whatever comes while a probe is under way ends the silence that it was sent for.
            (Watching(live) | Probing(live, _), Input::Message(message)) => {
                self.message(turn, live, message)
            }
            (Watching(live), Input::Due) => self.tick(turn, live),
            (Probing(live, probe), Input::Read(Read::Probe, Ok(reply))) => {
                self.probed(turn, live, probe, &reply)
            }
            (Suspect(live, probe), Input::Read(Read::Probe, Ok(reply))) => {
                if self.place.went_back(&probe.sent, &reply.header) {
                    return self.regressed(turn, Some(live));
                }
                // The member lags, and that is all.
                self.place.answered(&probe.sent, &reply.header);
                self.recovery.well(turn);
                Watching(live)
            }
            (Probing(live, _) | Suspect(live, _), Input::Read(Read::Probe, Err(error))) => {
                self.close(turn, Some(live));
                turn.leave_endpoint();
                self.failed(turn, "the watch is silent and a read fails", &error)
            }

            (state, input) => {
                let went_back = match input {
                    Input::Read(Read::Audit, reply) => self.audited(turn, reply),
                    Input::Read(Read::Verify, Ok(reply)) => self.verified(&reply),
                    Input::Read(Read::Verify, Err(_)) => {
                        // Not a trouble of the watch's; `verified_at` stands still and says so.
                        self.verify = None;
                        false
                    }
                    Input::Version(version) => {
                        self.version = version;
                        false
                    }
                    // The answer to a question that no longer stands.
                    _ => false,
                };
                if went_back {
                    let live = state.into_live();
                    return self.regressed(turn, live);
                }
                state
            }
        }
    }
}

impl State {
    fn into_live(self) -> Option<Live> {
        match self {
            Self::Watching(live) | Self::Probing(live, _) | Self::Suspect(live, _) => Some(live),
            _ => None,
        }
    }
}
