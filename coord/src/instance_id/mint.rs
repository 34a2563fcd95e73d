//! [`Mint`]: stamps that are unique for one id: who may use them, up to when, is said from outside.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::clock::Clock;

/// The bits of a stamp's sequence. The others are its millisecond, up to the year 2109.
pub(super) const SEQUENCE_BITS: u32 = 22;
const SEQUENCES: u64 = (1 << SEQUENCE_BITS) - 1;

/// No stamp reaches this millisecond.
pub(super) const LATEST: u64 = (1 << (64 - SEQUENCE_BITS)) - 1;

/// Nothing is stamped any more. No stamp has this value: its millisecond would be [`LATEST`].
const CLOSED: u64 = u64::MAX;

/// A point in time that belongs to nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp {
    /// Since the Unix epoch.
    pub(super) ms: u64,
    pub(super) sequence: u32,
}

/// Why there is no stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The window has ended, or has not begun.
    Beyond,
    /// For good.
    Closed,
}

/// Stamps in ascending order, all below `until`.
///
/// The check is on the stamp itself, not on the time: whoever was paused between the two still gives
/// out nothing but what is its own.
#[derive(Debug)]
pub(super) struct Mint {
    clock: Clock,
    /// The last stamp, in one word; 0: none yet.
    last: AtomicU64,
    /// Moves up only, once confirmed by etcd.
    until: AtomicU64,
    /// How long a window is, in milliseconds: in its second half the next is wanted.
    pub(super) length: u64,
    /// Wakes who extends the window.
    pub(super) wanted: Notify,
    /// Wakes who waits for a stamp: there are more, or there will be none.
    pub(super) moved: Notify,
}

impl Mint {
    /// Without a window yet.
    pub(super) fn new(clock: Clock, length: u64) -> Self {
        Self {
            clock,
            last: AtomicU64::new(0),
            until: AtomicU64::new(0),
            length,
            wanted: Notify::new(),
            moved: Notify::new(),
        }
    }

    /// With a window that never ends: for a double.
    #[cfg(feature = "embedded")]
    pub(super) fn endless(clock: Clock) -> Self {
        let mint = Self::new(clock, 0);
        mint.until.store(LATEST, Ordering::Release);
        mint
    }

    /// The next stamp, of at most `sequences` of the same millisecond: one means that it has the
    /// millisecond for itself. It is of now, unless the clock stands before the last one, or that many
    /// were made: then it is the next after that.
    ///
    /// Never waits; costs a clock read and a compare-and-swap.
    pub(super) fn next(&self, sequences: u32) -> Result<Stamp, Refused> {
        let now = self.clock.unix_ms();
        let mut last = self.last.load(Ordering::Acquire);
        loop {
            if last == CLOSED {
                return Err(Refused::Closed);
            }
            let before = unpack(last);
            let next = if now > before.ms {
                Stamp {
                    ms: now,
                    sequence: 0,
                }
            } else if before.sequence + 1 < sequences {
                Stamp {
                    ms: before.ms,
                    sequence: before.sequence + 1,
                }
            } else {
                Stamp {
                    ms: before.ms + 1,
                    sequence: 0,
                }
            };
            // An old value is a smaller one. And whoever closes changes `last`.
            let until = self.until.load(Ordering::Acquire);
            if next.ms >= until {
                self.wanted.notify_one();
                return Err(Refused::Beyond);
            }
            let used = match sequences {
                1 => whole(next.ms),
                _ => pack(next),
            };
            match (self.last).compare_exchange_weak(last, used, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    // At most once a millisecond.
                    if next.ms > before.ms && next.ms + self.length / 2 >= until {
                        self.wanted.notify_one();
                    }
                    return Ok(next);
                }
                Err(newer) => last = newer,
            }
        }
    }

    /// Whether there would be a stamp now.
    pub(super) fn check(&self) -> Result<(), Refused> {
        match self.last.load(Ordering::Acquire) {
            CLOSED => Err(Refused::Closed),
            last if self.clock.unix_ms().max(unpack(last).ms + 1) < self.until() => Ok(()),
            _ => Err(Refused::Beyond),
        }
    }

    /// No stamp is of this millisecond or an earlier one.
    pub(super) fn raise(&self, ms: u64) {
        // `CLOSED` is larger than any.
        self.last.fetch_max(whole(ms), Ordering::AcqRel);
    }

    /// etcd has confirmed that the stamps below `until` are this one's.
    pub(super) fn open(&self, until: u64) {
        if self.last.load(Ordering::Acquire) == 0 {
            self.raise(self.clock.unix_ms());
        }
        self.until.fetch_max(until, Ordering::AcqRel);
        self.moved.notify_waiters();
    }

    /// Ends it for good, and says what no stamp reached; `None`: there was none, nor was it ever
    /// [open](Self::open).
    pub(super) fn close(&self) -> Option<u64> {
        let last = self.last.swap(CLOSED, Ordering::AcqRel);
        self.moved.notify_waiters();
        (last != 0 && last != CLOSED).then(|| unpack(last).ms + 1)
    }

    pub(super) fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// The millisecond of the next stamp, about.
    pub(super) fn head(&self) -> u64 {
        let last = self.last.load(Ordering::Acquire);
        unpack(last).ms.max(self.clock.unix_ms())
    }
}

fn pack(stamp: Stamp) -> u64 {
    stamp.ms << SEQUENCE_BITS | u64::from(stamp.sequence)
}

/// After it comes nothing of the same millisecond.
fn whole(ms: u64) -> u64 {
    ms << SEQUENCE_BITS | SEQUENCES
}

