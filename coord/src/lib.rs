//! coord
#![allow(dead_code)]

mod client;
mod clock;
pub mod config;
mod engine;
mod error;
mod key;
mod options;
#[doc(hidden)]
pub mod private;
mod retry;
mod session;
mod tasks;
mod watch;

pub use config::{Config, ConfigBuilder, ConfigCenter, CoordConfig};
/// Binds a struct to etcd keys: one key per field, below a prefix.
///
/// ```no_run
/// use coord::CoordConfig;
/// use std::time::Duration;
///
/// #[derive(CoordConfig)]
/// #[coord(prefix = "{env}/shop")]               // /config/prod/shop/…
/// struct Shop {
///     name: String,                             // …/name: required
///     #[coord(default = 100)]
///     max_connections: u32,                     // …/max_connections, or 100
///     #[coord(default = "5s")]
///     timeout: Duration,                        // `etcdctl put …/timeout 1m30s`
///     motto: Option<String>,                    // None while there is no such key
///     #[coord(default = "80,443")]
///     ports: Vec<u16>,                          // `80,443`, `[80,443]`, or ports/0, ports/1
///     #[coord(key = "log/level", default = "info")]
///     log_level: Level,
///     #[coord(nested)]
///     db: Db,                                   // …/db/host, …/db/password
///     #[coord(nested)]
///     cache: Option<Db>,                        // None while nothing is below …/cache
/// }
///
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "lowercase")]
/// enum Level { Debug, Info, Warn }
///
/// #[derive(CoordConfig)]
/// struct Db {
///     host: String,
///     #[coord(secret)]
///     password: String,
/// }
/// ```
///
/// A field's type says how its value is read; nothing is guessed. It may be anything that serde can
/// deserialize: text stands as it is (without quotes), numbers and bools are words, a `Duration`
/// needs a unit, a list is `a,b` or JSON, a struct is keys below its own or one JSON object.
///
/// # On the struct
///
/// | attribute | meaning |
/// |---|---|
/// | `prefix = "…"` | where the keys stand. With a leading `/` it is the key itself, otherwise it is below the coordinator's config prefix. `{name}` is filled at the start: by [`ConfigBuilder::var`], [`Options::vars`], or with the coordinator's own `{service}` and `{namespace}`. Without it, [`ConfigBuilder::prefix`] must be called |
/// | `crate = ::path` | where `coord` is, if the crate is renamed or re-exported |
///
/// # On a field
///
/// | attribute | meaning |
/// |---|---|
/// | `key = "a/b"` | the key below the prefix; default: the field's name |
/// | `default` | without a key the field is `Default::default()` |
/// | `default = expr` | without a key it is the value of the expression |
/// | `default = "text"` | without a key it is what this text would be if it were stored: `"5s"`, `"80,443"`, `"info"` |
/// | `nested` | the field's type derives `CoordConfig` too (`Option`, `Box` and `Arc` of it are fine) |
/// | `secret` | errors, logs and the status never say what the value is or why it was refused |
///
/// Without a default a field must have its key, unless it is an `Option`. A deleted key is a missing
/// key: the default comes back, an `Option` becomes `None`, and a required field refuses the change.
///
/// # Generics
///
/// Type parameters work: those of plain fields must be readable by serde, those of `nested` ones must
/// derive `CoordConfig`.
///
/// ```
/// # use coord::CoordConfig;
/// #[derive(CoordConfig)]
/// struct Limited<T> {
///     limit: u32,
///     #[coord(nested)]
///     of: T,
/// }
/// ```
#[cfg(feature = "macros")]
pub use coord_macros::CoordConfig;
pub use error::{Context as ErrorContext, Error, Holder, LostReason, Result};
pub use options::{
    ConfigOptions, LockOptions, Options, Pem, RegistryOptions, RetryOptions, Secret, TlsOptions,
};
