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

use std::time::Duration;

use super::{
    Cause, Phase, Update, WatchOptions, WatchStatus,
    list::{List, Sent, Turned},
    mutation::mutated,
    place::{Journal, Map, Place},
    recovery::{Recovery, Remedy, Turn, Wait},
};
use crate::{
    client::{
        CallError, Event, Header, Range, RangeReply, Span, Version, WatchMessage, WatchRequest,
    },
    clock::Instant,
};

/// A stream that is not `created` this long after it was asked for is given up.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// So many progress requests unanswered, with no other message, are silence.
pub(super) const SILENT: u32 = 2;
/// Every so many progress intervals the store's revision is read, for [`WatchStatus::verified_at`].
const VERIFY_EVERY: u32 = 3;
/// From here on a progress answer does not overtake events (an older one answered with a revision
/// whose events it had not sent yet).
const HONEST_PROGRESS: Version = Version::new(3, 5, 8);
/// An audit that had to start again so often waits for the next interval.
const AUDIT_RESTARTS: u32 = 5;

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
    /// Of the stream's member; unknown again with every stream.
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

    // Empty, Need

    fn list(&mut self, turn: &mut Turn, why: Cause) -> State {
        let list = List::new(self.span.clone(), self.page, self.place.sent(turn.now));
        turn.act(Action::Read(Read::List, list.read()));
        State::Listing {
            why,
            list,
            again: None,
        }
    }

    fn open(&mut self, turn: &mut Turn) -> State {
        let start = if mutated!(StartAtPosition) {
            self.place.pos()
        } else {
            self.place.pos() + 1
        };
        self.opens += 1;
        if !mutated!(TrustByAnotherMembersVersion) {
            self.version = None;
        }
        turn.act(Action::Open(WatchRequest {
            span: self.span.clone(),
            start_revision: start,
            no_put: false,
        }));
        State::Opening {
            start,
            until: turn.now + OPEN_TIMEOUT,
        }
    }

    // Listing

    fn listed(
        &mut self,
        turn: &mut Turn,
        mut why: Cause,
        mut list: List,
        reply: Result<RangeReply, CallError>,
    ) -> State {
        match list.turn(reply) {
            Turned::Page => {
                turn.act(Action::Read(Read::List, list.read()));
                return State::Listing {
                    why,
                    list,
                    again: None,
                };
            }
            Turned::Restart => {
                let again = self.recovery.pause(turn.now, Remedy::Wait);
                return State::Listing {
                    why,
                    list,
                    again: Some(again),
                };
            }
            Turned::Failed(error) => {
                let remedy = Remedy::of_error(&error);
                let wait = (self.recovery).failed(turn, remedy, "cannot list", &error.message);
                return State::Empty { why, wait };
            }
            Turned::Done => {}
        }
        self.page = list.page();
        let (header, sent, keys) = list.finish();
        if self.place.went_back(&sent, &header) {
            why = Cause::Regressed;
        }
        let changes = self.place.install(&header, &sent, keys);
        self.changed = false;
        self.audit_at =
            (!self.options.sync_interval.is_zero()).then(|| turn.now + self.options.sync_interval);
        turn.act(Action::Publish(Update {
            revision: header.revision,
            cause: why,
            changes,
        }));
        State::Need(Wait::Until(turn.now))
    }

    // Opening

    fn opening(
        &mut self,
        turn: &mut Turn,
        start: i64,
        until: Instant,
        message: WatchMessage,
    ) -> State {
        self.alive_at = Some(turn.now);
        // Rule 6: a refused watch is both.
        if message.canceled && !(message.created && mutated!(CreatedBeforeCanceled)) {
            return self.canceled(turn, None, &message);
        }
        if !message.created {
            // An answer that does not speak for this watch.
            if mutated!(ProgressBeforeCreated) {
                self.place.reach(message.header.revision);
            }
            return State::Opening { start, until };
        }
        let live = Live {
            start,
            since: turn.now,
            member: message.header.member_id,
            fragments: Vec::new(),
            unanswered: 0,
            ticks: 0,
            tick: turn.now + self.options.progress_interval,
        };
        if self.version.is_none() {
            turn.act(Action::AskVersion(live.member));
        }
        self.recovery.accepted();
        if mutated!(CreatedHeaderAsPosition) {
            self.place.reach(message.header.revision);
        }
        if self.place.is_ahead_of(&message.header) {
            return self.suspect(turn, live);
        }
        self.recovery.well(turn);
        State::Watching(live)
    }

    // Watching

    fn message(&mut self, turn: &mut Turn, mut live: Live, message: WatchMessage) -> State {
        self.alive_at = Some(turn.now);
        live.unanswered = 0;
        if message.canceled {
            return self.canceled(turn, Some(live), &message);
        }
        if message.created {
            return State::Watching(live);
        }
        if message.events.is_empty() && !message.fragment {
            return self.progress(turn, live, &message.header);
        }
        live.fragments.extend(message.events);
        if !message.fragment || mutated!(FragmentByFragment) {
            let events = std::mem::take(&mut live.fragments);
            self.events(turn, events, &message.header);
        }
        State::Watching(live)
    }

    /// Rule 1: whole revisions, one publication, and only then the new place.
    fn events(&mut self, turn: &mut Turn, events: Vec<Event>, header: &Header) {
        let before = self.place.pos();
        let journal = self.audit.as_mut().map(|audit| &mut audit.journal);
        let changes = self.place.fold(events, journal);
        if mutated!(ResumeAtHeader) {
            self.place.reach(header.revision);
        }
        if self.place.pos() > before {
            self.changed = false;
        }
        self.publish(turn, Cause::Events, changes);
    }

    /// Rules 4, 5 (a version that is not known is an old one) and 10.
    fn progress(&mut self, turn: &mut Turn, live: Live, header: &Header) -> State {
        if self.place.is_ahead_of(header) {
            return self.suspect(turn, live);
        }
        let honest = self
            .version
            .is_some_and(|version| version >= HONEST_PROGRESS);
        if (honest || mutated!(TrustOldProgress))
            && (live.fragments.is_empty() || mutated!(ProgressOvertakes))
        {
            self.place.reach(header.revision);
        }
        State::Watching(live)
    }

    fn tick(&mut self, turn: &mut Turn, mut live: Live) -> State {
        if self.audit.is_none() && self.audit_at.is_some_and(|at| at <= turn.now) {
            self.audit_at = Some(turn.now + self.options.sync_interval);
            if !mutated!(NoAudit) {
                let list = List::new(self.span.clone(), self.page, self.place.sent(turn.now));
                turn.act(Action::Read(Read::Audit, list.read()));
                self.audit = Some(Audit {
                    list,
                    journal: Journal::default(),
                });
            }
        }
        if turn.now < live.tick {
            return State::Watching(live);
        }
        live.tick = turn.now + self.options.progress_interval;
        if self.version.is_none() {
            turn.act(Action::AskVersion(live.member));
        }
        if live.ticks % VERIFY_EVERY == 0 && self.verify.is_none() {
            self.verify = Some(self.place.sent(turn.now));
            turn.act(Action::Read(
                Read::Verify,
                revision_of_the_store(&self.span),
            ));
        }
        live.ticks = live.ticks.wrapping_add(1);
        if live.unanswered >= SILENT {
            live.unanswered = 0;
            let probe = self.probe(turn);
            return State::Probing(live, probe);
        }
        live.unanswered += 1;
        turn.act(Action::AskProgress);
        State::Watching(live)
    }

    // Audit and verification: true if history went back

    /// Rule 8.
    fn audited(&mut self, turn: &mut Turn, reply: Result<RangeReply, CallError>) -> bool {
        let Some(mut audit) = self.audit.take() else {
            return false;
        };
        match audit.list.turn(reply) {
            Turned::Restart if audit.list.restarts() < AUDIT_RESTARTS => {
                audit.list.restart(self.place.sent(turn.now));
            }
            Turned::Page => {}
            // Not a trouble of the watch's: the next one comes.
            Turned::Restart | Turned::Failed(_) => return false,
            Turned::Done => {
                self.page = audit.list.page();
                let (header, sent, keys) = audit.list.finish();
                if self.place.went_back(&sent, &header) {
                    return true;
                }
                let changes = self.place.overlay(&header, &sent, keys, audit.journal);
                self.publish(turn, Cause::Audited, changes);
                return false;
            }
        }
        turn.act(Action::Read(Read::Audit, audit.list.read()));
        self.audit = Some(audit);
        false
    }

    /// Rule 13.
    fn verified(&mut self, reply: &RangeReply) -> bool {
        let Some(sent) = self.verify.take() else {
            return false;
        };
        if self.place.went_back(&sent, &reply.header) {
            return true;
        }
        self.place.answered(&sent, &reply.header);
        false
    }

    // Probing, Suspect

    /// Rule 9: is there a key in the range that changed after `pos`, or one less than in the map?
    fn probe(&mut self, turn: &mut Turn) -> Probe {
        let mut range = Range::new(self.span.clone());
        range.limit = 1;
        range.keys_only = true;
        range.min_mod_revision = self.place.pos() + 1;
        turn.act(Action::Read(Read::Probe, range));
        Probe {
            sent: self.place.sent(turn.now),
            keys: self.place.map().len(),
        }
    }

    fn suspect(&mut self, turn: &mut Turn, live: Live) -> State {
        let probe = self.probe(turn);
        State::Suspect(live, probe)
    }

    /// Rule 11.
    fn probed(&mut self, turn: &mut Turn, live: Live, probe: Probe, reply: &RangeReply) -> State {
        if self.place.went_back(&probe.sent, &reply.header) {
            return self.regressed(turn, Some(live));
        }
        self.place.answered(&probe.sent, &reply.header);
        if self.place.pos() != probe.sent.pos {
            return State::Watching(live);
        }
        let keys = usize::try_from(reply.count).ok();
        if reply.kvs.is_empty() && keys == Some(probe.keys) {
            self.place.reach(reply.header.revision);
            if reply.header.revision < live.start {
                // Quiet: etcd answers no progress before the store reaches the stream's start.
                return State::Watching(live);
            }
            // A server that lives would have answered. Nothing was missed.
            self.close(turn, Some(live));
            return State::Need(Wait::Until(turn.now));
        }
        self.close(turn, Some(live));
        if std::mem::replace(&mut self.changed, true) {
            return self.empty(
                turn,
                Cause::Relisted,
                "two streams did not tell a change",
                "",
            );
        }
        turn.leave_endpoint();
        self.reopen(turn, Remedy::Wait, "the stream did not tell a change", "")
    }

    // Ways back

    fn regressed(&mut self, turn: &mut Turn, live: Option<Live>) -> State {
        self.close(turn, live);
        self.empty(turn, Cause::Regressed, "the server's history went back", "")
    }

    /// Rule 6.
    fn canceled(&mut self, turn: &mut Turn, live: Option<Live>, message: &WatchMessage) -> State {
        self.close(turn, live);
        let detail = match message.compact_revision {
            0 => message.cancel_reason.clone(),
            first => format!("the revisions before {first} are compacted away"),
        };
        self.back(
            turn,
            Remedy::of_cancel(message),
            "etcd canceled the watch",
            &detail,
        )
    }

    fn ended(&mut self, turn: &mut Turn, error: Option<CallError>) -> State {
        match error {
            Some(error) => self.failed(turn, "the stream broke", &error),
            None => self.back(turn, Remedy::Wait, "the stream ended", ""),
        }
    }

    fn failed(&mut self, turn: &mut Turn, what: &'static str, error: &CallError) -> State {
        self.back(turn, Remedy::of_error(error), what, &error.message)
    }

    fn back(&mut self, turn: &mut Turn, remedy: Remedy, what: &'static str, detail: &str) -> State {
        if remedy == Remedy::List && !mutated!(ResumeAfterDecodeError) {
            self.empty(turn, Cause::Relisted, what, detail)
        } else {
            self.reopen(turn, remedy, what, detail)
        }
    }

    fn empty(&mut self, turn: &mut Turn, why: Cause, what: &'static str, detail: &str) -> State {
        let wait = self.recovery.failed(turn, Remedy::List, what, detail);
        State::Empty { why, wait }
    }

    fn reopen(
        &mut self,
        turn: &mut Turn,
        remedy: Remedy,
        what: &'static str,
        detail: &str,
    ) -> State {
        State::Need(self.recovery.failed(turn, remedy, what, detail))
    }

    /// Rule 7: fragments and progress are in `live`; the audit and the verification go with it.
    fn close(&mut self, turn: &mut Turn, live: Option<Live>) {
        if let Some(live) = live {
            self.recovery.ended(turn.now, live.since);
        }
        if !mutated!(AuditOutlivesStream) {
            self.audit = None;
        }
        self.verify = None;
        turn.act(Action::Close);
    }

    fn publish(&mut self, turn: &mut Turn, cause: Cause, changes: Vec<super::Change>) {
        if !changes.is_empty() {
            turn.act(Action::Publish(Update {
                revision: self.place.pos(),
                cause,
                changes,
            }));
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

/// A read of the header alone, within what a user of the range may read.
pub(super) fn revision_of_the_store(span: &Span) -> Range {
    let (Span::Key(key) | Span::Interval(key, _)) = span;
    let mut range = Range::new(Span::Key(key.clone()));
    range.count_only = true;
    range
}
