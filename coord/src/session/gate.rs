//! [`Gate`]: whether a lease may be renewed, as its session's user says from moment to moment.

use tokio::sync::watch;

/// Asked each time its lease is due. While it is closed the renewal is left out, and nothing else
/// happens: closed for a moment it costs nothing, closed for longer the lease runs out as that of a
/// process that is gone.
#[derive(Clone, Debug)]
pub(crate) struct Gate(watch::Receiver<bool>);

impl Gate {
    /// A gate that is open, and what opens and closes it. Without that it stays as it is.
    pub(crate) fn new() -> (watch::Sender<bool>, Self) {
        let (lever, open) = watch::channel(true);
        (lever, Self(open))
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Done when it is open; never, if nobody will open it.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn opened(&self) {
        if self.0.clone().wait_for(|open| *open).await.is_err() {
            std::future::pending().await
        }
    }
}
