//! [`Mutation`]: a rule left out. Each must give a counterexample, else the model does not see what
//! the rule is for.

/// The rule that is left out, or what is done instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mutation {
    /// An attempt whose fate is unknown is undone by a plain delete.
    NoBarrier,
    /// All attempts of a session have one key.
    SharedEntryKey,
    /// The watch is believed to reach back to any list, whenever it was opened.
    NoGapRead,
    /// A holder does not look at the clock.
    NoDeadlineCheck,
    /// The barrier rewrites the session key and leaves the entry.
    BarrierKeepsEntry,
    /// The barrier puts the session key without its lease.
    BarrierWithoutLease,
    /// An attempt that is dropped while its acquire is under way is undone by a plain delete.
    ReleaseBeforeKnown,
    /// Every deletion of the own key counts, also one from before the entry was created.
    NoRevisionFilter,
    /// A refused copy settles the attempt, whatever became of earlier copies.
    RefusalSettles,
    /// A refused barrier is replaced by the plain delete.
    NoSpaceSettles,
    /// Writes under the lock are not guarded by the entry.
    UnguardedWrite,
    /// A failed compare of the incarnation teaches nothing.
    IncarnationFromOwnBarrierOnly,
    /// A read that is older than the reopened watch is used.
    StaleRead,
    /// Deletions that overtake a reply are forgotten.
    NoBuffer,
    /// Reads list those behind as well.
    ListsLaterEntries,
    /// A read does not look for the own entry.
    ReadTrustsEmptyList,
    /// The deletions of one revision are judged one by one.
    EventByEvent,
    /// Whoever sees its entry deleted needs no barrier.
    NoBarrierWhenGone,
    /// A try that finds somebody says so before it looks for itself.
    BusyFirst,
    /// A try that found somebody needs no barrier.
    NoBarrierWhenBusy,
    /// Whoever is the first at one of its names is at all of them.
    OneNameIsEnough,
    /// Acquires of one name go in one transaction.
    BatchesOneName,
    /// The safety read compares a count.
    AuditByCount,
    /// A release is confirmed if something was deleted.
    ConfirmByCount,
    /// The acquire of a downgradable entry compares one of its two keys.
    ComparesOneOfTwo,
    /// Keys are used again although a copy of their delete may come late.
    ReusedAfterLateDelete,
    /// Keys are used again although the write entry's delete, of a downgrade, is not answered.
    ReusedBeforeDowngraded,
    /// A reader lists everybody, and is content with a cut list without a writer.
    ReaderListsReaders,
    /// A lease is renewed again after its deadline.
    LeaseResumed,
    /// A holder is not verified when its watch was reopened.
    HolderNotVerified,
    /// A move of the entry compares its create revision.
    MoveComparesCreation,
    /// A move whose compare failed takes any entry of that key for its own.
    MoveTakesAnyEntry,
    /// While a move is under way only the old lease counts.
    MoveCountsOldLease,
    /// While a move is under way only the new lease counts.
    MoveCountsNewLease,
    /// A lost hold is forgotten although its entry was moved.
    MovedIsForgotten,
    /// The barrier's "lease not found" settles the undo of an entry that was moved.
    MovedBarrierSettles,
}
