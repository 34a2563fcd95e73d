//! [`Chain`]: which transaction brings an instance's two records where they should be, and what its
//! reply means. Data only: no clock, no connection.
//!
//! An instance has a life-cycle record and, exactly while it is routable, a routable one. The
//! life-cycle record is the chain: every change is one transaction (a link) that compares its
//! `mod_revision` with the one that the link before wrote.
//!
//! # Rules (found by model checking; each has a test that fails without it)
//! 1. One link is under way at a time. A late copy of an older link compares an older revision, so
//!    it changes nothing.
//! 2. A link whose answer is unknown counts as neither done nor undone. It is settled by the commit
//!    of itself or of a later link, also if the wish has meanwhile gone back to what was last
//!    confirmed.
//! 3. A refused link is told what is there. The own link number: an earlier copy was committed.
//!    Another: the content of the routable record is unknown, so the newest is written. Nothing: the
//!    chain begins anew.
//! 4. The first link never publishes, and deletes whatever routable record there is.
//! 5. Leaving is two links: a drain mark, then the deletion. Whoever sees a deletion without the
//!    mark knows that the instance crashed. A mark is never written over.
//! 6. What a watch of the two keys shows must agree with what was last committed, both ways: a
//!    record that is not there, one that is, one of another revision. A renewed lease proves nothing
//!    about the records.

use crate::{
    client::{Compare, CompareOp, KeyValue, Op, OpReply, Range, Span, Txn, TxnReply},
    key::Key,
    registry::record::{Record, Status, seq_of},
};

/// Where the instance should be. It moves forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// Known to operators, not routable.
    Starting,
    Published,
    /// Not routable any more, still there.
    Withdrawn,
    Gone,
}

/// What the two records are after a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Starting,
    Published,
    /// Still routable for readers who do not know the mark.
    Marked,
    Withdrawn,
    Gone,
}

/// One transaction of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    seq: u64,
    lease: i64,
    /// The life-cycle record's `mod_revision` that it stands on; 0: there is none.
    on: i64,
    content: Content,
}

/// The chain of one registration.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    life_cycle: Key,
    routable: Key,
    record: Record,
    lease: i64,
    /// Of the last link that was made.
    seq: u64,
    /// The life-cycle record's `mod_revision` as far as known; 0: there is none.
    at: i64,
    /// What is there, as long as nothing casts doubt on it.
    known: Option<Content>,
    /// A link without an answer, and the wish that it was made for.
    unsettled: Option<(Target, Link)>,
}

/// A record as someone has read it: `None`, it was not there.
pub(super) type Seen<'a> = Option<&'a KeyValue>;

impl Chain {
    pub(super) fn new(life_cycle: Key, routable: Key, record: Record) -> Self {
        Self {
            life_cycle,
            routable,
            record,
            lease: 0,
            seq: 0,
            at: 0,
            known: None,
            unsettled: None,
        }
    }

    pub(super) fn life_cycle(&self) -> &Key {
        &self.life_cycle
    }

    pub(super) fn routable(&self) -> &Key {
        &self.routable
    }

    pub(super) fn known(&self) -> Option<Content> {
        self.known
    }

    /// A new lease: nothing is known any more. A life-cycle record that an old lease left moves over
    /// with the next link.
    pub(super) fn adopt(&mut self, lease: i64) {
        self.lease = lease;
        self.known = None;
        self.unsettled = None;
    }

    /// The link to send, if the records are not known to be where `target` wants them.
    pub(super) fn next(&mut self, target: Target) -> Option<Link> {
        if let Some((wish, link)) = &self.unsettled
            && *wish == target
        {
            return Some(link.clone());
        }
        let content = self.wanted(target)?;
        self.seq += 1;
        let link = Link {
            seq: self.seq,
            lease: self.lease,
            on: self.at,
            content,
        };
        self.unsettled = Some((target, link.clone()));
        Some(link)
    }

    fn wanted(&self, target: Target) -> Option<Content> {
        use Content::{Gone, Marked, Published, Starting, Withdrawn};
        match (target, self.known) {
            (Target::Starting, Some(Starting))
            | (Target::Published, Some(Published))
            | (Target::Withdrawn, Some(Withdrawn))
            | (_, Some(Gone)) => None,
            (Target::Starting, _) => Some(Starting),
            (Target::Published, _) if self.at == 0 => Some(Starting),
            (Target::Published, _) => Some(Published),
            // What is not known may be routable: the mark comes first.
            (_, None | Some(Published)) if self.at != 0 => Some(Marked),
            (Target::Withdrawn, _) => Some(Withdrawn),
            (Target::Gone, _) => Some(Gone),
        }
    }

