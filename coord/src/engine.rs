//! [`Engine`]: what every part stands on: the connections, the two engines, the clock, the keys.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use crate::{
    client::{
        CallError, Certainty, Client, Op, Range, RangeReply, Reason, Span, TimeToLive, Txn,
        TxnReply,
    },
    clock::Clock,
    error::{Error, Result},
    key::Layout,
    options::Options,
    retry::Backoff,
    session::Keeper,
    tasks::Tasks,
    watch::{WatchOptions, WatchStatus, Watcher},
};

/// Shared by all parts and modules of one coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    /// For calls. A call's future is polled where its caller awaits it.
    pub(crate) calls: Client,
    /// For watches alone: unread watch streams block the calls that share their connection.
    pub(crate) watches: Client,
    /// The heartbeat's own connection: for the health report; only the keeper uses it.
    pub(crate) heartbeat: Client,
    pub(crate) keeper: Keeper,
    pub(crate) clock: Clock,
    /// Where background work of the parts lives; cancelled when the coordinator closes.
    pub(crate) tasks: Tasks,
    pub(crate) layout: Arc<Layout>,
    pub(crate) options: Arc<Options>,
    /// The module's or service's name, for records and spans; `None` for the root.
    pub(crate) module: Option<Arc<str>>,
    pub(crate) watched: Watched,
}

impl Engine {
    /// `Closed` once the coordinator is.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.tasks.cancelled().is_cancelled() {
            Err(Error::closed(operation))
        } else {
            Ok(())
        }
    }

    /// A watch of `span` that the health report shows as `name` for as long as it lives.
    pub(crate) fn watcher(&self, name: impl Into<String>, span: Span) -> Watcher {
        let options = WatchOptions {
            sync_interval: self.options.config.sync_interval,
            ..WatchOptions::default()
        };
        let watcher = Watcher::new(self.watches.clone(), self.clock.clone(), span, options);
        self.watched.add(name.into(), watcher.status());
        watcher
    }

    /// A read for the caller, repeated as the options say: a read is safe to repeat whatever became
    /// of the one before.
    pub(crate) async fn read(&self, range: Range) -> Result<RangeReply, CallError> {
        self.repeat(|| self.calls.range(range.clone())).await
    }

    /// Several reads at one revision, repeated as [`read`](Self::read) is.
    pub(crate) async fn read_all(&self, reads: Vec<Op>) -> Result<TxnReply, CallError> {
        let txn = Txn {
            then: reads,
            ..Txn::default()
        };
        self.repeat(|| self.calls.txn(txn.clone())).await
    }

    /// What etcd says about a lease, asked as often as a read.
    pub(crate) async fn time_to_live(&self, lease: i64) -> Result<TimeToLive, CallError> {
        self.repeat(|| self.calls.lease_time_to_live(lease)).await
    }

    /// A write for the caller, repeated as the options say for as long as it is certain that no copy
    /// was carried out, nor will be.
    pub(crate) async fn write(&self, txn: Txn) -> Result<TxnReply, CallError> {
        self.repeat_if(
            || self.calls.txn(txn.clone()),
            |error| error.certainty != Certainty::Unknown,
        )
        .await
    }

    /// A write for the caller that says by itself whether an earlier copy was carried out: repeated as
    /// [`read`](Self::read) is.
    pub(crate) async fn write_again(&self, txn: Txn) -> Result<TxnReply, CallError> {
        let doubtful = AtomicBool::new(false);
        let call = || async {
            let answer = self.calls.txn(txn.clone()).await;
            let unknown = |error: &CallError| error.certainty == Certainty::Unknown;
            doubtful.fetch_or(
                answer.as_ref().err().is_some_and(unknown),
                Ordering::Relaxed,
            );
            answer
        };
        self.repeat(call).await.map_err(|mut error| {
            // An earlier copy may have been carried out, whatever became of the last one.
            if doubtful.load(Ordering::Relaxed) {
                error.certainty = Certainty::Unknown;
            }
            error
        })
    }

    async fn repeat<T, F>(&self, call: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        self.repeat_if(call, |_| true).await
    }

    async fn repeat_if<T, F>(
        &self,
        call: impl Fn() -> F,
        safe: impl Fn(&CallError) -> bool,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut backoff = Backoff::for_call(&self.options.retry);
        loop {
            let error = match call().await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let passing = matches!(error.reason, Reason::Unavailable | Reason::Timeout);
            match backoff.next_try() {
                Some(delay) if passing && safe(&error) => {
                    self.clock.sleep(delay).await;
                }
                _ => return Err(error),
            }
        }
    }
}

/// The statuses of the watches that are open, for the health report.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<Mutex<Vec<NamedStatus>>>);

type NamedStatus = (String, watch::Receiver<WatchStatus>);

impl Watched {
    fn add(&self, name: String, status: watch::Receiver<WatchStatus>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, status)| status.has_changed().is_ok());
        all.push((name, status));
    }

    /// Each watch that still lives, by name. An error of `has_changed` says that its owner is gone.
    pub(crate) fn statuses(&self) -> Vec<(String, WatchStatus)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, status)| status.has_changed().is_ok());
        all.iter()
            .map(|(name, status)| (name.clone(), status.borrow().clone()))
            .collect()
    }
}
