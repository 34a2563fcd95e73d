//! [`Hub`]: one watch per contended lock name, shared by everybody in this process who waits there.
//!
//! A name's task follows the deletions in its queue, makes the reads that entries need, and wakes
//! exactly those waiters for which something was decided. It ends a few seconds after the last one
//! has left, so that a name which is contended again and again does not open a watch each time.
//!
//! # Invariants
//! 1. A [`Place`] is registered before the acquire is sent if the name has a watch; what it is told
//!    begins at the latest revision that had been told before.
//! 2. The watch is opened at "now": etcd serves one with a past or current start revision from a loop
//!    that runs every 100 ms. What lies between is read.
//! 3. Whoever waits makes no call; only the name's task does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Waker},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::sync::Notify;

use super::{
    hold::Hold,
    modes::Mode,
    queue::{Listed, Step, View},
};
use crate::{
    client::{CallError, Client, Reason, Span, Txn, TxnReply},
    clock::{Clock, Instant},
    engine::Engine,
    error::LostReason,
    key::Prefix,
    retry::Backoff,
    tasks::Tasks,
    watch::{FromNow, Signal},
};

/// How long a name is watched after the last waiter has left.
const LINGER: Duration = Duration::from_secs(5);

/// All contended names of one coordinator. Cheap to clone; every clone is the same hub.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    names: Arc<Names>,
    calls: Client,
    watches: Client,
    clock: Clock,
    tasks: Tasks,
    /// A waiter that has learned nothing for this long makes a read.
    audit_after: Duration,
}

type Names = Mutex<HashMap<Prefix, Arc<Name>>>;

/// One contended name. Held by its task, by its places, and by the hub while it is watched.
#[derive(Debug)]
pub(super) struct Name {
    queue: Prefix,
    room: Mutex<Room>,
    /// Some place may need a read.
    changed: Notify,
}

#[derive(Debug)]
struct Room {
    seats: HashMap<u64, Seat>,
    next: u64,
    /// The watch tells everything after this revision to whoever comes now; `None`: not open.
    told: Option<i64>,
    /// When somebody last waited.
    needed_at: Instant,
}

#[derive(Debug)]
struct Seat {
    view: View,
    waker: Option<Waker>,
    /// The last that its task was told.
    owns: bool,
    /// Set once it owns: whom to tell that the entry is gone.
    owner: Option<Weak<Hold>>,
    waited: bool,
}

impl Hub {
    pub(super) fn new(engine: &Engine) -> Self {
        Self {
            names: Arc::default(),
            calls: engine.calls.clone(),
            watches: engine.watches.clone(),
            clock: engine.clock.clone(),
            tasks: engine.tasks.clone(),
            audit_after: engine.options.lock.ttl,
        }
    }

    /// A place in the queue, if the name is watched already. Taken before the acquire is sent.
    pub(super) fn join(&self, queue: &Prefix, mode: Mode, entry: &[u8]) -> Option<Place> {
        let names = locked(&self.names);
        Some(self.sit(names.get(queue)?, mode, entry))
    }

    /// A place in the queue; the name is watched from now on.
    pub(super) fn open(&self, queue: &Prefix, mode: Mode, entry: &[u8]) -> Place {
        let mut names = locked(&self.names);
        let name = names.entry(queue.clone()).or_insert_with(|| {
            let name = Arc::new(Name {
                queue: queue.clone(),
                room: Mutex::new(Room {
                    seats: HashMap::new(),
                    next: 0,
                    told: None,
                    needed_at: self.clock.now(),
                }),
                changed: Notify::new(),
            });
            self.tasks.spawn(self.clone().follow(name.clone()));
            name
        });
        self.sit(name, mode, entry)
    }

    /// With the map locked, so that the name does not end in between.
    fn sit(&self, name: &Arc<Name>, mode: Mode, entry: &[u8]) -> Place {
        let now = self.clock.now();
        let mut room = name.room();
        let id = room.next;
        room.next += 1;
        let view = View::new(name.queue.clone(), mode, entry.to_vec(), room.told, now);
        let seat = Seat {
            view,
            waker: None,
            owns: false,
            owner: None,
            waited: false,
        };
        room.seats.insert(id, seat);
        Place {
            name: name.clone(),
            clock: self.clock.clone(),
            id,
        }
    }

