//! The lock protocol as a model of explicit states: every state within bounds is looked at.
//!
//! A test of the code shows what happened; this shows what can happen. It is not made of the
//! library's code but of its rules, in the same words: view, entry,
//! session, incarnation, barrier. Who changes a rule of `coord/src/lock` changes it here first.
//!
//! # What is modelled
//! - **etcd**: revisions; entries with create and mod revision and lease; transactions with their
//!   compares, both branches; leases that end in one revision; watches that tell deletions in order,
//!   from when they were opened, also from a member that lags.
//! - **The network**: each request is applied late, or never, or is applied and its answer lost; it
//!   is sent again, and the copy that nobody waits for may be applied at any later time: acquires,
//!   barriers, deletes, downgrades, moves, guarded writes. Answers are overtaken by events. etcd
//!   refuses for good, and is too full for a barrier.
//! - **Clients**: one or two with one or two sessions each; up to three attempts, also two tasks of
//!   one client at one name; reads, watches shared by those who wait, watches that break, end and
//!   begin, safety reads after a lost event; a caller who goes away while its acquire is under way,
//!   while it waits, or while it is being granted; a deadline that passes, and then, or never, the
//!   lease's end; a holder that is paused and writes later.
//! - **Modes**: exclusive, read, downgradable, permits, try, two names in one transaction.
//! - **Keys that are used again** by a later attempt, as the library does once nothing of the earlier
//!   one can come any more.
//! - **A change of the TTL**: the entry moves to the lease of another session, there and back.
//! - **Others**: a Go peer that uses one key again and again; somebody who revokes a lease, deletes
//!   an entry or a session key.
//! - **The deadline** ([`keep_alive`]): grants sent twice, renewals, an old stream, in discrete time.
//! - **Instance ids** ([`ids`]) and what is stamped with them ([`windows`]): models of their own, each
//!   with its laws and with the rules that can be left out.
//!
//! # What must hold
//! [`properties::Law`] has the list: exclusion, no orphan, progress and seven more. Two words of it:
//!
//! - *Somebody outside* who deletes an entry, or revokes a lease, takes a lock from a holder who
//!   cannot know at once. Exclusion in belief and "a believer's entry exists" are asked of the
//!   others; all other laws, of everybody.
//! - *Progress* is not left to stateright's `eventually`, which is weak where there are cycles. The
//!   steps that happen by themselves ([`action::Action`], the first part) are told from the chances.
//!   In a state where only chances are left, everybody must be done (a law like the others); and
//!   [`check::no_circle`] goes through the whole graph of states and shows that steps by themselves
//!   never lead back to where they came from. So from each state, whatever went wrong before,
//!   everybody gets done if nothing more goes wrong, in whatever order things happen. Requests that
//!   nobody waits for count as chances: it must hold if they are never applied.
//!
//! # Mutations
//! [`mutation::Mutation`] has one for each rule. `tests/mutations.rs` leaves out each and finds a
//! state that breaks the law it is for, in a scenario that breaks none with the rule.
//!
//! # Bounds
//! Revisions are renumbered after each step, so states that differ in numbers only are one. The
//! scenarios of `tests/protocol.rs` have 18 to 600 thousand states each, 3.8 million together, looked
//! at twice (by stateright, and for circles): 40 s of one core. Mutations and deadlines take 4 s.
//! `cargo xtask model` (`COORD_MODEL=large`) lets one more unknown answer, one more broken watch and
//! one more caller go wrong wherever one may: up to 7 million states each, 7 minutes of one core.
//!
//! # What is not covered
//! Batches of releases as such; a change of leader, and what servers do wrong but for a lost event; a
//! restored snapshot; the clock's rate; compaction; elections; the real length of lists (1 to 3 here,
//! 32 there). That the library does what stands here is for its own tests to show.

pub mod action;
mod attempt;
mod belief;
pub mod check;
mod etcd;
mod hub;
pub mod ids;
pub mod keep_alive;
mod moves;
pub mod mutation;
mod network;
pub mod properties;
pub mod protocol;
pub mod scenario;
mod undo;
mod view;
pub mod windows;
pub mod world;
