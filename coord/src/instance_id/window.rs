//! [`Window`]: up to when an id may be stamped on something: taken from etcd piece by piece, so that
//! no two holders of a number ever stamp the same moment, whatever their clocks say.
//!
//! The mark of a number, `hw/<number>`, is a time that no stamp has reached. It has no lease: it
//! outlives its writers.
//!
//! # Rules (found by model checking; each has a test that fails without it)
//! 1. A holder moves the mark up, and stamps only what lies below a mark of its own that etcd has
//!    *confirmed*; the check is on the stamp. So a paused holder has nothing but what was its own.
//! 2. It starts above the mark that it found in the transaction that gave it the slot, or later.
//! 3. The mark is moved in a transaction that compares the slot *and* the revision of the mark that
//!    was seen last: else a late copy of an older move, or a clock that was set back, would lower it.
//! 4. A move that is refused is no loss. While the slot is still this holder's, a mark that is younger
//!    than the slot was put by a copy of its own, and counts as confirmed.
//! 5. A stamp is never of an earlier moment than the one before.
//! 6. The mark is lowered in one place: the transaction that frees the slot, after the last stamp.

use std::{sync::Arc, time::Duration};

use super::{
    claim,
    guard::{self, Slot},
    mint::{LATEST, Mint},
};
use crate::{
    client::{CallError, Compare, CompareOp, KeyValue, Op, OpReply, Range, Span, Txn, TxnReply},
    engine::Engine,
    error::{Error, LostReason},
    key::Key,
};

/// A mark so far ahead of this machine's clock, beyond a window's length, is worth a warning.
const AHEAD_MS: u64 = 10_000;

/// What one holder knows of its id's mark.
#[derive(Debug)]
pub(super) struct Window {
    slot: Slot,
    mark: Key,
    /// The mark's revision when it was seen last; 0: there was none.
    seen: i64,
    mint: Arc<Mint>,
}

/// What became of a move of the mark.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It stands where it was to.
    Yes,
    /// It stood elsewhere; now that is known.
    Elsewhere,
    /// The slot is another's, or nobody's.
    SlotLost,
    /// There is something that cannot be a mark.
    NoMark,
}

impl Window {
    /// `found`: the mark at the time of the claim; `None`: not known.
    pub(super) fn new(slot: Slot, mark: Key, mint: Arc<Mint>, found: Option<&KeyValue>) -> Self {
        let mut window = Self {
            slot,
            mark,
            seen: 0,
            mint,
        };
        // Not known, or no time: then the first move is refused, and tells.
        if let Some(found) = found
            && window.see(found).is_err()
        {
            window.seen = 0;
        }
        window
    }

    /// Where the mark is to stand now.
    fn next(&self) -> Option<u64> {
        let next = self.mint.head().checked_add(self.mint.length)?;
        (next < LATEST).then_some(next)
    }

    /// In how many milliseconds it is to be moved; 0: now.
    fn due(&self) -> u64 {
        let left = self.mint.until().saturating_sub(self.mint.head());
        left.saturating_sub(self.mint.length / 2)
    }

    fn txn(&self, until: u64) -> Txn {
        let mut when = claim::held(&self.slot.key, self.slot.epoch, self.slot.session.lease());
        let mark = Span::key(&self.mark);
        when.push(Compare::mod_revision(
            mark.clone(),
            CompareOp::Equal,
            self.seen,
        ));
        Txn {
            when,
            then: vec![put(&self.mark, until)],
            otherwise: vec![
                Op::Get(Range::new(Span::key(&self.slot.key))),
                Op::Get(Range::new(mark)),
            ],
        }
    }

    fn read(&mut self, until: u64, reply: &TxnReply) -> Moved {
        if reply.succeeded {
            self.seen = reply.header.revision;
            self.mint.open(until);
            return Moved::Yes;
        }
        let [OpReply::Get(slot), OpReply::Get(mark)] = reply.replies.as_slice() else {
            // etcd answers in the request's shape; anything else cannot be believed.
            return Moved::NoMark;
        };
        let lease = self.slot.session.lease();
        if !claim::is_mine(slot.kvs.first(), self.slot.epoch, lease) {
            return Moved::SlotLost;
        }
        let absent = KeyValue::default();
        match self.see(mark.kvs.first().unwrap_or(&absent)) {
            Ok(()) => Moved::Elsewhere,
            Err(fault) => fault,
        }
    }

