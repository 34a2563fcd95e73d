//! What the expansions of the macros call: re-exports and thin glue, no logic. Not public API.

#![allow(missing_docs)]

/// `#[locked]`.
pub mod locked {
    use crate::{Coordinator, LockGuard, Result, global, key};
    pub use crate::{
        key::Part,
        lock::{Outcome, Request, Returns, Run},
    };

    pub const fn returns<R: Outcome>() -> Returns<R> {
        Returns::new()
    }

    pub fn key(parts: &[Part<'_>]) -> Result<String> {
        key::join("acquire lock", parts)
    }

    pub async fn enter<R>(
        returns: Returns<R>,
        request: Request,
        via: Option<&Coordinator>,
    ) -> Result<LockGuard, R> {
        let coordinator = match via {
            Some(coordinator) => Ok(coordinator.clone()),
            None => global::current().await,
        };
        match coordinator {
            Ok(coordinator) => request.acquire(&coordinator.locks()).await,
            Err(error) => Err(error),
        }
        .map_err(|error| returns.failed(error))
    }
}
