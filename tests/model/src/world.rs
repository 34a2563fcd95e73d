//! [`World`]: one state. Plain data; what happens to it stands in the other rooms.
//!
//! # Revisions
//! Only their order matters. So after each step the revisions that occur are renumbered from 1:
//! states that differ in nothing but the numbers are one state.

use crate::scenario::Faults;

/// A revision; 0 is "none", "absent" or "not known".
pub(crate) type Rev = u8;
/// A set of entry keys.
pub(crate) type Keys = u32;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) store: Store,
    /// One for each client and name.
    pub(crate) watches: Vec<Watch>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) attempts: Vec<Attempt>,
    /// Requests that nobody waits for any more, and that may yet be applied. Sorted.
    pub(crate) late: Vec<Late>,
    pub(crate) go: Go,
    pub(crate) faults: Faults,
    /// For each name, the highest token that an exclusive holder has declared.
    pub(crate) declared: [Rev; 2],
    /// The highest token of a guarded write that was applied.
    pub(crate) written: Rev,
    /// The laws of steps that the last step broke.
    pub(crate) broken: u16,
}

/// What etcd stores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) revision: Rev,
    pub(crate) entries: Vec<Slot>,
    pub(crate) leases: Vec<Lease>,
    /// For a member that lags: before the last deletion, at it, and what it deleted.
    pub(crate) last: Option<(Rev, Rev, Keys)>,
}

/// An entry, if `created` is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) created: Rev,
    pub(crate) modified: Rev,
    pub(crate) lease: u8,
    /// Not part of etcd: the create revision of its last life that was admissible at some revision.
    pub(crate) first: Rev,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) alive: bool,
    /// The session key's `mod_revision`: the session's incarnation.
    pub(crate) key: Rev,
    /// The session key hangs on the lease.
    pub(crate) attached: bool,
}

/// What a client knows of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) incarnation: Rev,
    /// The deadline has passed. Whoever looks at the clock knows.
    pub(crate) past: bool,
    /// The session key's watch, or an answer, has said so.
    pub(crate) lost: bool,
}

/// A watch of one name by one client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Watch {
    /// The client wants it.
    pub(crate) wanted: bool,
    /// It exists at etcd.
    pub(crate) exists: bool,
    /// What is under way to the client, in order.
    pub(crate) signals: Vec<Signal>,
    /// The client was told everything up to here; 0: it is not open.
    pub(crate) told: Rev,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Signal {
    Opened(Rev),
    Deleted(Rev, Keys),
}

/// A client's attempt at a lock, from its start to the end of its undo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) phase: Phase,
    /// R: the entry's create revision, which is the token.
    pub(crate) created: Rev,
    /// The entry's `mod_revision`, as last known.
    pub(crate) modified: Rev,
    /// A copy of the acquire ended unknown. Sticky.
    pub(crate) unknown: bool,
    /// One for each name; `None`: it has no place there.
    pub(crate) views: Vec<Option<View>>,
    /// It is a reader now, as far as it believes.
    pub(crate) downgraded: bool,
    /// The delete of its write entry, by which it downgrades, is still to be answered.
    pub(crate) part: bool,
    /// A delete of its keys ended unknown.
    pub(crate) dirty: bool,
    /// It is done, and nothing of it can come any more: its keys may be used again.
    pub(crate) free: bool,
    /// How many moves are known to be done.
    pub(crate) moved: u8,
    pub(crate) moving: Moving,
    pub(crate) wrote: bool,
    /// Not known to the client: somebody outside took the entry away.
    pub(crate) tampered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Idle,
    /// The acquire is on its way, comparing this incarnation.
    Sent(Rev),
    /// Its answer is on its way.
    Answered(Answer),
    Queued,
    Owner,
    Undo(Undo),
    Done,
}

/// A transaction that takes an attempt off the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Undo {
    pub(crate) barrier: bool,
    /// etcd was too full for the barrier: a plain delete first.
    pub(crate) sweep: bool,
    /// By a holder, who wants to know whether it held throughout.
    pub(crate) confirms: bool,
}