    /// The mark, seen while the slot was this holder's.
    fn see(&mut self, found: &KeyValue) -> Result<(), Moved> {
        self.seen = found.mod_revision;
        if found.mod_revision == 0 {
            return Ok(());
        }
        let text = std::str::from_utf8(&found.value).ok();
        let value = text.and_then(|text| text.parse().ok());
        let value: u64 = value.filter(|ms| *ms < LATEST).ok_or(Moved::NoMark)?;
        if found.mod_revision > self.slot.epoch {
            // Nobody else moves it while the slot is held.
            self.mint.open(value);
        } else {
            self.mint.raise(value);
        }
        Ok(())
    }

    /// Moves the mark once.
    pub(super) async fn step(&mut self, engine: &Engine) -> Result<Moved, CallError> {
        let Some(until) = self.next() else {
            return Ok(Moved::NoMark);
        };
        let reply = engine.calls.txn(self.txn(until)).await?;
        Ok(self.read(until, &reply))
    }

    /// Whether there is something to stamp.
    pub(super) fn is_open(&self) -> bool {
        self.mint.check().is_ok()
    }

    /// Says so if stamps begin far ahead of this machine's clock: they are unique, but no time.
    pub(super) fn warn_if_ahead(&self, engine: &Engine) {
        let ahead = self.mint.head().saturating_sub(engine.clock.unix_ms());
        if ahead > self.mint.length + AHEAD_MS {
            tracing::warn!(
                target: "coord::instance_id",
                slot = %self.slot.key,
                ahead = %humantime::format_duration(Duration::from_millis(ahead)),
                "a former holder's clock was ahead of this one's: stamps go on after its last one",
            );
        }
    }

    pub(super) fn no_mark(&self) -> Error {
        let fault = format!("`{}` holds no time that stamps could begin at", self.mark);
        Error::invalid("stamp an instance id", fault)
    }
}

