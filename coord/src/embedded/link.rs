//! Connections: who may have one, and how it is cut.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Who may connect.
#[derive(Debug, Default)]
pub(super) struct Door(Mutex<Hinges>);

#[derive(Debug, Default)]
struct Hinges {
    refusing: bool,
    /// Cancelled to cut every connection.
    hangup: CancellationToken,
}

impl Door {
    fn hinges(&self) -> MutexGuard<'_, Hinges> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts every connection.
    pub(super) fn hang_up(&self) {
        std::mem::take(&mut self.hinges().hangup).cancel();
    }

    /// Cuts every connection, and lets no new one in.
    pub(super) fn close(&self) {
        let mut hinges = self.hinges();
        hinges.refusing = true;
        std::mem::take(&mut hinges.hangup).cancel();
    }

    pub(super) fn open(&self) {
        self.hinges().refusing = false;
    }

    /// A new connection; `None`: it is not let in.
    pub(super) fn admit(&self) -> Option<Link> {
        let hinges = self.hinges();
        (!hinges.refusing).then(|| Link(hinges.hangup.child_token()))
    }
}

/// A connection, as those see it who may have to cut it.
#[derive(Clone, Debug)]
pub(super) struct Link(CancellationToken);

impl Link {
    pub(super) fn cut(&self) {
        self.0.cancel();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Runs until the connection is cut; what runs is then dropped.
    pub(super) async fn until_cut(&self, run: impl Future) {
        self.0.run_until_cancelled(run).await;
    }
}