/// What the acquire's transaction says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    /// Put at this revision; for two names, who is ahead and whether there are more.
    Put(Rev, [(Keys, bool); 2]),
    /// Put before, by an earlier copy.
    There(Rev),
    NoSession,
    /// A try found somebody. True: and not itself.
    Busy(bool),
    Moved(Rev),
}

/// A move of the entry to another lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Moving {
    No,
    Sent,
    Answered(Moved),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Moved {
    /// The entry hangs on the new lease, modified at this revision.
    There(Rev),
    Gone,
    /// It hangs where it did, and this copy changes nothing.
    Refused,
}

/// What one entry knows of its queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct View {
    /// Every deletion after this revision is told; 0: there is no watch.
    pub(crate) from: Rev,
    pub(crate) known: Option<Known>,
    /// Deletions that were told while a reply is under way.
    pub(crate) told: Vec<(Rev, Keys)>,
    /// A read's reply that is under way.
    pub(crate) read: Option<Read>,
    /// A safety read is wanted.
    pub(crate) audit: bool,
    /// An event was swallowed since: some day a safety read will be due.
    pub(crate) owed: bool,
    pub(crate) gone: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    pub(crate) at: Rev,
    pub(crate) ahead: Keys,
    pub(crate) complete: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Read {
    pub(crate) at: Rev,
    /// The own entry's create revision; 0: it is not there.
    pub(crate) own: Rev,
    pub(crate) ahead: Keys,
    pub(crate) more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Late {
    Acquire { attempt: u8, incarnation: Rev },
    Undo { attempt: u8, barrier: bool },
    Downgrade { attempt: u8 },
    Write { attempt: u8, token: Rev },
    Move { attempt: u8, guard: Rev, to: u8 },
}

/// A peer that uses Go's mutex: one key per session, used again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Go {
    pub(crate) phase: GoPhase,
    pub(crate) rounds: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GoPhase {
    Idle,
    Queued,
    Owner,
}

impl World {
    /// Renumbers the revisions. At most 63 different ones may occur.
    pub(crate) fn renumber(&mut self) {
        let mut used = 1_u64;
        self.revisions(&mut |revision| used |= 1 << *revision);
        self.revisions(&mut |revision| {
            let below = used & ((1 << *revision) - 1);
            *revision = below.count_ones() as Rev;
        });
    }

    fn revisions(&mut self, f: &mut impl FnMut(&mut Rev)) {
        f(&mut self.store.revision);
        self.declared.iter_mut().for_each(&mut *f);
        f(&mut self.written);
        for slot in &mut self.store.entries {
            f(&mut slot.created);
            f(&mut slot.modified);
            f(&mut slot.first);
        }
        for lease in &mut self.store.leases {
            f(&mut lease.key);
        }
        if let Some((before, at, _)) = &mut self.store.last {
            f(before);
            f(at);
        }
        for watch in &mut self.watches {
            f(&mut watch.told);
            for signal in &mut watch.signals {
                match signal {
                    Signal::Opened(at) | Signal::Deleted(at, _) => f(at),
                }
            }
        }
        for session in &mut self.sessions {
            f(&mut session.incarnation);
        }
        for attempt in &mut self.attempts {
            attempt.revisions(f);
        }
        for copy in &mut self.late {
            match copy {
                Late::Acquire { incarnation, .. } => f(incarnation),
                Late::Write { token, .. } => f(token),
                Late::Move { guard, .. } => f(guard),
                Late::Undo { .. } | Late::Downgrade { .. } => {}
            }
        }
    }
}

impl Attempt {
    fn revisions(&mut self, f: &mut impl FnMut(&mut Rev)) {
        f(&mut self.created);
        f(&mut self.modified);
        match &mut self.phase {
            Phase::Sent(at)
            | Phase::Answered(Answer::Put(at, _) | Answer::There(at) | Answer::Moved(at)) => f(at),
            _ => {}
        }
        if let Moving::Answered(Moved::There(at)) = &mut self.moving {
            f(at);
        }
        for view in self.views.iter_mut().flatten() {
            f(&mut view.from);
            if let Some(known) = &mut view.known {
                f(&mut known.at);
            }
            for (at, _) in &mut view.told {
                f(at);
            }
            if let Some(read) = &mut view.read {
                f(&mut read.at);
                f(&mut read.own);
            }
        }
    }
}
