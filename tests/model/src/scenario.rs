//! [`Scenario`]: who takes part, what may go wrong how often, and what is left out of the rules.

use crate::mutation::Mutation;

/// What an attempt wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Excludes everybody.
    Write,
    /// Excludes writers and permits.
    Read,
    /// A writer that may become a reader: two entries, put in one transaction.
    Downgradable,
    /// So many of so many permits.
    Permits {
        /// How many this one takes.
        take: u8,
        /// How many there are.
        of: u8,
    },
}

/// The kind of an entry, as its key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Letter {
    X,
    R,
    S { take: u8, of: u8 },
}

/// One attempt at a lock.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) session: u8,
    pub(crate) mode: Mode,
    /// Which names, as bits: all in one transaction.
    pub(crate) names: u8,
    /// Takes only a free lock.
    pub(crate) tries: bool,
    /// It is made once that attempt is done, and with its keys.
    pub(crate) reuses: Option<u8>,
    /// To which sessions of its client the entry may be moved, one after the other.
    pub(crate) moves: Vec<u8>,
}

impl Plan {
    /// An attempt at the first name.
    #[must_use]
    pub fn new(session: u8, mode: Mode) -> Self {
        Self {
            session,
            mode,
            names: 1,
            tries: false,
            reuses: None,
            moves: Vec::new(),
        }
    }

    /// A write lock.
    #[must_use]
    pub fn write(session: u8) -> Self {
        Self::new(session, Mode::Write)
    }

    /// A read lock.
    #[must_use]
    pub fn read(session: u8) -> Self {
        Self::new(session, Mode::Read)
    }

    /// Does not wait.
    #[must_use]
    pub fn tries(mut self) -> Self {
        self.tries = true;
        self
    }

    /// With the keys of an earlier attempt of the same session and mode, once that is done.
    #[must_use]
    pub fn reuses(mut self, attempt: u8) -> Self {
        self.reuses = Some(attempt);
        self
    }

    /// These names, as bits.
    #[must_use]
    pub fn names(mut self, names: u8) -> Self {
        self.names = names;
        self
    }

    /// Its TTL may be changed: its entry moves to these sessions.
    #[must_use]
    pub fn moves(mut self, to: &[u8]) -> Self {
        self.moves = to.to_vec();
        self
    }
}

/// How often each thing may still go wrong, or be done by somebody outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// An answer does not come in time: its request is applied later or never, or was applied and
    /// the answer is lost. The request is sent again.
    pub late: u8,
    /// The caller of an acquire goes away.
    pub cancel: u8,
    /// etcd refuses an acquire, or the put of a barrier, for good.
    pub refuse: u8,
    /// A watch breaks.
    pub watch: u8,
    /// etcd does not tell of a deletion.
    pub swallow: u8,
    /// A session's deadline passes; from then on its lease may expire.
    pub past: u8,
    /// A lease is revoked from outside.
    pub revoke: u8,
    /// An entry is deleted from outside.
    pub delete_entry: u8,
    /// A session key is deleted from outside.
    pub delete_session: u8,
    /// A watch is opened at a member that lags by a deletion.
    pub lag: u8,
    /// A watch that nobody needs is closed.
    pub linger: u8,
}

/// A bounded world.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// For the reports.
    pub name: &'static str,
    /// Who tries what.
    pub attempts: Vec<Plan>,
    /// For each session, whose it is. A client has one session per TTL in use.
    pub sessions: Vec<u8>,
    /// How often a Go peer takes and releases the first name, each time with the same key.
    pub go_rounds: u8,
    /// How many of those ahead a read lists.
    pub limit: u8,
    /// What may go wrong.
    pub faults: Faults,
    /// Holders make guarded writes, which may be late.
    pub writes: bool,
    /// Downgradable holders may downgrade.
    pub downgrades: bool,
    /// The session key's watch may tell of a new incarnation.
    pub adopts: bool,
    /// Acquires of one session at different names may go in one transaction.
    pub batches: bool,
    /// An acquire may go with a release of the same client in one transaction.
    pub rides: bool,
    /// The rule that is left out.
    pub mutation: Option<Mutation>,
}

impl Scenario {
    /// With so many waiters' reads listing one entry, and nothing going wrong.
    #[must_use]
    pub fn new(name: &'static str, sessions: &[u8], attempts: &[Plan]) -> Self {
        Self {
            name,
            attempts: attempts.to_vec(),
            sessions: sessions.to_vec(),
            limit: 1,
            ..Self::default()
        }
    }

    /// With these faults.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// With a Go peer.
    #[must_use]
    pub fn go(mut self, rounds: u8) -> Self {
        self.go_rounds = rounds;
        self
    }

    /// With guarded writes.
    #[must_use]
    pub fn writes(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Acquires may go together.
    #[must_use]
    pub fn batches(mut self) -> Self {
        self.batches = true;
        self
    }

    /// An acquire may go with a release.
    #[must_use]
    pub fn rides(mut self) -> Self {
        self.rides = true;
        self
    }

    /// Without the rule that `mutation` leaves out.
    #[must_use]
    pub fn without(mut self, mutation: Mutation) -> Self {
        self.mutation = Some(mutation);
        self
    }

    pub(crate) fn names(&self) -> usize {
        let all = self.attempts.iter().fold(1, |all, plan| all | plan.names);
        8 - usize::try_from(all.leading_zeros()).unwrap_or(0)
    }

    pub(crate) fn clients(&self) -> usize {
        usize::from(self.sessions.iter().copied().max().unwrap_or(0)) + 1
    }
}
