//! What the macros' expansions call: re-exports and thin calls, no logic. Not part of the API:
//! anything here may change in any release.

#![allow(missing_docs)]

/// `#[derive(CoordConfig)]`.
pub mod config {
    pub use crate::config::{
        apart::apart,
        decode::{
            Checks, Default, Leaf, Map, Probe, Scope, config, json, plain, toml, unchecked,
            write_config,
        },
        document::{Format, Toml, toml_format},
        encoder::Encoder,
        shape::{Field, Shape, Unknown},
    };
    pub use serde::Serialize;

    /// The methods of a `Probe`.
    pub mod probe {
        pub use crate::config::decode::{
            ViaClone, ViaConfig, ViaDisplay, ViaFromStr, ViaKey, ViaNothing, ViaSerde,
            ViaSerialize, ViaWriteConfig, ViaWriteKey,
        };
    }
}

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

    pub const fn via(coordinator: &Coordinator) -> Option<&Coordinator> {
        Some(coordinator)
    }

    pub async fn enter<R>(
        returns: Returns<R>,
        request: Request,
        via: Option<&Coordinator>,
    ) -> Result<LockGuard, R> {
        global::acquire(request, via)
            .await
            .map_err(|error| returns.failed(error))
    }
}

/// `#[coord::service]`.
pub mod service {
    pub use crate::service::{
        MainReturn, NoId, Returns, Service, WithId, argument, launch, returns,
    };
}

/// `#[coord::test]`.
#[cfg(feature = "embedded")]
pub mod testing {
    pub use crate::testing::{
        Test,
        run::{Runtime, argument, run, run_to_panic},
    };
}
