//! The names of the metrics, through the `metrics` facade: the same across releases, so that a
//! dashboard outlives an upgrade. The docs of `LockBuilder` tell users those of locks.

/// Counter, by `prefix`: config changes that were refused. The value from before stays in use.
pub(crate) const CONFIG_REFUSALS: &str = "coord_config_refusals_total";
/// Counter: records of config history that could not be read and were skipped.
pub(crate) const BAD_CONFIG_RECORDS: &str = "coord_config_bad_records_total";
/// Counter: registry records that could not be read and were skipped.
pub(crate) const BAD_RECORDS: &str = "coord_registry_bad_records_total";
/// Histogram, by `lock` (its label): how long those waited who got it, in seconds.
pub(crate) const LOCK_WAIT: &str = "coord_lock_wait_seconds";
/// Histogram, by `lock` (its label): how long it was held, in seconds.
pub(crate) const LOCK_HOLD: &str = "coord_lock_hold_seconds";
/// Counter, by `lock` (its label) and `reason`: locks that were lost while they were held.
pub(crate) const LOCKS_LOST: &str = "coord_locks_lost_total";
/// Gauge, by `service` and `state`: the endpoints of the gRPC channels to it.
#[cfg(feature = "grpc")]
pub(crate) const GRPC_ENDPOINTS: &str = "coord_grpc_endpoints";
/// Counter, by `service`: dials that made no connection.
#[cfg(feature = "grpc")]
pub(crate) const GRPC_CONNECT_FAILURES: &str = "coord_grpc_connect_failures_total";
/// Counter, by `service`: endpoints that were taken out because calls to them failed.
#[cfg(feature = "grpc")]
pub(crate) const GRPC_EJECTIONS: &str = "coord_grpc_ejections_total";
/// Counter, by `service`: how often what a channel picks from has changed.
#[cfg(feature = "grpc")]
pub(crate) const GRPC_UPDATES: &str = "coord_grpc_updates_total";
/// Counter, by `service` and `outcome`: calls through a channel that have ended: `answered` (also with
/// an application's error), `overloaded`, `failed`, `dropped` by the caller, `unserved` (no endpoint).
#[cfg(feature = "grpc")]
pub(crate) const GRPC_CALLS: &str = "coord_grpc_calls_total";
/// Counter, by `service`: calls that an endpoint has not taken and that went to another.
#[cfg(feature = "grpc")]
pub(crate) const GRPC_RESENDS: &str = "coord_grpc_resends_total";
/// Histogram, by `service`: how long calls have waited for an endpoint that had to, in seconds.
#[cfg(feature = "grpc")]
pub(crate) const GRPC_WAIT: &str = "coord_grpc_wait_seconds";
