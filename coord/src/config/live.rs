//! The task that keeps a [`Config`](super::Config) current, and what it shares with the readers.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot, watch};

use super::{
    decode::{UnknownKey, Warning},
    reloader::{Odd, Outcome, Reload, Reloader, discard},
    shape::CoordConfig,
    status::Refusal,
};
use crate::{
    metrics,
    tasks::Tasks,
    watch::{Cause, Source, Update, Watcher},
};

/// What readers read.
#[derive(Debug)]
pub(super) struct Store<T> {
    pub(super) value: ArcSwap<T>,
    record: Mutex<Record>,
}

/// What the last updates came to, for the status.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) applied_revision: i64,
    pub(super) refusal: Option<Refusal>,
    pub(super) refusals: u64,
    pub(super) unknown: Vec<UnknownKey>,
    pub(super) warnings: Vec<Warning>,
}

impl<T> Store<T> {
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        // Nothing panics while it is held.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One value in use after another. Kept apart from [`Store`], so that a read is one `ArcSwap` load.
#[derive(Debug)]
pub(super) struct Step<T> {
    pub(super) value: Arc<T>,
    pub(super) revision: i64,
    /// Counts the values.
    pub(super) generation: u64,
    /// The fields that ever changed, each with the generation that changed it last: whoever was
    /// slow learns of every field that changed since, and nothing is kept per reader.
    pub(super) changed: Arc<BTreeMap<Arc<str>, u64>>,
}

impl<T> Clone for Step<T> {
    fn clone(&self) -> Self {
        Self {
            value: self.value.clone(),
            revision: self.revision,
            generation: self.generation,
            changed: self.changed.clone(),
        }
    }
}

/// How far the store was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) revision: i64,
    /// How often the store's history went back.
    pub(super) regressions: u64,
}

/// The readers' ends.
#[derive(Debug)]
pub(super) struct Readers<T> {
    pub(super) store: Arc<Store<T>>,
    pub(super) steps: watch::Receiver<Step<T>>,
    pub(super) seen: watch::Receiver<Seen>,
}

/// The one writer. Readers learn from its drop that nothing more comes.
#[derive(Debug)]
pub(super) struct Writer<T> {
    prefix: String,
    store: Arc<Store<T>>,
    steps: watch::Sender<Step<T>>,
    seen: watch::Sender<Seen>,
}

impl<T> Writer<T> {
    pub(super) fn new(prefix: String, value: Arc<T>, revision: i64) -> (Self, Readers<T>) {
        let store = Arc::new(Store {
            value: ArcSwap::new(value.clone()),
            record: Mutex::new(Record {
                applied_revision: revision,
                ..Record::default()
            }),
        });
        let (steps, steps_read) = watch::channel(Step {
            value,
            revision,
            generation: 0,
            changed: Arc::default(),
        });
        let (seen, seen_read) = watch::channel(Seen {
            revision,
            regressions: 0,
        });
        let writer = Self {
            prefix,
            store: store.clone(),
            steps,
            seen,
        };
        let readers = Readers {
            store,
            steps: steps_read,
            seen: seen_read,
        };
        (writer, readers)
    }

