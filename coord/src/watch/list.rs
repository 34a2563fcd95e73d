//! [`List`]: a range read in pages that all stand at one revision.

use super::{mutation::mutated, place::Map};
use crate::{
    client::{CallError, Header, Range, RangeReply, Reason, Span},
    clock::Instant,
};

/// So many times a list may start again before it is read in one piece: a store that is compacted
/// faster than its pages are read would never be listed.
const RESTARTS: u32 = 2;

/// What was known when a linearizable read was sent. Its answer is compared with this, never with
/// what is known when it arrives: events may have been folded in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) pos: i64,
    pub(super) term: u64,
    pub(super) cluster: u64,
}

/// A list under way.
#[derive(Debug)]
pub(super) struct List {
    span: Span,
    page: i64,
    sent: Sent,
    /// The first page's header: its revision is the list's. Later pages carry the current one.
    header: Option<Header>,
    kvs: Map,
    restarts: u32,
    too_large: bool,
}

/// What to do after a page.
#[derive(Debug)]
pub(super) enum Turned {
    /// Send [`List::read`].
    Page,
    /// The revision is gone: [`List::restart`], and send its first page.
    Restart,
    Done,
    Failed(CallError),
}

impl List {
    pub(super) fn new(span: Span, page: i64, sent: Sent) -> Self {
        Self {
            span,
            page,
            sent,
            header: None,
            kvs: Map::new(),
            restarts: 0,
            too_large: false,
        }
    }

    /// Begins anew, keeping count.
    pub(super) fn restart(&mut self, sent: Sent) {
        self.sent = sent;
        self.header = None;
        self.kvs.clear();
    }

    /// The page to read next: the first at the latest revision, the others at the first's.
    pub(super) fn read(&self) -> Range {
        let mut range = Range::new(self.rest());
        if !mutated!(LatestRevisionPerPage) {
            range.revision = self.header.map_or(0, |header| header.revision);
        }
        range.limit = if self.restarts > RESTARTS && !self.too_large {
            0
        } else {
            self.page
        };
        range.serializable = mutated!(SerializableList);
        range
    }

    fn rest(&self) -> Span {
        match (&self.span, self.kvs.keys().next_back()) {
            (Span::Interval(_, end), Some(last)) => {
                let mut after = last.clone();
                after.push(0);
                Span::Interval(after, end.clone())
            }
            (span, _) => span.clone(),
        }
    }

    /// Takes a page in.
    pub(super) fn turn(&mut self, reply: Result<RangeReply, CallError>) -> Turned {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                return match error.reason {
                    Reason::Compacted | Reason::FutureRevision => self.again(),
                    // Smaller pages, down to single keys.
                    Reason::TooLarge if self.page > 1 || !self.too_large => {
                        self.too_large = true;
                        self.page = (self.page / 4).max(1);
                        self.again()
                    }
                    _ => Turned::Failed(error),
                };
            }
        };
        match self.header {
            // Another history than the first page's.
            Some(first) if reply.header.raft_term < first.raft_term => return self.again(),
            Some(_) if !mutated!(LastPagesHeader) => {}
            _ => self.header = Some(reply.header),
        }
        let more = reply.more && !reply.kvs.is_empty();
        self.kvs
            .extend(reply.kvs.into_iter().map(|kv| (kv.key.clone(), kv)));
        if more { Turned::Page } else { Turned::Done }
    }

    fn again(&mut self) -> Turned {
        self.restarts = self.restarts.saturating_add(1);
        Turned::Restart
    }

    /// How many keys a page may have, as far as this list found out.
    pub(super) fn page(&self) -> i64 {
        self.page
    }

    /// How often it had to start again.
    pub(super) fn restarts(&self) -> u32 {
        self.restarts
    }

    /// The whole list: the header that says at which revision, what was known when its first page
    /// was sent, and the keys.
    pub(super) fn finish(self) -> (Header, Sent, Map) {
        // `Done` comes after a page, which set the header.
        (self.header.unwrap_or_default(), self.sent, self.kvs)
    }
}

/// A read of the header alone, within what a user of the range may read.
pub(super) fn revision_of_the_store(span: &Span) -> Range {
    let (Span::Key(key) | Span::Interval(key, _)) = span;
    let mut range = Range::new(Span::Key(key.clone()));
    range.count_only = true;
    range
}