fn unpack(word: u64) -> Stamp {
    Stamp {
        ms: word >> SEQUENCE_BITS,
        // It has 22 bits.
        sequence: u32::try_from(word & SEQUENCES).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        thread,
    };

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn stamp(ms: u64, sequence: u32) -> Result<Stamp, Refused> {
        Ok(Stamp { ms, sequence })
    }

    fn mint(length: u64) -> (Mint, crate::clock::ManualClock) {
        let (clock, hand) = Clock::manual();
        hand.set_unix_ms(NOW);
        (Mint::new(clock, length), hand)
    }

    #[test]
    fn nothing_is_stamped_before_a_window_is_confirmed_nor_after_its_end() {
        let (mint, hand) = mint(10);
        assert_eq!(mint.next(1), Err(Refused::Beyond));
        mint.open(NOW + 3);
        assert_eq!(mint.next(1), stamp(NOW + 1, 0));
        assert_eq!(mint.next(1), stamp(NOW + 2, 0));
        assert_eq!(mint.next(1), Err(Refused::Beyond));
        assert_eq!(mint.check(), Err(Refused::Beyond));
        mint.open(NOW + 5);
        assert_eq!(mint.check(), Ok(()));
        // A pause of any length, between any two steps: the stamp is compared, not the time.
        hand.set_unix_ms(NOW + 5);
        assert_eq!(mint.next(1), Err(Refused::Beyond));
        // What was confirmed once stays.
        mint.open(NOW + 4);
        assert_eq!(mint.until(), NOW + 5);
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_no_stamp() {
        let (mint, hand) = mint(10);
        mint.open(NOW + 100);
        hand.set_unix_ms(NOW + 50);
        assert_eq!(mint.next(4), stamp(NOW + 50, 0));
        hand.set_unix_ms(NOW - 1_000_000);
        assert_eq!(mint.next(4), stamp(NOW + 50, 1));
        assert_eq!(mint.next(1), stamp(NOW + 51, 0));
    }

    #[test]
    fn a_full_millisecond_goes_on_in_the_next() {
        let (mint, _hand) = mint(10);
        mint.open(NOW + 100);
        let stamps: Vec<_> = (0..5).map(|_| mint.next(2).expect("open")).collect();
        let want = [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0)];
        let want = want.map(|(ms, sequence)| Stamp {
            ms: NOW + ms,
            sequence,
        });
        assert_eq!(stamps, want);
        // A whole millisecond: none of it was used, and none of it is.
        assert_eq!(mint.next(1), stamp(NOW + 4, 0));
        assert_eq!(mint.next(1 << SEQUENCE_BITS), stamp(NOW + 5, 0));
    }

    #[test]
    fn it_starts_above_what_others_may_have_stamped() {
        let (mint, _hand) = mint(10);
        mint.raise(NOW + 70);
        mint.open(NOW + 100);
        assert_eq!(mint.next(1), stamp(NOW + 71, 0));
        assert_eq!(mint.close(), Some(NOW + 72));
    }

    #[test]
    fn what_is_closed_stays_closed_and_says_what_no_stamp_reached() {
        let (mint, hand) = mint(10);
        mint.open(NOW + 100);
        mint.next(4).expect("open");
        assert_eq!(mint.close(), Some(NOW + 2));
        mint.open(NOW + 1_000);
        mint.raise(NOW + 50);
        hand.set_unix_ms(NOW + 60);
        assert_eq!(mint.next(4), Err(Refused::Closed));
        assert_eq!(mint.check(), Err(Refused::Closed));
        assert_eq!(mint.close(), None);
        // Never open: what the mark is, is not known.
        assert_eq!(self::mint(10).0.close(), None);
    }

    #[test]
    fn more_is_wanted_in_the_second_half() {
        let (mint, hand) = mint(10);
        mint.open(NOW + 10);
        let wanted = || futures_util::FutureExt::now_or_never(mint.wanted.notified()).is_some();
        mint.next(4).expect("open");
        assert!(!wanted());
        hand.set_unix_ms(NOW + 5);
        mint.next(4).expect("open");
        assert!(wanted());
        mint.next(4).expect("open");
        assert!(!wanted());
    }

    /// Many threads, and one that closes in between: no stamp twice, and none at or above what the
    /// closing said.
    #[test]
    fn stamps_are_unique_among_threads_and_stay_below_the_close() {
        for round in 0..5 {
            let (mint, _hand) = mint(10);
            mint.open(NOW + 1_000_000);
            let (stamps, after_last) = thread::scope(|scope| {
                let makers: Vec<_> = [1, 4, 64, 4_096]
                    .into_iter()
                    .map(|sequences| {
                        let mint = &mint;
                        scope.spawn(move || {
                            let mut made = Vec::new();
                            while let Ok(stamp) = mint.next(sequences) {
                                made.push((stamp, sequences == 1));
                            }
                            made
                        })
                    })
                    .collect();
                while mint.head() < NOW + 200 + round {
                    thread::yield_now();
                }
                let after_last = mint.close().expect("it was open");
                let stamps = makers
                    .into_iter()
                    .map(|maker| maker.join().expect("no panic"));
                (stamps.flatten().collect::<Vec<_>>(), after_last)
            });
            let all: BTreeSet<_> = stamps.iter().map(|(stamp, _)| *stamp).collect();
            assert_eq!(all.len(), stamps.len());
            assert!(all.last().is_some_and(|last| last.ms < after_last));
            let mut of_ms = BTreeMap::new();
            all.iter()
                .for_each(|stamp| *of_ms.entry(stamp.ms).or_insert(0) += 1);
            let mut alone = stamps.iter().filter(|(_, whole)| *whole);
            assert!(alone.all(|(stamp, _)| of_ms[&stamp.ms] == 1));
        }
    }
}
