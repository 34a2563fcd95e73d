//! [`Keeper`]: the one heartbeat.

use std::time::Duration;

use super::{Session, SessionSpec, SessionState, UndoQueue};
use crate::{client::Client, clock::Clock, error::Result, tasks::Tasks};

/// Opens sessions and renews them all over one stream. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {}

/// One session in the health report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionHealth {
    pub(crate) purpose: &'static str,
    pub(crate) lease: i64,
    pub(crate) state: SessionState,
    pub(crate) remaining: Duration,
}

impl Keeper {
    /// `heartbeat` is a connection that nothing else uses, and `heartbeat_tasks` live on its thread;
    /// grants, revokes and the undo queue go over `calls`, on `tasks`.
    pub(crate) fn start(
        _calls: Client,
        _heartbeat: Client,
        _clock: Clock,
        _tasks: Tasks,
        _heartbeat_tasks: Tasks,
    ) -> Self {
        todo!()
    }

    /// Grants a lease under a fresh random id and starts to renew it.
    ///
    /// # Cancel safety
    /// Safe: a lease whose grant was under way is revoked in the background.
    pub(crate) async fn open(&self, _spec: SessionSpec) -> Result<Session> {
        todo!()
    }

    /// Ends renewals and revokes the lease, with all its keys. Best effort: on an error the lease
    /// runs out by itself.
    pub(crate) async fn end(&self, _session: &Session) -> Result<()> {
        todo!()
    }

    /// Ends renewals and leaves the lease to run out: after a panic or a forced exit.
    pub(crate) fn abandon(&self, _session: &Session) {
        todo!()
    }

    pub(crate) fn undo(&self) -> &UndoQueue {
        todo!()
    }

    pub(crate) fn health(&self) -> Vec<SessionHealth> {
        todo!()
    }

    /// Ends every session (revoking what has not been abandoned) and lets the undo queue run dry,
    /// within `limit`. Later `open`s are `Closed`.
    pub(crate) async fn close(&self, _limit: Duration) {
        todo!()
    }
}
