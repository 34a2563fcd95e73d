//! [`Line`]: the places of one attempt.

use futures_util::future;

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

    /// The acquire was answered with a list for each queue. True: it owns. Only those queues in which
    /// it does not are watched from now on.
    pub(super) fn put(&mut self, revision: i64, ahead: &[Listed]) -> bool {
        let mut owns = true;
        for (at, listed) in ahead.iter().enumerate() {
            let queue = &self.acquire.queues[at];
            if self.places[at].is_none() && !listed.lets_in(queue, self.acquire.mode) {
                self.open(at);
            }
            if let Some(place) = &self.places[at] {
                match place.put(revision, listed) {
                    Step::Own => self.places[at] = None,
                    _ => owns = false,
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
        let decisions =
            self.places
                .iter()
                .flatten()
                .map(async |place| match place.decided().await {
                    Step::Own => Ok(()),
                    step => Err(step),
                });
        if let Err(step) = future::try_join_all(decisions).await {
            return step;
        }
        // What was owned first may be gone by now.
        let mut steps = self.places.iter().flatten().map(Place::step);
        steps.find(|step| *step == Step::Gone).unwrap_or(Step::Own)
    }

    pub(super) fn into_places(self) -> Vec<Place> {
        self.places.into_iter().flatten().collect()
    }
}