    pub(super) fn txn(&self, link: &Link) -> Txn {
        let life_cycle = Span::key(&self.life_cycle);
        let put = |key: &Key, value| Op::Put {
            key: key.as_bytes().to_vec(),
            value,
            lease: link.lease,
        };
        let delete = |key: &Key| Op::Delete {
            span: Span::key(key),
            prev: false,
        };
        let alive = |status| put(&self.life_cycle, self.record.encode(status, Some(link.seq)));
        let shown = |status| put(&self.routable, self.record.encode(status, None));
        Txn {
            when: vec![Compare::mod_revision(life_cycle, CompareOp::Equal, link.on)],
            then: match link.content {
                Content::Starting => vec![alive(Status::Starting), delete(&self.routable)],
                Content::Published => vec![alive(Status::Healthy), shown(Status::Healthy)],
                Content::Marked => vec![alive(Status::Draining), shown(Status::Draining)],
                Content::Withdrawn => vec![alive(Status::Draining), delete(&self.routable)],
                Content::Gone => vec![delete(&self.life_cycle), delete(&self.routable)],
            },
            otherwise: self.reads(),
        }
    }

    /// Reads both records, to compare them with what is known: see [`looked`](Self::looked).
    pub(super) fn look(&self) -> Txn {
        Txn {
            when: Vec::new(),
            then: self.reads(),
            otherwise: Vec::new(),
        }
    }

    fn reads(&self) -> Vec<Op> {
        let read = |key| Op::Get(Range::new(Span::key(key)));
        vec![read(&self.life_cycle), read(&self.routable)]
    }

    /// `link` has been answered.
    pub(super) fn replied(&mut self, link: &Link, reply: &TxnReply) {
        self.unsettled = None;
        if reply.succeeded {
            self.committed(link, reply.header.revision);
            return;
        }
        let [life_cycle, _] = read_two(reply);
        match life_cycle {
            Some(kv) if kv.lease == link.lease && seq_of(&kv.value) == Some(link.seq) => {
                self.committed(link, kv.mod_revision);
            }
            Some(kv) => {
                self.at = kv.mod_revision;
                self.known = None;
            }
            None => {
                self.at = 0;
                self.known = None;
            }
        }
    }

    fn committed(&mut self, link: &Link, revision: i64) {
        self.at = match link.content {
            Content::Gone => 0,
            _ => revision,
        };
        self.known = Some(link.content);
    }

    /// The link that was sent last may or may not have been committed, or may yet be.
    pub(super) fn unknown(&mut self) {
        self.known = None;
    }

    /// What a read of both records showed.
    pub(super) fn looked(&mut self, reply: &TxnReply) {
        let [life_cycle, routable] = read_two(reply);
        let revision = reply.header.revision;
        self.saw_life_cycle(revision, life_cycle.as_ref(), false);
        self.saw_routable(revision, routable.as_ref(), false);
    }

    /// The life-cycle record is this at `revision`. `regressed`: the store's history went back.
    pub(super) fn saw_life_cycle(&mut self, revision: i64, seen: Seen<'_>, regressed: bool) {
        if self.known.is_none() || self.known == Some(Content::Gone) {
            return;
        }
        let at = seen.map_or(0, |kv| kv.mod_revision);
        let mine = seen.is_some_and(|kv| kv.lease == self.lease);
        if regressed || (revision >= self.at && !(at == self.at && mine)) {
            self.at = at;
            self.known = None;
        }
    }

    /// As [`saw_life_cycle`](Self::saw_life_cycle), of the routable record: both are written by the
    /// same transaction, so both have the same revision.
    pub(super) fn saw_routable(&mut self, revision: i64, seen: Seen<'_>, regressed: bool) {
        let expected = match self.known {
            None | Some(Content::Gone) => return,
            Some(Content::Published | Content::Marked) => Some((self.at, self.lease)),
            Some(Content::Starting | Content::Withdrawn) => None,
        };
        let found = seen.map(|kv| (kv.mod_revision, kv.lease));
        if regressed || (revision >= self.at && found != expected) {
            self.known = None;
        }
    }
}

/// The two reads of a reply, if they have the request's shape.
fn read_two(reply: &TxnReply) -> [Option<KeyValue>; 2] {
    let mut each = reply.replies.iter().map(|reply| match reply {
        OpReply::Get(range) => range.kvs.first().cloned(),
        _ => None,
    });
    [each.next().flatten(), each.next().flatten()]
}

#[cfg(test)]
mod tests;
