//! The history against a model: every state that a key had is known once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::client::{MiniEtcd, Txn};

const KEY: &str = "/config/app/limit";

fn place() -> Place {
    let layout = Layout::new("", "config/", "coord/", "coord/");
    Place::new(&layout, layout.config_key("test", "app/limit").unwrap())
}

fn read(etcd: &mut MiniEtcd, place: &Place) -> Seen {
    let txn = Txn {
        then: place.reads().to_vec(),
        ..Txn::default()
    };
    Seen::read(place, etcd.txn(&txn).unwrap().replies)
}

/// What a writer sends that has seen `seen`.
fn write(place: &Place, seen: &Seen, value: Option<&str>, id: &str, limit: u32) -> Txn {
    let stamp = Stamp {
        id,
        note: &Note {
            author: Some("alice".into()),
            ..Note::default()
        },
        at_ms: 7,
        limit,
    };
    let change = Change::to(value.map(|value| value.as_bytes().to_vec()));
    let step = Step::new(place, seen, change, &stamp);
    Txn {
        when: step.when,
        then: step.then.into_iter().chain(step.prune).collect(),
        otherwise: place.reads().to_vec(),
    }
}

/// All that is known, oldest first: the version, the value, and whether it was written here.
fn known(etcd: &mut MiniEtcd, place: &Place) -> Vec<(i64, Option<Vec<u8>>, bool)> {
    let seen = read(etcd, place);
    let txn = Txn {
        then: vec![Op::Get(place.reads_past(None, 1_000))],
        ..Txn::default()
    };
    let reply = etcd.txn(&txn).unwrap();
    let [OpReply::Get(past)] = reply.replies.as_slice() else {
        panic!("one read");
    };
    let filed = past.kvs.iter().map(|kv| place.filed(kv).expect("a record"));
    let unfiled = seen.unfiled().into_iter();
    let unfiled = unfiled.map(|(at, record)| (at, Record::read(&record).expect("a record")));
    let mut all: Vec<_> = unfiled
        .chain(filed)
        .map(|(at, record)| (at.revision(), record.what.value(), record.author_known()))
        .collect();
    all.reverse();
    assert!(
        all.is_sorted_by(|a, b| a.0 < b.0),
        "each once, in order: {all:?}"
    );
    all
}

impl Record {
    fn author_known(&self) -> bool {
        self.note.author.is_some()
    }
}

fn set(etcd: &mut MiniEtcd, value: Option<&str>) -> i64 {
    let place = place();
    let seen = read(etcd, &place);
    let reply = etcd.txn(&write(&place, &seen, value, "id", 100)).unwrap();
    assert!(reply.succeeded);
    reply.header.revision
}

#[test]
fn a_value_that_another_client_put_over_ours_costs_neither() {
    let mut etcd = MiniEtcd::new();
    let first = set(&mut etcd, Some("1"));
    etcd.put(KEY, "lost");
    etcd.put(KEY, "2");
    let foreign = etcd.revision();
    let seen = read(&mut etcd, &place());
    assert_eq!(seen.version().revision(), foreign);
    let origin = seen.origin();
    assert_eq!((origin.note.author, origin.created_ms), (None, Some(7)));
    let last = set(&mut etcd, Some("3"));
    let value = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(
        known(&mut etcd, &place()),
        [
            (first, value("1"), true),
            (foreign, value("2"), false),
            (last, value("3"), true)
        ]
    );
}

#[test]
fn a_deletion_is_a_step_and_what_comes_after_it_is_a_new_life() {
    let mut etcd = MiniEtcd::new();
    set(&mut etcd, Some("1"));
    let deleted = set(&mut etcd, None);
    assert!(etcd.get(KEY).is_none());
    let before = etcd.revision();
    let seen = read(&mut etcd, &place());
    assert_eq!((seen.version(), seen.latest()), (Version::ABSENT, deleted));
    etcd.put(KEY, "2");
    assert_eq!(read(&mut etcd, &place()).origin().created_ms, None);
    let last = set(&mut etcd, Some("3"));
    let known = known(&mut etcd, &place());
    let versions: Vec<_> = known.iter().map(|(at, ..)| *at).collect();
    assert_eq!(versions, [2, deleted, before + 1, last]);
    assert_eq!(known[1].1, None);
}

/// Another client deleted what was created here: when the next life began is not known.
#[test]
fn a_creation_is_that_of_the_same_life() {
    let mut etcd = MiniEtcd::new();
    set(&mut etcd, Some("1"));
    etcd.delete(KEY);
    etcd.put(KEY, "2");
    assert_eq!(read(&mut etcd, &place()).origin().created_ms, None);
    set(&mut etcd, Some("3"));
    assert_eq!(read(&mut etcd, &place()).origin().created_ms, None);
    assert_eq!(known(&mut etcd, &place()).len(), 3);
}

#[test]
fn deleting_what_is_not_there_writes_nothing() {
    let mut etcd = MiniEtcd::new();
    let before = etcd.revision();
    set(&mut etcd, None);
    assert_eq!(etcd.revision(), before);
}

#[test]
fn the_oldest_steps_go_and_a_lowered_limit_is_reached() {
    let mut etcd = MiniEtcd::new();
    let place = place();
    for limit in [vec![20; 30], vec![3; 5], vec![1; 2]].concat() {
        let seen = read(&mut etcd, &place);
        let txn = write(&place, &seen, Some("x"), "id", limit);
        assert!(etcd.txn(&txn).unwrap().succeeded);
    }
    let last = etcd.revision();
    let known = known(&mut etcd, &place);
    let versions: Vec<_> = known.iter().map(|(at, ..)| *at).collect();
    assert_eq!(versions, [last - 1, last]);
    // With a limit of one, and two steps to file: the newer one stays.
    etcd.put(KEY, "foreign");
    let seen = read(&mut etcd, &place);
    let txn = write(&place, &seen, Some("y"), "id", 1);
    assert!(etcd.txn(&txn).unwrap().succeeded);
    let versions = self::known(&mut etcd, &place);
    assert_eq!(versions[0].1.as_deref(), Some(&b"foreign"[..]));
    assert_eq!(versions.len(), 2);
}

