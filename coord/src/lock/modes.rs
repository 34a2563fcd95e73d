//! [`Mode`]: how a lock is held, whom an entry waits for, and how its key says so.
//!
//! One queue has entries of all modes, in one order: that of their creation. An entry owns once none
//! of those ahead of it conflicts with it, whether these own themselves or still wait. So nobody
//! starves: whoever comes later never overtakes a conflicting one.
//!
//! | entry | its key begins with | conflicts with those ahead that are |
//! |---|---|---|
//! | write | `x` | anything |
//! | read | `r` | anything but read |
//! | permits | `s` | anything but permits; and permits, when together they take more than there are |
//! | another client's | a hex digit | anything |
//!
//! The three letters sort behind the hex digits that the keys of Go's clients begin with, so each
//! mode is one range of keys. A permits entry ends in `.<take>of<permits>`.
//!
//! A downgradable write puts a read entry beside its own, in the same transaction and so at the same
//! revision. To downgrade is to delete the write entry: the readers behind come in, a writer behind
//! goes on waiting. A read entry that was put later would stand behind that writer.

use std::fmt;

use crate::{
    client::Span,
    key::{Key, Prefix},
};

const WRITE: char = 'x';
const READ: char = 'r';
const PERMITS: char = 's';

/// Some of a semaphore's permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permits {
    pub(super) take: u32,
    pub(super) of: u32,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Write { downgradable: bool },
    Read,
    Permits(Permits),
}

/// What stands ahead of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A write, another client's, or what cannot be read.
    Exclusive,
    Read,
    Permits(Permits),
}

impl Mode {
    pub(super) const WRITE: Self = Self::Write {
        downgradable: false,
    };

    /// Whether who holds a lock like this may do what `inner` asks for.
    pub(super) fn covers(self, inner: Self) -> bool {
        match (self, inner) {
            // Not one that would be downgraded under those who hold it outside.
            (Self::Write { .. }, inner) => matches!(inner, Self::WRITE | Self::Read),
            (Self::Read, inner) => inner == Self::Read,
            (Self::Permits(outer), Self::Permits(inner)) => {
                outer.of == inner.of && inner.take <= outer.take
            }
            (Self::Permits(_), _) => false,
        }
    }

    /// As spans call it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Read => "read",
            Self::Permits(_) => "permits",
        }
    }

    /// The letter that its entries begin with.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Write { .. } => WRITE,
            Self::Read => READ,
            Self::Permits(_) => PERMITS,
        }
    }

    /// The keys that one attempt puts into `queue`. The first one is the entry: whether that is there
    /// decides. While a copy of the attempt's put or delete may come late, no other attempt of the
    /// lease has its `nonce`.
    pub(super) fn entries(self, queue: &Prefix, lease: i64, nonce: u64) -> Vec<Key> {
        let key = |letter: char| queue.key(&format!("{letter}{lease:016x}.{nonce:x}"));
        match self {
            Self::Write {
                downgradable: false,
            }
            | Self::Read => vec![key(self.letter())],
            Self::Write { downgradable: true } => vec![key(WRITE), key(READ)],
            Self::Permits(Permits { take, of }) => {
                let key = format!("{PERMITS}{lease:016x}.{nonce:x}.{take}of{of}");
                vec![queue.key(&key)]
            }
        }
    }

    /// Where those stand that it may conflict with.
    pub(super) fn conflicting(self, queue: &Prefix) -> Vec<Span> {
        match self {
            Self::Write { .. } | Self::Permits(_) => vec![Span::prefix(queue)],
            // Two ranges, so that a cut list is not cut to readers.
            Self::Read => {
                let readers = queue.key(&READ.to_string());
                // The letter behind.
                let others = queue.key(&PERMITS.to_string());
                vec![
                    Span::Interval(queue.as_bytes().to_vec(), readers.as_bytes().to_vec()),
                    Span::Interval(others.as_bytes().to_vec(), queue.end()),
                ]
            }
        }
    }

    /// How many entries ahead can be there while it owns.
    pub(super) fn room(self) -> u32 {
        match self {
            Self::Write { .. } | Self::Read => 0,
            // Each of them takes one at least.
            Self::Permits(Permits { take, of }) => of.saturating_sub(take),
        }
    }

    /// Whether it owns with these ahead, all of them from where it may [conflict](Self::conflicting).
    pub(super) fn owns_behind(self, mut ahead: impl Iterator<Item = Kind>) -> bool {
        let mut room = self.room();
        ahead.all(|kind| match (self, kind) {
            (Self::Permits(_), Kind::Permits(Permits { take, .. })) if take <= room => {
                room -= take;
                true
            }
            _ => false,
        })
    }

    /// Whether the entry `key` of `queue` is one of ours: Go's begin with a hex digit.
    pub(super) fn wrote(queue: &Prefix, key: &[u8]) -> bool {
        let letter = queue.strip(key).and_then(<[u8]>::first);
        letter.is_some_and(|letter| [WRITE, READ, PERMITS].contains(&char::from(*letter)))
    }

    /// Whether the two are of semaphores that cannot be one.
    pub(super) fn contradicts(self, ahead: Kind) -> bool {
        match (self, ahead) {
            (Self::Permits(own), Kind::Permits(other)) => own.of != other.of,
            _ => false,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { .. } => f.write_str("write"),
            Self::Read => f.write_str("read"),
            Self::Permits(Permits { take, of }) => write!(f, "{take} of {of} permits"),
        }
    }
}