    async fn follow(self, name: Arc<Name>) {
        let watch = || {
            FromNow::new(
                self.watches.clone(),
                self.clock.clone(),
                Span::prefix(&name.queue),
            )
        };
        let mut signals = watch();
        let mut reads = FuturesUnordered::new();
        let period = (self.audit_after / 4).min(LINGER);
        let mut tick = self.clock.sleep(period);
        loop {
            for (id, read) in name.wanted_reads() {
                let read = self.read(read);
                reads.push(async move { (id, read.await) });
            }
            tokio::select! {
                signal = signals.next() => name.apply(&signal, self.clock.now()),
                Some((id, reply)) = reads.next() => {
                    if name.answered(id, reply, self.clock.now()) {
                        tracing::warn!(target: "coord::lock", queue = %name.queue,
                            "etcd did not tell of a deletion in a lock's queue; watching anew");
                        name.apply(&Signal::Closed, self.clock.now());
                        signals = watch();
                    }
                }
                () = name.changed.notified() => {}
                () = &mut tick => {
                    tick = self.clock.sleep(period);
                    let now = self.clock.now();
                    if self.ended(&name, now) {
                        return;
                    }
                    name.audit(now - self.audit_after);
                }
            }
        }
    }

    /// A linearizable read, repeated until it is answered.
    async fn read(&self, read: Txn) -> TxnReply {
        let mut backoff = Backoff::endless(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            match self.calls.txn(read.clone()).await {
                Ok(reply) => return reply,
                Err(CallError {
                    reason: Reason::BadToken,
                    ..
                }) if self.calls.refresh_token().await.is_ok() => {}
                Err(_) => self.clock.sleep(backoff.next_delay()).await,
            }
        }
    }

    /// Takes the name off the hub if nobody has needed it for a while.
    fn ended(&self, name: &Arc<Name>, now: Instant) -> bool {
        let mut names = locked(&self.names);
        let room = name.room();
        let ended = room.seats.is_empty() && now.since(room.needed_at) >= LINGER;
        if ended {
            names.remove(&name.queue);
        }
        ended
    }
}

impl Name {
    fn room(&self) -> MutexGuard<'_, Room> {
        locked(&self.room)
    }

    fn wanted_reads(&self) -> Vec<(u64, Txn)> {
        self.room()
            .seats
            .iter_mut()
            .filter_map(|(id, seat)| Some((*id, seat.view.start_read()?)))
            .collect()
    }

    fn apply(&self, signal: &Signal, now: Instant) {
        let told: Vec<_> = {
            let mut room = self.room();
            match signal {
                Signal::Opened { revision } | Signal::Deleted { revision, .. } => {
                    room.told = Some(*revision);
                }
                Signal::Closed => room.told = None,
            }
            let seats = room.seats.values_mut();
            seats
                .filter_map(|seat| {
                    match signal {
                        Signal::Opened { revision } => seat.view.opened(*revision),
                        Signal::Deleted { revision, keys } => {
                            seat.view.deleted(*revision, keys, now);
                        }
                        Signal::Closed => seat.view.closed(),
                    }
                    seat.told()
                })
                .collect()
        };
        told.into_iter().for_each(Told::pass_on);
    }

    /// True: an event was missed.
    fn answered(&self, id: u64, reply: TxnReply, now: Instant) -> bool {
        let at = reply.header.revision;
        let listed = Listed::of(reply.replies);
        let (missed, told) = {
            let mut room = self.room();
            let Some(seat) = room.seats.get_mut(&id) else {
                return false;
            };
            let missed = seat.view.read(at, &listed, now);
            (missed, seat.told())
        };
        told.into_iter().for_each(Told::pass_on);
        missed
    }

    fn audit(&self, limit: Instant) {
        let mut room = self.room();
        room.seats
            .values_mut()
            .for_each(|seat| seat.view.audit(limit));
    }
}