/// A record of a newer version is kept as it stands.
#[test]
fn what_a_newer_version_has_written_is_filed_whole() {
    let mut etcd = MiniEtcd::new();
    let place = place();
    let newer = r#"{"v":2,"id":"a","value":"1","at_ms":1,"approved_by":"bob"}"#;
    etcd.put(place.head.as_str(), newer);
    let revision = etcd.revision();
    etcd.put(KEY, "2");
    set(&mut etcd, Some("3"));
    let filed = etcd.get(place.past.revision(revision).as_str());
    assert_eq!(filed.expect("filed").value, newer.as_bytes());
    // What is no record at all is written over.
    etcd.put(place.head.as_str(), "?");
    set(&mut etcd, Some("4"));
    assert_eq!(
        known(&mut etcd, &place).last().unwrap().1.as_deref(),
        Some(&b"4"[..])
    );
}

/// What may happen to the key.
#[derive(Clone, Debug)]
enum Act {
    /// A writer reads; it has not written yet.
    Read(usize),
    /// It writes what it wants, by what it has read, or a copy of that arrives (again).
    Write(usize, bool),
    /// Another client.
    Put,
    Delete,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let writer = 0..3usize;
    let act = prop_oneof![
        3 => writer.clone().prop_map(Act::Read),
        4 => (writer, prop::bool::weighted(0.8)).prop_map(|(w, set)| Act::Write(w, set)),
        1 => Just(Act::Put),
        1 => Just(Act::Delete),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    /// Three writers, whose transactions arrive late, twice or never, and another client: each
    /// state that was written here, and each that a write here has replaced, is known once, under its
    /// own version; a copy that comes again changes nothing; and a writer knows its own write again.
    #[test]
    fn no_step_is_lost_and_none_is_there_twice(acts in acts(), limit in 1..5u32) {
        let mut etcd = MiniEtcd::new();
        let place = place();
        // By version: what it was, and whether we wrote it.
        let mut states: BTreeMap<i64, (Option<Vec<u8>>, bool)> = BTreeMap::new();
        let mut sent: [Option<(Txn, String, Option<i64>)>; 3] = [None, None, None];
        let mut seen: [Option<Seen>; 3] = [None, None, None];
        let mut last_foreign = None;
        for (turn, act) in acts.into_iter().enumerate() {
            match act {
                Act::Read(writer) => {
                    seen[writer] = Some(read(&mut etcd, &place));
                    sent[writer] = None;
                }
                Act::Write(writer, set) => {
                    let Some(saw) = &seen[writer] else { continue };
                    let value = set.then(|| format!("value {turn}"));
                    let (txn, id, done) = sent[writer].get_or_insert_with(|| {
                        let id = format!("{turn}");
                        (write(&place, saw, value.as_deref(), &id, limit), id, None)
                    });
                    let before = (etcd.revision(), read(&mut etcd, &place));
                    let reply = etcd.txn(txn).unwrap();
                    let wrote = etcd.revision() != before.0;
                    // Applied once at most.
                    prop_assert!(!wrote || (reply.succeeded && done.is_none()));
                    if wrote {
                        *done = Some(etcd.revision());
                        if let Some(value) = &before.1.value {
                            // What it replaced, whoever wrote that.
                            let ours = before.1.newest().is_some_and(|(at, _)| at == before.1.version());
                            states.insert(value.mod_revision, (Some(value.value.clone()), ours));
                        }
                        let now = etcd.get(KEY).map(|kv| kv.value.clone());
                        states.insert(etcd.revision(), (now, true));
                        last_foreign = None;
                    }
                    if !wrote && !reply.succeeded {
                        // Its writer asks what became of it.
                        let now = read(&mut etcd, &place);
                        let reads = Txn { then: vec![Op::Get(place.reads_since(saw.latest()))], ..Txn::default() };
                        let reply = etcd.txn(&reads).unwrap();
                        let [OpReply::Get(past)] = reply.replies.as_slice() else { panic!("one read") };
                        let fate = place.fate(id, saw, &now, &past.kvs);
                        let pruned = states.range(saw.latest() + 1..).count() > limit as usize;
                        let right = match done {
                            Some(at) => Fate::Done((*at).into()),
                            None => Fate::NotDone,
                        };
                        prop_assert!(fate == right || (fate == Fate::Unknown && pruned), "{fate:?} for {right:?}");
                    }
                }
                Act::Put => {
                    etcd.put(KEY, &format!("foreign {turn}"));
                    last_foreign = Some(etcd.revision());
                }
                Act::Delete => {
                    etcd.delete(KEY);
                    last_foreign = None;
                }
            }
            let mut expected: Vec<_> = states.iter().map(|(at, (value, ours))| (*at, value.clone(), *ours)).collect();
            // The current value is a step, whoever put it.
            if let Some(at) = last_foreign {
                let value = etcd.get(KEY).map(|kv| kv.value.clone());
                expected.push((at, value, false));
            }
            let known = known(&mut etcd, &place);
            // Beside what is filed there are the head's step and perhaps another client's.
            let filed = expected.len().min(known.len());
            prop_assert_eq!(&known[..], &expected[expected.len() - filed..]);
            let unfiled = read(&mut etcd, &place).unfiled().len();
            prop_assert_eq!(known.len(), expected.len().min(unfiled + limit as usize));
        }
    }
}