    /// Makes visible what an update came to: first the value, then the status, then the news of
    /// them, so that whoever is woken finds both. Gives back the value that was replaced: dropping
    /// it may run code of the type's own, and no lock is held for that.
    pub(super) fn publish(&self, update: &Update, reload: Reload<T>) -> Option<Arc<T>> {
        let mut replaced = None;
        if let Some(odd) = reload.odd {
            self.odd(odd);
        }
        match reload.outcome {
            Outcome::Same => {
                let mut record = self.store.record();
                if update.cause == Cause::Regressed {
                    // The store as it is now has the same: it was made from that as well.
                    let revision = record.applied_revision.min(update.revision);
                    record.applied_revision = revision;
                    self.steps.send_if_modified(|step| {
                        step.revision = revision;
                        false
                    });
                }
                // An update without changes says nothing about a refusal.
                if !update.changes.is_empty() && record.refusal.take().is_some() {
                    tracing::info!(
                        target: "coord::config",
                        prefix = self.prefix,
                        revision = update.revision,
                        "the refused config change was taken back"
                    );
                }
            }
            Outcome::New(value, fields) => {
                self.store.value.store(value.clone());
                {
                    let mut record = self.store.record();
                    record.applied_revision = update.revision;
                    record.refusal = None;
                }
                tracing::info!(
                    target: "coord::config",
                    prefix = self.prefix,
                    revision = update.revision,
                    fields = fields.join(", "),
                    "config changed"
                );
                self.steps.send_modify(|step| {
                    replaced = Some(std::mem::replace(&mut step.value, value));
                    step.revision = update.revision;
                    step.generation += 1;
                    let changed = Arc::make_mut(&mut step.changed);
                    changed.extend(fields.into_iter().map(|field| (field, step.generation)));
                });
            }
            Outcome::Refused(refusal) => self.refuse(refusal),
        }
        self.seen.send_modify(|seen| {
            seen.revision = update.revision;
            seen.regressions += u64::from(update.cause == Cause::Regressed);
        });
        replaced
    }

    /// The store has reached `revision` without a change below the prefix.
    fn reached(&self, revision: i64) {
        self.seen.send_if_modified(|seen| {
            let later = revision > seen.revision;
            seen.revision = seen.revision.max(revision);
            later
        });
    }

    fn refuse(&self, refusal: Refusal) {
        let mut record = self.store.record();
        let known = record
            .refusal
            .as_ref()
            .is_some_and(|before| before.faults == refusal.faults);
        // The same faults with a later change elsewhere are not news.
        if !known {
            record.refusals += 1;
            ::metrics::counter!(metrics::CONFIG_REFUSALS, "prefix" => self.prefix.clone())
                .increment(1);
            tracing::warn!(
                target: "coord::config",
                prefix = self.prefix,
                %refusal,
                "config change refused; the value from before stays in use"
            );
        }
        record.refusal = Some(refusal);
    }

    pub(super) fn odd(&self, odd: Odd) {
        let mut record = self.store.record();
        let known: HashSet<_> = record.unknown.iter().map(|it| &it.key).collect();
        let fresh: Vec<_> = odd
            .unknown
            .iter()
            .filter(|it| !known.contains(&it.key))
            .collect();
        for key in fresh.iter().take(LOGGED) {
            let hint = key.did_you_mean.as_deref();
            tracing::warn!(
                target: "coord::config",
                key = key.key,
                did_you_mean = hint,
                "a config key that no field reads"
            );
        }
        let fresh_warnings: Vec<_> = odd
            .warnings
            .iter()
            .filter(|it| !record.warnings.contains(it))
            .take(LOGGED)
            .collect();
        for warning in &fresh_warnings {
            tracing::warn!(target: "coord::config", key = warning.key, "{}", warning.reason);
        }
        if fresh.len() > LOGGED {
            tracing::warn!(
                target: "coord::config",
                prefix = self.prefix,
                more = fresh.len() - LOGGED,
                "more config keys that no field reads; the status lists them"
            );
        }
        (record.unknown, record.warnings) = (odd.unknown, odd.warnings);
    }
}

/// So many odd keys of one change have a line each in the log.
const LOGGED: usize = 10;