impl Seat {
    /// Whom to tell, now that something may have been decided.
    fn told(&mut self) -> Option<Told> {
        let step = self.view.step();
        match &self.owner {
            Some(owner) if step == Step::Gone => owner.upgrade().map(Told::Owner),
            Some(_) => None,
            None if matches!(step, Step::Wait | Step::Read) => {
                self.owns = false;
                None
            }
            // It knows, and waits for another queue.
            None if self.owns && step == Step::Own => None,
            None => self.waker.take().map(Told::Waiter),
        }
    }
}

/// Who is told of a decision. Passed on with nothing locked: what a waker runs is not known here.
enum Told {
    Waiter(Waker),
    Owner(Arc<Hold>),
}

impl Told {
    fn pass_on(self) {
        match self {
            Self::Waiter(waker) => waker.wake(),
            Self::Owner(hold) => hold.lose(LostReason::Revoked),
        }
    }
}

/// A registration with the hub: one entry's. Dropping it leaves.
#[derive(Debug)]
pub(super) struct Place {
    name: Arc<Name>,
    clock: Clock,
    id: u64,
}

impl Place {
    /// The acquire was answered; see [`View::put`].
    pub(super) fn put(&self, revision: i64, ahead: &Listed) -> Step {
        let now = self.clock.now();
        self.with(|seat| {
            let step = seat.view.put(revision, ahead, now);
            seat.waited = step != Step::Own;
            step
        })
    }

    /// An earlier copy of the acquire was applied; see [`View::found`].
    pub(super) fn found(&self, revision: i64) {
        let now = self.clock.now();
        self.with(|seat| seat.view.found(revision, now));
    }

    /// Somebody waits here: it may need a read.
    pub(super) fn wait(&self) {
        self.name.changed.notify_one();
    }

    /// What follows now. Until something else than waiting or owning does, this task is woken: one that
    /// owns here may wait elsewhere.
    pub(super) fn step(&self, cx: &Context<'_>) -> Step {
        // Cloned and dropped with nothing locked: what a waker does is not known here.
        let mut waker = Some(cx.waker().clone());
        self.with(|seat| {
            seat.waited = true;
            let step = seat.view.step();
            seat.owns = step == Step::Own;
            if matches!(step, Step::Wait | Step::Read | Step::Own) {
                std::mem::swap(&mut seat.waker, &mut waker);
            }
            step
        })
    }

    /// It owns: from now on `hold` is told when the entry is gone.
    pub(super) fn own(&self, hold: &Arc<Hold>) {
        let (told, waker) = self.with(|seat| {
            seat.owner = Some(Arc::downgrade(hold));
            (seat.told(), seat.waker.take())
        });
        drop(waker);
        told.into_iter().for_each(Told::pass_on);
    }

    /// What the wait looks like from outside, for an error message.
    pub(super) fn peek(&self) -> Peek {
        Peek {
            name: Arc::downgrade(&self.name),
            id: self.id,
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Seat) -> T) -> T {
        let mut room = self.name.room();
        let seat = room.seats.get_mut(&self.id);
        f(seat.expect("a seat is removed only by the drop of its place"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.clock.now();
        let mut room = self.name.room();
        let seat = room.seats.remove(&self.id);
        if seat.as_ref().is_some_and(|seat| seat.waited) {
            room.needed_at = now;
        }
        // Its waker may be the last of a task that has a place here as well.
        drop(room);
        drop(seat);
    }
}

/// Looks at a [`Place`] without keeping it.
#[derive(Debug)]
pub(super) struct Peek {
    name: Weak<Name>,
    id: u64,
}

impl Peek {
    /// How many are ahead, if that is known.
    pub(super) fn position(&self) -> Option<u32> {
        let name = self.name.upgrade()?;
        let room = name.room();
        room.seats.get(&self.id)?.view.position()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks leaves them half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
