//! [`Search`]: where a call goes, or how long it waits for a place.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::client::conn::http2::SendRequest;
use tonic::Status;

use super::{
    deadline::Deadline, endpoint::Endpoint, load::InFlight, request::RequestBody, shared::Shared,
};
use crate::{clock::Sleep, retry::Backoff};

/// The pause after all endpoints have refused a call, at first and at most. A connection that is going
/// away is replaced in about the former; a server that refuses all streams is asked as seldom as the
/// latter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Looks for endpoints, for one call.
#[derive(Debug)]
pub(super) struct Search<'c> {
    shared: &'c Shared,
    /// They have not taken the call, lately.
    tried: Vec<Arc<Endpoint>>,
    /// Why the last of them has not.
    why: Option<Status>,
    /// Since there was none for the first time.
    patience: Option<Box<Patience>>,
}

#[derive(Debug)]
struct Patience {
    limit: Sleep,
    backoff: Backoff,
}

/// An endpoint, and what to send on.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) flight: InFlight,
    pub(super) sender: SendRequest<RequestBody>,
}

impl<'c> Search<'c> {
    pub(super) fn new(shared: &'c Shared) -> Self {
        Self {
            shared,
            tried: Vec::new(),
            why: None,
            patience: None,
        }
    }

    /// `endpoint` has not taken the call.
    pub(super) fn failed(&mut self, endpoint: Arc<Endpoint>, why: Status) {
        self.tried.push(endpoint);
        self.why = Some(why);
    }

    /// The call did not go straight to its endpoint.
    pub(super) fn took_time(&self) -> bool {
        self.why.is_some() || self.patience.is_some()
    }

    /// One that has not been tried; waits for it while there is none.
    ///
    /// # Errors
    /// UNAVAILABLE, with what the registry and the connections look like, once the channel's limit or
    /// the deadline has passed.
    ///
    /// # Cancel safety
    /// Safe to drop.
    pub(super) async fn endpoint(
        &mut self,
        deadline: Option<&mut Deadline>,
    ) -> Result<Found, Status> {
        match self.look() {
            Some(found) => Ok(found),
            // On the heap: few calls wait, and all would have to be so much larger.
            None => Box::pin(self.wait(deadline)).await,
        }
    }

    fn look(&self) -> Option<Found> {
        let shared = self.shared;
        let set = shared.ready.load();
        let now = shared.clock.now();
        if let Some(permit) = set.probe()
            && !self.has_tried(permit.endpoint())
            && let Some(sender) = permit.endpoint().connection.sender()
        {
            let flight = InFlight::probing(permit, now);
            return Some(Found { flight, sender });
        }
        loop {
            let endpoint = shared.picker.pick(&set, &self.tried, now)?;
            // Or it was closed since it was picked, and is not picked again.
            if let Some(sender) = endpoint.connection.sender() {
                let flight = InFlight::begin(endpoint.clone(), now);
                return Some(Found { flight, sender });
            }
        }
    }

    fn has_tried(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    }

    async fn wait(&mut self, mut deadline: Option<&mut Deadline>) -> Result<Found, Status> {
        let shared = self.shared;
        let (clock, wait) = (&shared.clock, shared.settings.wait);
        if wait.is_zero() || shared.ready.load().summary.closed {
            return Err(self.none("now".into()));
        }
        let began = clock.now();
        let mut patience = self.patience.take().unwrap_or_else(|| {
            Box::new(Patience {
                limit: clock.sleep(wait),
                backoff: Backoff::endless(PAUSE.0, PAUSE.1),
            })
        });
        // Whoever has refused it gets it again, but not at once.
        let refused = !std::mem::take(&mut self.tried).is_empty();
        let mut pause = refused.then(|| clock.sleep(patience.backoff.next_delay()));
        let found = loop {
            let mut changed = pin!(shared.changed.notified());
            // From here on no change is missed: it is either seen by the look or wakes the wait.
            changed.as_mut().enable();
            if pause.is_none()
                && let Some(found) = self.look()
            {
                break Ok(found);
            }
            if shared.ready.load().summary.closed {
                break Err(self.none("now".into()));
            }
            let over = poll_fn(|cx| {
                let paused = pause.as_mut().map(|pause| Pin::new(pause).poll(cx));
                if changed.as_mut().poll(cx).is_ready() || paused.is_some_and(|it| it.is_ready()) {
                    return Poll::Ready(None);
                }
                if let Some(deadline) = &mut deadline
                    && deadline.poll(cx).is_ready()
                {
                    return Poll::Ready(Some(deadline.limit));
                }
                Pin::new(&mut patience.limit).poll(cx).map(|()| Some(wait))
            });
            match over.await {
                None => pause = None,
                Some(limit) => {
                    let limit = humantime::format_duration(limit);
                    break Err(self.none(format!("within {limit}")));
                }
            }
        };
        self.patience = Some(patience);
        shared.meter.waited(clock.now().since(began));
        found
    }

    fn none(&self, within: String) -> Status {
        let shared = self.shared;
        shared.meter.unserved();
        let mut text = format!(
            "no endpoint for {} {within}: {}",
            shared.service,
            shared.describe(&shared.ready.load())
        );
        if let Some(why) = &self.why {
            text.push_str("; last try: ");
            text.push_str(why.message());
        }
        Status::unavailable(text)
    }
}
