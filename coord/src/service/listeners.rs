//! [`Listeners`]: the sockets that were bound before `main`, each to be taken once.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::builder::Named;
use crate::error::{Context, Error, Result};

const OPERATION: &str = "take the service's listener";

/// The service's listeners by name, as an argument of `main` or from
/// [`Context::listeners`](super::Context::listeners). Cheap to clone; every clone is the same set.
///
/// ```no_run
/// use coord::{Context, Listeners};
///
/// #[coord::service(listen(grpc = "0.0.0.0:50051", http = "0.0.0.0:8080"))]
/// async fn main(ctx: Context, listeners: Listeners) -> coord::Result<()> {
///     let (grpc, http) = (listeners.take("grpc")?, listeners.take("http")?);
///     ctx.ready();
///     # let _ = (grpc, http);
///     ctx.shutdown().await;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Listeners(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bound: Named<SocketAddr>,
    /// Those that have not been taken.
    left: Mutex<Named<std::net::TcpListener>>,
    /// Cancelled when the last has been.
    all_taken: CancellationToken,
}

impl Listeners {
    pub(super) fn new(listeners: Named<std::net::TcpListener>) -> Result<Self> {
        let bound = listeners.iter().map(|(name, listener)| {
            let address = listener.local_addr();
            address.map(|address| (name.clone(), address))
        });
        let bound = bound.collect::<std::io::Result<_>>();
        Ok(Self(Arc::new(Inner {
            bound: bound
                .map_err(|error| unusable(error, "the machine does not say its address"))?,
            left: Mutex::new(listeners),
            all_taken: CancellationToken::new(),
        })))
    }

    /// The listener with this name. It was bound before `main` began: until it is accepted from,
    /// connections wait.
    ///
    /// Call it on the service's runtime, or in a `main` that is not async.
    ///
    /// # Errors
    /// [`NotFound`](Error::NotFound) if there is none with this name; [`Invalid`](Error::Invalid) if it
    /// was taken before (it closes when its one owner drops it), or on a thread without a runtime.
    pub fn take(&self, name: &str) -> Result<tokio::net::TcpListener> {
        if !self.0.bound.iter().any(|(known, _)| known == name) {
            return Err(Error::NotFound {
                context: Context::new(OPERATION).key(name),
            });
        }
        if tokio::runtime::Handle::try_current().is_err() {
            let fault =
                "a listener is taken on the service's runtime, and this thread is none of it";
            return Err(Error::invalid(OPERATION, fault));
        }
        let mut left = self.0.left.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at) = left.iter().position(|(known, _)| known == name) else {
            return Err(Error::invalid(OPERATION, "it was taken before"));
        };
        let (_, listener) = left.remove(at);
        if left.is_empty() {
            self.0.all_taken.cancel();
        }
        tokio::net::TcpListener::from_std(listener)
            .map_err(|error| unusable(error, "the runtime does not take it"))
    }

    /// The only one.
    pub(super) fn only(&self) -> Result<tokio::net::TcpListener> {
        self.sole("write `listeners().take(…)` with one of")
    }

    /// The only one. `mend`: what to do with their names where there are several.
    fn sole(&self, mend: &str) -> Result<tokio::net::TcpListener> {
        match self.0.bound.as_slice() {
            [(name, _)] => self.take(name),
            [] => Err(Error::NotConfigured {
                context: Context::new(OPERATION),
                detail: "it listens nowhere: add `listen = \"0.0.0.0:50051\"` to \
                         `#[coord::service]`, or set COORD_LISTEN"
                    .into(),
            }),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .map(|(name, _)| format!("{name:?}"))
                    .collect();
                let fault = format!("there are several: {mend} {}", names.join(", "));
                Err(Error::invalid(OPERATION, fault))
            }
        }
    }

    /// The only one, or of several the one for gRPC.
    #[cfg(feature = "grpc")]
    pub(super) fn grpc(&self) -> Result<tokio::net::TcpListener> {
        match self.0.bound.iter().any(|(name, _)| name == "grpc") {
            true => self.take("grpc"),
            false => self.sole("call the one for gRPC `grpc`, instead of one of"),
        }
    }

    pub(super) fn bound(&self) -> &Named<SocketAddr> {
        &self.0.bound
    }

    pub(super) async fn all_taken(&self) {
        self.0.all_taken.cancelled().await;
    }
}

fn unusable(error: std::io::Error, detail: &'static str) -> Error {
    Error::Unavailable {
        context: Context::new(OPERATION).cause(error),
        maybe_applied: false,
        detail: detail.into(),
    }
}
