//! The process-wide coordinator, and the one that a runtime carries.
//!
//! A function with `#[locked]` has no coordinator among its arguments. It uses the one that its
//! attribute names, else [`global`]: the one that the runtime carries whose thread polls it (a
//! service's or a test's runtime does), else the process-wide one.

use std::{
    cell::RefCell,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{runtime, sync::Mutex};

use crate::{
    coordinator::{Coordinator, WeakCoordinator},
    error::{Context, Error, Result},
    lock::{LockBuilder, LockGuard},
    options::Options,
};

static GLOBAL: RwLock<Option<Coordinator>> = RwLock::new(None);
/// Held while the first use connects: the others wait for the same connection, or for the same
/// failure, which stays here.
static CONNECTING: Mutex<Option<Error>> = Mutex::const_new(None);
/// How often that has failed.
static FAILURES: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CARRIED: RefCell<Option<WeakCoordinator>> = const { RefCell::new(None) };
}

/// Makes `coordinator` the one that [`global`] returns, in place of any before: everywhere but on the
/// runtimes of `#[coord::service]` and `#[coord::test]`, which have one of their own.
pub fn set_global(coordinator: Coordinator) {
    let before = GLOBAL
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(coordinator);
    // Outside the lock: this may be the last clone, whose drop does work.
    drop(before);
}

fn get() -> Option<Coordinator> {
    GLOBAL
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .clone()
}

/// Makes `coordinator` the global one if there is none yet.
pub(crate) fn set_global_if_none(coordinator: &Coordinator) {
    let mut global = GLOBAL.write().unwrap_or_else(PoisonError::into_inner);
    global.get_or_insert_with(|| coordinator.clone());
}

/// Takes the global coordinator away, if it is this one: for a service that ends.
pub(crate) fn unset_global(coordinator: &Coordinator) {
    let mut global = GLOBAL.write().unwrap_or_else(PoisonError::into_inner);
    let before = global.take_if(|set| set.is_same(coordinator));
    drop(global);
    drop(before);
}

/// The coordinator for code that was given none: on a runtime of `#[coord::service]` or
/// `#[coord::test]`, that service's or test's; else the one given to [`set_global`]; else the first
/// use connects from the environment, if `COORD_ENDPOINTS` is set, or `COORD_MODE=off`.
///
/// Nobody closes the process-wide one, nor what was given to [`set_global`]: a program that is about
/// to end does ([`close`](Coordinator::close)), else what is still to be given back runs out with its
/// lease.
///
/// # Errors
/// [`NotConfigured`](Error::NotConfigured) if there is none; what [`connect`](Coordinator::connect)
/// says; [`Closed`](Error::Closed) on a runtime whose service or test has ended.
///
/// # Cancel safety
/// Safe: the next call connects.
pub async fn global() -> Result<Coordinator> {
    if let Some(carried) = carried() {
        return carried;
    }
    if let Some(coordinator) = get() {
        return Ok(coordinator);
    }
    let seen = FAILURES.load(Ordering::Acquire);
    let mut failure = CONNECTING.lock().await;
    if let Some(coordinator) = get() {
        return Ok(coordinator);
    }
    // Tried while this one waited: each trying anew in its turn, the last would wait for ever.
    if FAILURES.load(Ordering::Acquire) != seen
        && let Some(error) = &*failure
    {
        return Err(error.clone());
    }
    match from_env().await {
        Ok(coordinator) => {
            set_global_if_none(&coordinator);
            Ok(get().unwrap_or(coordinator))
        }
        Err(error) => {
            *failure = Some(error.clone());
            FAILURES.fetch_add(1, Ordering::AcqRel);
            Err(error)
        }
    }
}

/// The coordinator that the calling thread carries, if it carries one.
pub(crate) fn carried() -> Option<Result<Coordinator>> {
    let carried = CARRIED.with_borrow(Clone::clone)?;
    // Never another one in its place: that could be of another cluster.
    let closed = || Error::closed("use the runtime's coordinator");
    Some(carried.upgrade().ok_or_else(closed))
}

async fn from_env() -> Result<Coordinator> {
    let connected = Coordinator::connect(Options::from_env()?).await;
    connected.map_err(|error| match error {
        Error::NotConfigured { .. } => Error::NotConfigured {
            context: Context::new("use the global coordinator"),
            detail: "none was set with `coord::set_global`, and COORD_ENDPOINTS names no endpoint"
                .into(),
        },
        error => error,
    })
}

/// Acquires the locks `names` for a function that may name its coordinator and usually does not. `how`
/// gives them the words of its attribute.
pub(crate) async fn acquire(
    names: impl IntoIterator<Item = Result<String>>,
    how: impl FnOnce(LockBuilder) -> LockBuilder,
    via: Option<&Coordinator>,
) -> Result<LockGuard> {
    let names = names.into_iter().collect::<Result<Vec<_>>>()?;
    let coordinator = match via {
        Some(coordinator) => coordinator.clone(),
        None => global().await?,
    };
    how(coordinator.locks().lock_all(names)).acquire().await
}

/// Makes the threads of the runtime that `builder` will build carry `coordinator`. The thread that
/// calls `block_on` is not one of them: see [`enter`].
pub(crate) fn carry(builder: &mut runtime::Builder, coordinator: &Coordinator) {
    let weak = coordinator.downgrade();
    builder.on_thread_start(move || CARRIED.set(Some(weak.clone())));
}

/// Makes the calling thread carry `coordinator` until the guard is dropped.
pub(crate) fn enter(coordinator: &Coordinator) -> Entered {
    Entered(CARRIED.replace(Some(coordinator.downgrade())))
}

/// See [`enter`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Entered(Option<WeakCoordinator>);

impl Drop for Entered {
    fn drop(&mut self) {
        CARRIED.set(self.0.take());
    }
}
