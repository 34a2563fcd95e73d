//! Who holds locks, and who waits for them: for operators, and for error reports.

use std::collections::BTreeMap;

use super::{
    FencingToken, entry,
    modes::{Kind, Mode, Permits},
};
use crate::{
    client::{CallError, KeyValue, Range, Reason, Span},
    engine::Engine,
    error::{Context, Holder, Result},
    key::Prefix,
};

const OPERATION: &str = "inspect locks";

/// How many keys are read at once.
const PAGE: i64 = 1_000;

/// A lock that somebody holds or waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockStatus {
    /// As [`Coordinator::lock`](crate::Coordinator::lock) takes it.
    pub name: String,
    /// Who holds it, those who came first before the others. Several are readers, or have permits.
    pub holders: Vec<LockEntry>,
    /// Who waits for it, in the order in which they will have it.
    pub waiters: Vec<LockEntry>,
}

/// A holder of a lock, or one who waits for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockEntry {
    /// Host, process, service, since when it is in the queue, and the key there. Of a
    /// [foreign](Self::foreign) one only the key is known.
    pub owner: Holder,
    /// How it holds the lock, or will.
    pub mode: LockMode,
    /// What its [`Held::fencing_token`](crate::Held::fencing_token) says, or will.
    pub fencing_token: FencingToken,
    /// The etcd lease that it lives with (`etcdctl` shows leases in hexadecimal). 0: none; nothing but
    /// an operator's hand will ever remove it.
    pub lease: i64,
    /// Another client's: Go's `concurrency.Mutex`, `etcdctl lock`, or a key put by hand.
    pub foreign: bool,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockMode {
    /// Alone.
    Write,
    /// Beside other readers.
    Read,
    /// With `take` permits of `of`.
    Permits {
        /// How many it has.
        take: u32,
        /// How many there are.
        of: u32,
    },
}

impl LockMode {
    fn of(mode: Mode) -> Self {
        match mode {
            Mode::Write { .. } => Self::Write,
            Mode::Read => Self::Read,
            Mode::Permits(Permits { take, of }) => Self::Permits { take, of },
        }
    }
}

/// The lock `path` and all below it; every one if it is empty.
pub(super) async fn run(engine: &Engine, path: &str) -> Result<Vec<LockStatus>> {
    engine.check_open(OPERATION)?;
    let intervals = engine.layout.lock_queues(OPERATION, path)?;
    // On the heap, as the acquire is.
    let kvs = Box::pin(read(engine, &intervals)).await;
    let kvs = kvs.map_err(|error| error.into_error(Context::new(OPERATION).key(path)))?;
    let mut queues: BTreeMap<String, (Prefix, Vec<KeyValue>)> = BTreeMap::new();
    for kv in kvs {
        // A key that stands in no queue locks nothing.
        if let Some((name, queue)) = engine.layout.lock_of(&kv.key) {
            let queue = queues.entry(name).or_insert_with(|| (queue, Vec::new()));
            queue.1.push(kv);
        }
    }
    let queues = queues.into_iter();
    Ok(queues
        .map(|(name, (queue, kvs))| status(name, &queue, kvs))
        .collect())
}

/// All of it at one revision.
async fn read(
    engine: &Engine,
    intervals: &[(Vec<u8>, Vec<u8>)],
) -> Result<Vec<KeyValue>, CallError> {
    'again: loop {
        let (mut kvs, mut revision) = (Vec::new(), 0);
        for (from, end) in intervals {
            let mut from = from.clone();
            loop {
                let range = Range {
                    limit: PAGE,
                    revision,
                    ..Range::new(Span::Interval(from, end.clone()))
                };
                let page = match engine.read(range).await {
                    // Compacted while it was being read.
                    Err(error) if error.reason == Reason::Compacted => continue 'again,
                    page => page?,
                };
                if revision == 0 {
                    revision = page.header.revision;
                }
                kvs.extend(page.kvs);
                match kvs.last() {
                    Some(last) if page.more => from = [last.key.as_slice(), b"\0"].concat(),
                    _ => break,
                }
            }
        }
        return Ok(kvs);
    }
}

/// `kvs`: the keys of `queue`.
fn status(name: String, queue: &Prefix, mut kvs: Vec<KeyValue>) -> LockStatus {
    // What was put at one revision is one owner's, and the write entry comes last.
    kvs.sort_by(|a, b| (a.create_revision, &a.key).cmp(&(b.create_revision, &b.key)));
    let owners = kvs.chunk_by(|a, b| a.create_revision == b.create_revision);
    let (mut holders, mut waiters) = (Vec::new(), Vec::new());
    let mut ahead: Vec<Kind> = Vec::new();
    for kv in owners.filter_map(<[KeyValue]>::last) {
        let kind = Kind::of(queue, &kv.key);
        let mode = kind.mode();
        let conflicting = ahead.iter().copied();
        let conflicting = conflicting.filter(|ahead| (mode, *ahead) != (Mode::Read, Kind::Read));
        let list = match mode.owns_behind(conflicting) {
            true => &mut holders,
            false => &mut waiters,
        };
        let foreign = !Mode::wrote(queue, &kv.key);
        list.push(LockEntry {
            owner: match foreign {
                true => entry::unnamed(kv),
                false => entry::holder(kv),
            },
            mode: LockMode::of(mode),
            fencing_token: FencingToken::of(kv.create_revision),
            lease: kv.lease,
            foreign,
        });
        ahead.push(kind);
    }
    LockStatus {
        name,
        holders,
        waiters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Layout;

    fn of(entries: &[(&str, i64)]) -> (Vec<i64>, Vec<i64>) {
        let layout = Layout::new("", "config/", "coord/", "coord/");
        let queue = layout.lock_queue("q").expect("a valid name");
        let kvs = entries.iter().map(|(suffix, revision)| KeyValue {
            key: queue.key(suffix).as_bytes().to_vec(),
            create_revision: *revision,
            ..KeyValue::default()
        });
        let status = status("q".into(), &queue, kvs.collect());
        let tokens = |entries: Vec<LockEntry>| {
            let tokens = entries.iter().map(|entry| entry.fencing_token.get());
            tokens.collect()
        };
        (tokens(status.holders), tokens(status.waiters))
    }

    #[test]
    fn holders_are_those_who_own_by_the_rules_of_the_queue() {
        assert_eq!(of(&[("x1.1", 7), ("x1.2", 5)]), (vec![5], vec![7]));
        // Readers hold together; one behind a writer waits, and so does the writer.
        assert_eq!(
            of(&[("r1.1", 5), ("r1.2", 6), ("x1.3", 7), ("r1.4", 8)]),
            (vec![5, 6], vec![7, 8])
        );
        // A downgradable writer is one owner; its reader's entry alone is a reader.
        assert_eq!(
            of(&[("x1.1", 5), ("r1.1", 5), ("r1.2", 6)]),
            (vec![5], vec![6])
        );
        assert_eq!(of(&[("r1.1", 5), ("r1.2", 6)]), (vec![5, 6], vec![]));
        // Permits that fit; another client's key is alone.
        assert_eq!(
            of(&[("s1.1.2of3", 5), ("s1.2.2of3", 6), ("s1.3.1of3", 7)]),
            (vec![5], vec![6, 7])
        );
        assert_eq!(of(&[("694d7c1a", 5), ("r1.1", 6)]), (vec![5], vec![6]));
    }
}
