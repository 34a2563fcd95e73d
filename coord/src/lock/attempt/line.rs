//! [`Line`]: the places of one attempt.

use std::{future, task::Poll};

use super::{
    super::{
        hub::{Peek, Place},
        queue::{Listed, Step},
    },
    Acquire,
};
use crate::{key::Key, session::LeasedKey};

/// The places of one attempt in the queues that are watched: one for each queue, or none yet.
pub(super) struct Line<'a> {
    acquire: &'a Acquire<'a>,
    heads: Vec<Key>,
    places: Vec<Option<Place>>,
}

impl<'a> Line<'a> {
    /// Before the acquire is sent: a queue that is watched tells what it sees from here on.
    pub(super) fn join(acquire: &'a Acquire<'a>, entry: &LeasedKey) -> Self {
        let heads = acquire.heads(entry);
        let hub = &acquire.shared.hub;
        let places = acquire.queues.iter().zip(&heads);
        Self {
            places: places
                .map(|(queue, head)| hub.join(queue, acquire.mode, head.as_bytes()))
                .collect(),
            heads,
            acquire,
        }
    }

    /// The acquire was answered with a list for each queue. True: it owns. Else all of them are watched
    /// from now on: what it owns already may be deleted while it waits for the rest.
    pub(super) fn put(&mut self, revision: i64, ahead: &[Listed]) -> bool {
        let mut owns = true;
        for (at, listed) in ahead.iter().enumerate() {
            owns &= match &self.places[at] {
                Some(place) => place.put(revision, listed) == Step::Own,
                None => listed.lets_in(&self.acquire.queues[at], self.acquire.mode),
            };
        }
        if !owns {
            for (at, listed) in ahead.iter().enumerate() {
                if self.places[at].is_none() {
                    self.open(at).put(revision, listed);
                }
            }
        }
        owns
    }

    /// An earlier copy of the acquire was applied; who is ahead is not known.
    pub(super) fn found(&mut self, revision: i64) {
        for at in 0..self.places.len() {
            self.open(at).found(revision);
        }
    }

    fn open(&mut self, at: usize) -> &Place {
        let Acquire {
            shared,
            queues,
            mode,
            ..
        } = self.acquire;
        let head = self.heads[at].as_bytes();
        self.places[at].get_or_insert_with(|| shared.hub.open(&queues[at], *mode, head))
    }

    pub(super) fn peek(&self) -> Vec<Peek> {
        self.places.iter().flatten().map(Place::peek).collect()
    }

    /// Done when it owns in every queue, or something else is decided in one.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn decided(&self) -> Step {
        let places = || self.places.iter().flatten();
        places().for_each(Place::wait);
        future::poll_fn(|cx| {
            let mut owns = true;
            for place in places() {
                match place.step(cx) {
                    Step::Own => {}
                    Step::Wait | Step::Read => owns = false,
                    decided => return Poll::Ready(decided),
                }
            }
            match owns {
                true => Poll::Ready(Step::Own),
                false => Poll::Pending,
            }
        })
        .await
    }

    pub(super) fn into_places(self) -> Vec<Place> {
        self.places.into_iter().flatten().collect()
    }
}
