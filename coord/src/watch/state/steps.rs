//! What the transitions of [`State`] do.

use super::{Action, Audit, Live, Machine, OPEN_TIMEOUT, Probe, Read, SILENT, State};
use crate::{
    client::{CallError, Event, Header, Range, RangeReply, Version, WatchMessage, WatchRequest},
    clock::Instant,
    watch::{
        Cause, Change, Update,
        list::{List, Turned, revision_of_the_store},
        mutation::mutated,
        place::Journal,
        recovery::{Remedy, Turn, Wait},
    },
};

/// Every so many progress intervals the store's revision is read, for
/// [`verified_at`](super::WatchStatus::verified_at).
const VERIFY_EVERY: u32 = 3;
/// From here on a progress answer does not overtake events (an older one answered with a revision
/// whose events it had not sent yet).
const HONEST_PROGRESS: Version = Version::new(3, 5, 8);
/// An audit that had to start again so often waits for the next interval.
const AUDIT_RESTARTS: u32 = 5;

impl Machine {
    // Empty, Need

    pub(super) fn list(&mut self, turn: &mut Turn, why: Cause) -> State {
        let list = List::new(self.span.clone(), self.page, self.place.sent(turn.now));
        turn.act(Action::Read(Read::List, list.read()));
        State::Listing {
            why,
            list,
            again: None,
        }
    }

    pub(super) fn open(&mut self, turn: &mut Turn) -> State {
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

    pub(super) fn listed(
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
        self.grow_page(list.page());
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

    /// Pages that had to shrink grow again: the large values may be gone.
    fn grow_page(&mut self, worked: i64) {
        self.page = worked.saturating_mul(2).clamp(1, self.options.page.max(1));
    }

    // Opening

    pub(super) fn opening(
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

    pub(super) fn message(
        &mut self,
        turn: &mut Turn,
        mut live: Live,
        message: WatchMessage,
    ) -> State {
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

    /// Rules 4 and 10.
    fn progress(&mut self, turn: &mut Turn, live: Live, header: &Header) -> State {
        if self.place.is_ahead_of(header) {
            return self.suspect(turn, live);
        }
        if self.has_honest_progress() && live.is_between_messages() {
            self.place.reach(header.revision);
        }
        State::Watching(live)
    }

    /// Rule 5: a version that is not known is an old one.
    pub(super) fn has_honest_progress(&self) -> bool {
        mutated!(TrustOldProgress) || self.version.is_some_and(|v| v >= HONEST_PROGRESS)
    }

    pub(super) fn tick(&mut self, turn: &mut Turn, mut live: Live) -> State {
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
        if live.ticks.is_multiple_of(VERIFY_EVERY) && self.verify.is_none() {
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
    pub(super) fn audited(
        &mut self,
        turn: &mut Turn,
        reply: Result<RangeReply, CallError>,
    ) -> bool {
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
                self.grow_page(audit.list.page());
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
    pub(super) fn verified(&mut self, reply: &RangeReply) -> bool {
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

    pub(super) fn suspect(&mut self, turn: &mut Turn, live: Live) -> State {
        let probe = self.probe(turn);
        State::Suspect(live, probe)
    }

    /// Rule 11.
    pub(super) fn probed(
        &mut self,
        turn: &mut Turn,
        live: Live,
        probe: Probe,
        reply: &RangeReply,
    ) -> State {
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

    pub(super) fn regressed(&mut self, turn: &mut Turn, live: Option<Live>) -> State {
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

    pub(super) fn ended(&mut self, turn: &mut Turn, error: Option<CallError>) -> State {
        match error {
            Some(error) => self.failed(turn, "the stream broke", &error),
            None => self.back(turn, Remedy::Wait, "the stream ended", ""),
        }
    }

    pub(super) fn failed(
        &mut self,
        turn: &mut Turn,
        what: &'static str,
        error: &CallError,
    ) -> State {
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

    pub(super) fn reopen(
        &mut self,
        turn: &mut Turn,
        remedy: Remedy,
        what: &'static str,
        detail: &str,
    ) -> State {
        State::Need(self.recovery.failed(turn, remedy, what, detail))
    }

    /// Rule 7: fragments and progress are in `live`; the audit and the verification go with it.
    pub(super) fn close(&mut self, turn: &mut Turn, live: Option<Live>) {
        if let Some(live) = live {
            self.recovery.ended(turn.now, live.since);
        }
        if !mutated!(AuditOutlivesStream) {
            self.audit = None;
        }
        self.verify = None;
        turn.act(Action::Close);
    }

    fn publish(&mut self, turn: &mut Turn, cause: Cause, changes: Vec<Change>) {
        if !changes.is_empty() {
            turn.act(Action::Publish(Update {
                revision: self.place.pos(),
                cause,
                changes,
            }));
        }
    }
}

impl Live {
    /// No part of a message is waiting for the others.
    fn is_between_messages(&self) -> bool {
        mutated!(ProgressOvertakes) || self.fragments.is_empty()
    }
}