impl Kind {
    /// What the entry `key` of `queue` stands for.
    pub(super) fn of(queue: &Prefix, key: &[u8]) -> Self {
        let suffix = queue.strip(key).unwrap_or_default();
        match suffix.first().copied().map(char::from) {
            // By the letter alone, as ranges tell them apart.
            Some(READ) => Self::Read,
            Some(PERMITS) => Permits::parse(suffix).map_or(Self::Exclusive, Self::Permits),
            _ => Self::Exclusive,
        }
    }

    /// How an entry of this kind is held.
    pub(super) fn mode(self) -> Mode {
        match self {
            Self::Exclusive => Mode::WRITE,
            Self::Read => Mode::Read,
            Self::Permits(permits) => Mode::Permits(permits),
        }
    }
}

impl Permits {
    /// From the end of an entry's key: `….<take>of<permits>`.
    fn parse(suffix: &[u8]) -> Option<Self> {
        let (_, permits) = std::str::from_utf8(suffix).ok()?.rsplit_once('.')?;
        let (take, of) = permits.split_once("of")?;
        let permits = Self {
            take: take.parse().ok()?,
            of: of.parse().ok()?,
        };
        (1..=permits.of).contains(&permits.take).then_some(permits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    fn queue() -> Prefix {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        layout.lock_queue("q").expect("a valid name")
    }

    fn permits(take: u32, of: u32) -> Permits {
        Permits { take, of }
    }

    const MODES: [Mode; 4] = [
        Mode::WRITE,
        Mode::Write { downgradable: true },
        Mode::Read,
        Mode::Permits(Permits { take: 2, of: 5 }),
    ];

    #[test]
    fn entries_say_their_mode() {
        let queue = queue();
        let kinds = |mode: Mode| -> Vec<Kind> {
            let keys = mode.entries(&queue, 0xbeef, 7);
            keys.iter()
                .map(|key| Kind::of(&queue, key.as_bytes()))
                .collect()
        };
        assert_eq!(kinds(Mode::WRITE), [Kind::Exclusive]);
        assert_eq!(kinds(MODES[1]), [Kind::Exclusive, Kind::Read]);
        assert_eq!(kinds(Mode::Read), [Kind::Read]);
        assert_eq!(kinds(MODES[3]), [Kind::Permits(permits(2, 5))]);
        let key = &MODES[3].entries(&queue, 0xbeef, 16)[0];
        assert_eq!(key.as_str(), "coord/lock/q!/s000000000000beef.10.2of5");
    }

    #[test]
    fn what_cannot_be_read_is_exclusive() {
        let queue = queue();
        for odd in [
            "694d7c1a2b3c4d5e",
            "",
            "s",
            "s1.2",
            "s1.2.of",
            "s1.2.0of4",
            "s1.2.5of4",
            "s1.2.1of4294967296",
            "s1.2.-1of4",
            "S1.2.1of4",
            "x1.2.1of4",
        ] {
            let key = queue.key(odd);
            assert_eq!(Kind::of(&queue, key.as_bytes()), Kind::Exclusive, "{odd:?}");
        }
        let no_text = [queue.as_bytes(), b"s\xff.1of4"].concat();
        assert_eq!(Kind::of(&queue, &no_text), Kind::Exclusive);
    }

    fn within(span: &Span, key: &[u8]) -> bool {
        match span {
            Span::Key(own) => own == key,
            Span::Interval(from, to) => from.as_slice() <= key && key < to.as_slice(),
        }
    }

    /// A reader looks at everything but readers, whatever the key is.
    #[test]
    fn the_ranges_of_a_reader_are_all_but_readers() {
        let queue = queue();
        for suffix in [
            "694d7c1a2b3c4d5e",
            "x0.1",
            "r0.1",
            "s0.1.1of2",
            "",
            "q",
            "rr",
            "\u{7f}",
        ] {
            let key = queue.key(suffix);
            let reader = Kind::of(&queue, key.as_bytes()) == Kind::Read;
            for mode in MODES {
                let spans = mode.conflicting(&queue);
                let seen = spans.iter().filter(|s| within(s, key.as_bytes())).count();
                let expected = usize::from(mode != Mode::Read || !reader);
                assert_eq!(seen, expected, "{mode:?} {suffix:?}");
            }
        }
    }

    #[test]
    fn permits_own_while_they_fit_and_nothing_else_is_ahead() {
        let owns = |take, ahead: &[Kind]| {
            Mode::Permits(permits(take, 4)).owns_behind(ahead.iter().copied())
        };
        let taken = |take| Kind::Permits(permits(take, 4));
        assert!(owns(4, &[]));
        assert!(owns(1, &[taken(1), taken(2)]));
        assert!(!owns(2, &[taken(1), taken(2)]));
        assert!(!owns(1, &[taken(4)]));
        assert!(!owns(1, &[taken(u32::MAX), taken(u32::MAX)]));
        assert!(!owns(1, &[Kind::Exclusive]));
        assert!(!owns(1, &[Kind::Read]));
        for mode in [Mode::WRITE, Mode::Read] {
            assert!(mode.owns_behind(std::iter::empty()));
            assert!(!mode.owns_behind([taken(1)].into_iter()));
        }
    }
}
