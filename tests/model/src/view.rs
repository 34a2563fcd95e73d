//! What one entry knows of its queue, and what follows from it.
//!
//! The rules, which the library's own view follows word for word: a snapshot is usable iff the watch
//! tells everything after it; deletions that arrive while a reply is under way are kept and applied
//! to it if they are later; a read's first entry must be the own one; all deletions of one revision
//! are applied, the own entry first, before anything is concluded.

use crate::{
    mutation::Mutation,
    protocol::Protocol,
    scenario::Letter,
    world::{Keys, Known, Read, Rev, View},
};

/// What follows from what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    Read,
    Own,
    Gone,
}

/// Whose view it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Me {
    /// The key that stands for it.
    pub(crate) key: u8,
    pub(crate) letter: Letter,
    /// R; 0: no answer has told it.
    pub(crate) created: Rev,
}

impl View {
    /// Everything deleted after `from` will be told; 0: the watch is not open.
    pub(crate) fn new(from: Rev) -> Self {
        Self {
            from,
            ..Self::default()
        }
    }

    /// The acquire was answered; `me.created` is R.
    pub(crate) fn put(&mut self, protocol: &Protocol, me: Me, ahead: Keys, more: bool) {
        self.found(me);
        self.install(protocol, me.created, ahead, more);
        self.told.clear();
    }

    /// The entry is there; who is ahead is not known.
    pub(crate) fn found(&mut self, me: Me) {
        self.gone |= self
            .told
            .iter()
            .any(|(at, keys)| *at > me.created && keys & (1 << me.key) != 0);
    }

    pub(crate) fn opened(&mut self, protocol: &Protocol, revision: Rev) {
        self.from = revision;
        if let Some(known) = &mut self.known
            && protocol.mutated(Mutation::NoGapRead)
        {
            known.at = known.at.max(revision);
        }
    }

    pub(crate) fn closed(&mut self) {
        self.from = 0;
    }

    /// All deletions of one revision.
    pub(crate) fn deleted(&mut self, protocol: &Protocol, me: Me, revision: Rev, keys: Keys) {
        let own = 1 << me.key;
        let of_interest = keys & (own | protocol.relevant[usize::from(me.key)]);
        if (me.created == 0 || self.read.is_some())
            && of_interest != 0
            && !protocol.mutated(Mutation::NoBuffer)
        {
            self.told.push((revision, of_interest));
        }
        let counts = revision > me.created || protocol.mutated(Mutation::NoRevisionFilter);
        if me.created > 0 && counts && keys & own != 0 {
            self.gone = true;
        }
        if let Some(known) = &mut self.known
            && (revision > known.at || protocol.mutated(Mutation::NoRevisionFilter))
        {
            known.ahead &= !keys;
            if protocol.mutated(Mutation::EventByEvent) && protocol.admits(me.letter, known.ahead) {
                self.gone = false;
            }
        }
    }

    /// A read was answered. True: a safety read found an entry gone that no event had told of.
    pub(crate) fn answered(&mut self, protocol: &Protocol, me: Me, read: Read) -> bool {
        self.read = None;
        let mut missed = false;
        let is_own = read.own == me.created
            || (protocol.mutated(Mutation::ReadTrustsEmptyList) && read.own == 0);
        if is_own {
            let audited = std::mem::take(&mut self.audit);
            let known = self.known.map_or(0, |known| known.ahead);
            missed = audited && !read.more && known & !read.ahead != 0;
            let at = match protocol.mutated(Mutation::StaleRead) {
                true => read.at.max(self.from),
                false => read.at,
            };
            self.install(protocol, at, read.ahead, read.more);
        } else {
            self.gone = true;
        }
        self.told.clear();
        missed
    }

    fn install(&mut self, protocol: &Protocol, at: Rev, ahead: Keys, more: bool) {
        let later = self.told.iter().filter(|(revision, _)| *revision > at);
        let gone = later.fold(0, |gone, (_, keys)| gone | keys);
        let at = match protocol.mutated(Mutation::NoGapRead) {
            true => at.max(self.from),
            false => at,
        };
        self.known = Some(Known {
            at,
            ahead: ahead & !gone,
            complete: !more,
        });
    }

    pub(crate) fn step(&self, protocol: &Protocol, me: Me) -> Step {
        if self.gone {
            return Step::Gone;
        }
        if me.created == 0 || self.from == 0 {
            return Step::Wait;
        }
        match self.known {
            Some(known) if self.from <= known.at && !self.audit => {
                match protocol.admits(me.letter, known.ahead) {
                    true if known.complete => Step::Own,
                    true => Step::Read,
                    false => Step::Wait,
                }
            }
            _ => Step::Read,
        }
    }
}
