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
    use crate::{Coordinator, Error, LockGuard, Result, global, key};
    pub use crate::{
        key::Part,
        lock::{LockBuilder, Outcome, Returns, Run, Skip},
    };

    pub const fn returns<R: Outcome>() -> Returns<R> {
        Returns::new()
    }

    pub const fn returns_by<R>(error: fn(Error) -> R, is_ok: fn(&R) -> bool) -> Returns<R> {
        Returns::by(error, is_ok)
    }

    pub const fn skip<R: Skip>() -> fn() -> R {
        R::skipped
    }

    pub fn key(parts: &[Part<'_>]) -> Result<String> {
        key::join("acquire lock", parts)
    }

    pub const fn via(coordinator: &Coordinator) -> Option<&Coordinator> {
        Some(coordinator)
    }

    pub async fn enter<R, const N: usize>(
        returns: Returns<R>,
        names: [Result<String>; N],
        how: impl FnOnce(LockBuilder) -> LockBuilder,
        via: Option<&Coordinator>,
    ) -> Result<LockGuard, R> {
        global::acquire(names, how, via)
            .await
            .map_err(|error| returns.failed(error))
    }
}

/// `#[coord::service]`.
pub mod service {
    pub use crate::service::{
        MainReturn, NoId, OnExhausted, OnIdLost, Ready, Returns, Service, WithId, argument, launch,
        launch_sync, returns,
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
