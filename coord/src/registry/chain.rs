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
//! 5. To stop being routable takes two links: a mark, which says what it is instead of healthy, then
//!    the deletion. Whoever sees a deletion without the mark knows that the instance crashed. Who leaves never writes over its mark. What was
//!    never shown needs none.
//! 6. What a watch of the two keys shows must agree with what was last committed, both ways: a
//!    record that is not there, one that is, one of another revision. A renewed lease proves nothing
//!    about the records.

use std::sync::Arc;

use crate::{
    client::{Compare, CompareOp, KeyValue, Op, OpReply, Range, Span, Txn, TxnReply},
    key::Key,
    registry::{
        instance::InstanceHealth,
        record::{Record, seq_of},
    },
};

/// Where the instance should be, and what its records should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) record: Arc<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Routable, and healthy.
    Shown,
    /// Known to operators, not routable: never asked for with [`InstanceHealth::Healthy`].
    Hidden(InstanceHealth),
    Gone,
}

/// What the two records are after a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) form: Form,
    record: Arc<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Shown,
    /// Still routable for readers who do not know the mark.
    Marked(InstanceHealth),
    Hidden(InstanceHealth),
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
    lease: i64,
    /// Of the last link that was made.
    seq: u64,
    /// The life-cycle record's `mod_revision` as far as known; 0: there is none.
    at: i64,
    /// What is there, as long as nothing casts doubt on it.
    known: Option<Content>,
    /// A link without an answer, and the wish that it was made for.
    unsettled: Option<(Target, Link)>,
    /// A routable record may be there: a link that writes one was made after the last that is known to
    /// have removed it.
    shown: bool,
}

/// A record as someone has read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The store's revision then.
    pub(super) at: i64,
    /// The record's `mod_revision` and lease. `None`: it was not there.
    pub(super) record: Option<(i64, i64)>,
    /// The store's history went back before.
    pub(super) regressed: bool,
}

impl Seen {
    fn new(at: i64, record: Option<&KeyValue>) -> Self {
        Self {
            at,
            record: record.map(|kv| (kv.mod_revision, kv.lease)),
            regressed: false,
        }
    }
}

impl Chain {
    pub(super) fn new(life_cycle: Key, routable: Key) -> Self {
        Self {
            life_cycle,
            routable,
            lease: 0,
            seq: 0,
            at: 0,
            known: None,
            unsettled: None,
            shown: false,
        }
    }

    pub(super) fn life_cycle(&self) -> &Key {
        &self.life_cycle
    }

    /// The form of what is there.
    pub(super) fn known(&self) -> Option<Form> {
        self.known.as_ref().map(|known| known.form)
    }

    /// A new lease: nothing is known any more. A life-cycle record that an old lease left moves over
    /// with the next link.
    pub(super) fn adopt(&mut self, lease: i64) {
        self.lease = lease;
        self.known = None;
        self.unsettled = None;
    }

    /// The link to send, if the records are not known to be where `target` wants them.
    pub(super) fn next(&mut self, target: &Target) -> Option<Link> {
        if let Some((wish, link)) = &self.unsettled
            && wish == target
        {
            return Some(link.clone());
        }
        let form = self.wanted(target)?;
        self.seq += 1;
        self.shown |= matches!(form, Form::Shown | Form::Marked(_));
        let link = Link {
            seq: self.seq,
            lease: self.lease,
            on: self.at,
            content: Content {
                form,
                record: target.record.clone(),
            },
        };
        self.unsettled = Some((target.clone(), link.clone()));
        Some(link)
    }

    fn wanted(&self, target: &Target) -> Option<Form> {
        let settled = |form| {
            let same = |known: &Content| known.form == form && known.record == target.record;
            self.known.as_ref().is_some_and(same)
        };
        if self.known() == Some(Form::Gone) {
            return None;
        }
        let marks = self.shown && self.at != 0 && matches!(self.known(), None | Some(Form::Shown));
        match target.place {
            Place::Shown if settled(Form::Shown) => None,
            Place::Shown if self.at == 0 => Some(Form::Hidden(InstanceHealth::Starting)),
            Place::Shown => Some(Form::Shown),
            Place::Hidden(health) if settled(Form::Hidden(health)) => None,
            // What is not known may be routable: the mark comes first.
            Place::Hidden(health) if marks => Some(Form::Marked(health)),
            Place::Hidden(health) => Some(Form::Hidden(health)),
            Place::Gone if marks => Some(Form::Marked(InstanceHealth::Draining)),
            Place::Gone => Some(Form::Gone),
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
        let record = &link.content.record;
        let alive = |health| put(&self.life_cycle, record.encode(health, Some(link.seq)));
        let shown = |health| put(&self.routable, record.encode(health, None));
        let healthy = InstanceHealth::Healthy;
        Txn {
            when: vec![Compare::mod_revision(life_cycle, CompareOp::Equal, link.on)],
            then: match link.content.form {
                Form::Shown => vec![alive(healthy), shown(healthy)],
                Form::Marked(health) => vec![alive(health), shown(health)],
                Form::Hidden(health) => vec![alive(health), delete(&self.routable)],
                Form::Gone => vec![delete(&self.life_cycle), delete(&self.routable)],
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
        self.at = match link.content.form {
            Form::Gone => 0,
            _ => revision,
        };
        self.shown &= matches!(link.content.form, Form::Shown | Form::Marked(_));
        self.known = Some(link.content.clone());
    }

    /// The link that was sent last may or may not have been committed, or may yet be.
    pub(super) fn unknown(&mut self) {
        self.known = None;
    }

    /// What a read of both records showed.
    pub(super) fn looked(&mut self, reply: &TxnReply) {
        let [life_cycle, routable] = read_two(reply);
        let revision = reply.header.revision;
        self.saw_life_cycle(Seen::new(revision, life_cycle.as_ref()));
        self.saw_routable(Seen::new(revision, routable.as_ref()));
    }

    /// The life-cycle record was seen so.
    pub(super) fn saw_life_cycle(&mut self, seen: Seen) {
        if matches!(self.known(), None | Some(Form::Gone)) {
            return;
        }
        let mine = seen.record == Some((self.at, self.lease));
        if seen.regressed || (seen.at >= self.at && !mine) {
            self.at = seen.record.map_or(0, |(revision, _)| revision);
            self.known = None;
        }
    }

    /// As [`saw_life_cycle`](Self::saw_life_cycle), of the routable record: both are written by the
    /// same transaction, so both have the same revision.
    pub(super) fn saw_routable(&mut self, seen: Seen) {
        let expected = match self.known() {
            None | Some(Form::Gone) => return,
            Some(Form::Shown | Form::Marked(_)) => Some((self.at, self.lease)),
            Some(Form::Hidden(_)) => None,
        };
        if seen.regressed || (seen.at >= self.at && seen.record != expected) {
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