/// Binds, tells `first` how that went, then follows the watch until it is cancelled. `asked`: somebody
/// waits for the store's revision.
///
/// Whatever runs code of `T`'s is set aside: reading the keys and dropping a value may take long, may
/// block or panic, and every connection of the coordinator's lives on the thread of `tasks`. This may
/// be the last to hold a value, and may be cancelled at every await: what it holds is then dropped
/// aside as well.
pub(super) async fn follow<T: CoordConfig, S: Source>(
    tasks: Tasks,
    mut watcher: Watcher<S>,
    mut reloader: Reloader<T>,
    prefix: String,
    asked: Arc<Notify>,
    first: oneshot::Sender<Result<Readers<T>, Refusal>>,
) {
    let mut status = watcher.status();
    let update = watcher.next().await;
    let aside = tasks.clone();
    let bound = tasks.aside(move || {
        let reload = reloader.apply(watcher.map(), &update);
        let (writer, readers) = match reload.outcome {
            Outcome::New(value, _) => Writer::new(prefix, value, update.revision),
            Outcome::Refused(refusal) => {
                // Nobody may be waiting for it: `start` was dropped.
                let _ = first.send(Err(refusal));
                return None;
            }
            Outcome::Same => return None,
        };
        writer.odd(reload.odd.unwrap_or_default());
        let value = readers.store.value.load_full();
        first.send(Ok(readers)).ok()?;
        Some(aside.held((watcher, reloader, writer, value)))
    });
    let Some(Some(bound)) = bound.await else {
        return;
    };
    let (mut watcher, reloader, writer, value) = bound.take();
    // Locals are dropped in reverse order. The writer is dropped here, where readers learn of it at
    // once; `value` outlives it, so that the writer never holds a value as the last.
    let mut value = tasks.held(value);
    let writer = writer;
    let mut reloader = tasks.held(reloader);
    loop {
        let update = tokio::select! {
            // An update comes before the news that its revision was reached.
            biased;
            update = watcher.next() => update,
            Ok(()) = status.changed() => {
                let revision = status.borrow_and_update().revision;
                writer.reached(revision);
                continue;
            }
            () = asked.notified() => {
                watcher.ask();
                continue;
            }
        };
        let aside = tasks.clone();
        let taken = tasks.aside(move || {
            let mut reloader = reloader.take();
            let reload = reloader.apply(watcher.map(), &update);
            aside.held((watcher, reloader, update, reload))
        });
        let Some(taken) = taken.await else {
            return;
        };
        let (after, reloading, update, reload) = taken.take();
        (watcher, reloader) = (after, tasks.held(reloading));
        if let Some(replaced) = writer.publish(&update, reload) {
            let held = tasks.held(writer.store.value.load_full());
            let before = std::mem::replace(&mut value, held);
            // Waited for: a type that is slow to drop holds up its own config, and no other.
            tasks
                .aside(move || discard((replaced, before.take())))
                .await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::{Event, Metadata, Subscriber, span};

    use super::*;

    /// Counts the lines.
    #[derive(Default)]
    struct Lines(Arc<AtomicUsize>);

    impl Subscriber for Lines {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == "coord::config"
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    fn unknown(count: usize) -> Odd {
        let unknown = (0..count).map(|at| UnknownKey {
            key: format!("/p/{at}"),
            did_you_mean: None,
        });
        let warning = Warning {
            key: "/p/a".into(),
            reason: "odd".into(),
        };
        Odd {
            unknown: unknown.collect(),
            warnings: vec![warning],
        }
    }

    /// A restored store that holds what was in use: no swap, and no revision that it has not.
    #[test]
    fn after_a_restore_no_revision_is_ahead_of_the_store() {
        let (writer, readers) = Writer::new("/p/".into(), Arc::new(()), 9);
        let update = Update {
            revision: 5,
            cause: Cause::Regressed,
            changes: Vec::new(),
        };
        let reload = Reload {
            outcome: Outcome::Same,
            odd: None,
        };
        writer.publish(&update, reload);
        assert_eq!(readers.store.record().applied_revision, 5);
        assert_eq!(readers.steps.borrow().revision, 5);
        assert!(!readers.steps.has_changed().expect("open"));
    }

    #[test]
    fn many_odd_keys_are_few_lines_and_each_is_told_once() {
        let (writer, readers) = Writer::new("/p/".into(), Arc::new(()), 1);
        let (lines, count) = (Lines::default(), |lines: &AtomicUsize| {
            lines.swap(0, Ordering::Relaxed)
        });
        let counted = lines.0.clone();
        tracing::subscriber::with_default(lines, || {
            writer.odd(unknown(2));
            assert_eq!(count(&counted), 3);
            writer.odd(unknown(3));
            assert_eq!(count(&counted), 1);
            writer.odd(unknown(5_000));
            assert_eq!(count(&counted), LOGGED + 1);
            writer.odd(unknown(5_000));
            assert_eq!(count(&counted), 0);
        });
        assert_eq!(readers.store.record().unknown.len(), 5_000);
    }
}