/// Moves the mark whenever half of the window is used up, until the slot is lost.
pub(super) async fn keep(engine: Engine, mut window: Window) {
    let mut backoff = guard::backoff();
    loop {
        let due = Duration::from_millis(window.due());
        if !due.is_zero() {
            // A clock that is set, and many stamps at once, make it due earlier.
            let wanted = window.mint.wanted.notified();
            let _ = engine.clock.timeout(due, wanted).await;
            continue;
        }
        match window.step(&engine).await {
            Ok(Moved::Yes) => backoff.reset(),
            Ok(Moved::Elsewhere) => {}
            Ok(Moved::SlotLost) => return window.slot.session.mark_lost(LostReason::Revoked),
            Ok(Moved::NoMark) => {
                tracing::warn!(target: "coord::instance_id", "{}", window.no_mark());
                let pause = Duration::from_millis(window.mint.length / 2);
                engine.clock.sleep(pause).await;
            }
            Err(error) => {
                tracing::debug!(target: "coord::instance_id", mark = %window.mark, %error, "window not extended");
                engine.clock.sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// What frees the slot: puts the mark after the last stamp, so that the next holder need not begin
/// where the window would have ended.
pub(super) fn lower(mark: &Key, after_last: u64) -> Op {
    put(mark, after_last)
}

fn put(mark: &Key, until: u64) -> Op {
    Op::Put {
        key: mark.as_bytes().to_vec(),
        value: until.to_string().into_bytes(),
        // It outlives its writer.
        lease: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::MiniEtcd,
        clock::{Clock, ManualClock},
        instance_id::{
            claim::{Claim, Outcome},
            mint::Refused,
            pool::Pool,
        },
        session::{PastDeadline, Session, SessionSpec},
    };

    const NOW: u64 = 1_800_000_000_000;
    const LENGTH: u64 = 1_000;

    /// One process that holds the only id.
    struct Holder {
        window: Window,
        hand: ManualClock,
        lease: i64,
    }

    fn pool() -> Pool {
        Pool::for_tests("p", 0..=0)
    }

    fn claim(etcd: &mut MiniEtcd, lease: i64) -> (i64, Option<KeyValue>) {
        let (pool, uuid) = (pool(), format!("uuid-{lease}"));
        let claim = Claim::new(&pool, &uuid, lease, Vec::new()).marked(true);
        let reply = etcd.txn(&claim.txn(&pool, &[0])).expect("a live lease");
        match claim.read(&pool, &[0], &reply) {
            Outcome::Mine { epoch, mark, .. } => (epoch, mark),
            other => panic!("{other:?}"),
        }
    }

    /// Its clock says `now`.
    fn holder(lease: i64, now: u64, (epoch, mark): (i64, Option<KeyValue>)) -> Holder {
        let (clock, hand) = Clock::manual();
        hand.set_unix_ms(now);
        let ttl = Duration::from_secs(60);
        let spec = SessionSpec {
            purpose: "instance id",
            ttl,
            hold: Some(ttl),
            renew_interval: None,
            past_deadline: PastDeadline::Verify,
        };
        let sent = clock.now();
        let session = Session::new(&spec, lease, ttl, sent, clock.clone(), Arc::default());
        let slot = Slot {
            key: pool().slot(0),
            epoch,
            session,
        };
        let mint = Arc::new(Mint::new(clock, LENGTH));
        Holder {
            window: Window::new(slot, pool().mark(0), mint, mark.as_ref()),
            hand,
            lease,
        }
    }

    fn claimed(etcd: &mut MiniEtcd, lease: i64, now: u64) -> Holder {
        etcd.grant(lease);
        let found = claim(etcd, lease);
        holder(lease, now, found)
    }

    impl Holder {
        /// What it would send.
        fn request(&self) -> (u64, Txn) {
            let until = self.window.next().expect("no time ends");
            (until, self.window.txn(until))
        }

        fn extend(&mut self, etcd: &mut MiniEtcd) -> Moved {
            let (until, txn) = self.request();
            let reply = etcd.txn(&txn).expect("it cannot fail");
            self.window.read(until, &reply)
        }

        fn next(&self) -> Result<u64, Refused> {
            self.window.mint.next(4).map(|stamp| stamp.ms)
        }

        fn release(&self) -> Txn {
            let slot = &self.window.slot;
            let after_last = self.window.mint.close();
            let lowered = after_last.map(|at| lower(&self.window.mark, at));
            claim::release(&slot.key, slot.epoch, self.lease, lowered)
        }
    }

    fn mark(etcd: &MiniEtcd) -> Option<u64> {
        let kv = etcd.get(pool().mark(0).as_str())?;
        assert_eq!(kv.lease, 0, "a mark outlives its writers");
        Some(
            String::from_utf8(kv.value)
                .expect("digits")
                .parse()
                .expect("a number"),
        )
    }

    #[test]
    fn nothing_is_stamped_before_the_move_is_confirmed() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        let (until, txn) = one.request();
        assert_eq!(one.next(), Err(Refused::Beyond));
        let reply = etcd.txn(&txn).expect("applied");
        assert_eq!(one.next(), Err(Refused::Beyond));
        assert_eq!(one.window.read(until, &reply), Moved::Yes);
        assert_eq!((until, mark(&etcd)), (NOW + LENGTH, Some(NOW + LENGTH)));
        assert_eq!(one.next(), Ok(NOW + 1));
    }

    /// Its clock is a day ahead; the next holder's is right, or a day behind.
    #[test]
    fn the_next_holder_starts_above_the_mark_whatever_its_clock_says() {
        const DAY: u64 = 86_400_000;
        for now in [NOW, NOW - DAY, NOW + 2 * DAY] {
            let mut etcd = MiniEtcd::new();
            let mut one = claimed(&mut etcd, 1, NOW + DAY);
            one.extend(&mut etcd);
            etcd.revoke(1);
            let mut two = claimed(&mut etcd, 2, now);
            assert_eq!(two.extend(&mut etcd), Moved::Yes);
            let first = two.next().expect("open");
            assert_eq!(first, now.max(NOW + DAY + LENGTH + 1), "{now}");
            // The first one goes on below its own mark, for as long as it likes.
            one.hand.set_unix_ms(NOW + DAY + LENGTH - 1);
            assert!(one.next().is_ok_and(|last| last < first));
            one.hand.set_unix_ms(NOW + DAY + LENGTH);
            assert_eq!(one.next(), Err(Refused::Beyond));
        }
    }

    /// The claim's own reply was lost, so nothing is known of the mark.
    #[test]
    fn a_mark_that_is_not_known_is_learned_before_anything_is_stamped() {
        let mut etcd = MiniEtcd::new();
        etcd.put(pool().mark(0).as_str(), &(NOW + 5_000).to_string());
        etcd.grant(1);
        claim(&mut etcd, 1);
        let again = claim(&mut etcd, 1);
        assert_eq!(again.1, None);
        let mut one = holder(1, NOW, again);
        assert_eq!(one.extend(&mut etcd), Moved::Elsewhere);
        assert_eq!(one.next(), Err(Refused::Beyond));
        assert_eq!(mark(&etcd), Some(NOW + 5_000));
        assert_eq!(one.extend(&mut etcd), Moved::Yes);
        assert_eq!(one.next(), Ok(NOW + 5_001));
    }

    /// Given back before it was learned: the mark stays as it is.
    #[test]
    fn a_mark_that_is_not_known_is_not_lowered() {
        let mut etcd = MiniEtcd::new();
        etcd.put(pool().mark(0).as_str(), &(NOW + 5_000).to_string());
        etcd.grant(1);
        claim(&mut etcd, 1);
        let again = claim(&mut etcd, 1);
        let one = holder(1, NOW, again);
        assert!(etcd.txn(&one.release()).expect("applied").succeeded);
        assert_eq!(mark(&etcd), Some(NOW + 5_000));
    }

    #[test]
    fn a_move_whose_answer_was_lost_is_found_again() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        one.extend(&mut etcd);
        one.hand.set_unix_ms(NOW + 600);
        etcd.txn(&one.request().1).expect("applied");
        // Also with the clock set back meanwhile.
        one.hand.set_unix_ms(NOW + 500);
        assert_eq!(one.extend(&mut etcd), Moved::Elsewhere);
        assert_eq!(one.window.mint.until(), NOW + 600 + LENGTH);
        assert_eq!(mark(&etcd), Some(NOW + 600 + LENGTH));
        one.hand.set_unix_ms(NOW + 900);
        assert_eq!(one.extend(&mut etcd), Moved::Yes);
        assert_eq!(mark(&etcd), Some(NOW + 900 + LENGTH));
    }

    /// An old copy passes the comparison of the slot; that of the mark's revision stops it.
    #[test]
    fn a_late_copy_does_not_lower_the_mark() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        let late = one.request().1;
        one.hand.set_unix_ms(NOW + 800);
        one.extend(&mut etcd);
        assert!(!etcd.txn(&late).expect("executed").succeeded);
        assert_eq!(mark(&etcd), Some(NOW + 800 + LENGTH));
    }

    #[test]
    fn nobody_moves_the_mark_of_a_slot_that_is_not_its_own() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        one.extend(&mut etcd);
        let late = one.request().1;
        etcd.delete(pool().slot(0).as_str());
        assert!(!etcd.txn(&late).expect("executed").succeeded);
        let mut two = claimed(&mut etcd, 2, NOW);
        two.extend(&mut etcd);
        let before = mark(&etcd);
        assert!(!etcd.txn(&late).expect("executed").succeeded);
        one.hand.set_unix_ms(NOW + 10 * LENGTH);
        assert_eq!(one.extend(&mut etcd), Moved::SlotLost);
        assert_eq!(mark(&etcd), before);
    }

    /// A refusal that only means that the mark stood elsewhere.
    #[test]
    fn a_refusal_is_no_loss() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        one.extend(&mut etcd);
        etcd.delete(pool().mark(0).as_str());
        assert_eq!(one.extend(&mut etcd), Moved::Elsewhere);
        assert!(one.next().is_ok());
        assert_eq!(one.extend(&mut etcd), Moved::Yes);
    }

    #[test]
    fn giving_back_lowers_the_mark_to_just_after_the_last_stamp() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        one.extend(&mut etcd);
        let last = one.next().expect("open");
        let late = one.request().1;
        let release = one.release();
        // Closed before anything is sent.
        assert_eq!(one.next(), Err(Refused::Closed));
        assert!(etcd.txn(&release).expect("applied").succeeded);
        assert_eq!(mark(&etcd), Some(last + 1));
        assert!(!etcd.txn(&late).expect("executed").succeeded);
        // The next one need not wait for the end of that window.
        let mut two = claimed(&mut etcd, 2, NOW - 50);
        assert_eq!(two.extend(&mut etcd), Moved::Yes);
        assert_eq!(two.next(), Ok(last + 2));
        // A second copy of the release finds another's slot.
        let before = mark(&etcd);
        assert!(!etcd.txn(&release).expect("executed").succeeded);
        assert_eq!(mark(&etcd), before);
    }

    #[test]
    fn what_is_no_time_is_not_believed() {
        for wrong in ["", "soon", "-1", "99999999999999999999", "4398046511103"] {
            let mut etcd = MiniEtcd::new();
            etcd.put(pool().mark(0).as_str(), wrong);
            let mut one = claimed(&mut etcd, 1, NOW);
            assert_eq!(one.extend(&mut etcd), Moved::NoMark, "{wrong}");
            assert_eq!(one.next(), Err(Refused::Beyond));
            assert!(one.window.no_mark().to_string().contains("coord/id/p/hw/0"));
        }
    }

    #[test]
    fn it_is_due_when_half_of_it_is_used_up() {
        let mut etcd = MiniEtcd::new();
        let mut one = claimed(&mut etcd, 1, NOW);
        assert_eq!(one.window.due(), 0);
        one.extend(&mut etcd);
        assert_eq!(one.window.due(), LENGTH / 2);
        one.hand.set_unix_ms(NOW + 400);
        assert_eq!(one.window.due(), LENGTH / 2 - 400);
        one.hand.set_unix_ms(NOW + 500);
        assert_eq!(one.window.due(), 0);
    }
}
