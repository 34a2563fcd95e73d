//! An etcd in memory, for development and tests. Feature `embedded`.
//!
//! ```
//! use coord::embedded::Server;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> coord::Result<()> {
//! let server = Server::start().await?; // on a free port, within milliseconds
//! let coordinator = server.coordinator().await?;
//! let guard = coordinator.lock("orders/42").acquire().await?;
//! guard.unlock().await?;
//! # coordinator.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it is
//! A server that speaks etcd's own protocol, so that clients take it for one: the same code runs on
//! it as in production, and [`etcdctl`] works against its [endpoint](Server::endpoint). Keys with
//! their history, transactions, watches, leases: requests are answered, and refused, as etcd 3.5
//! does it, which tests compare. Any number of servers run side by side, each with a store of its
//! own: one for each test.
//!
//! # What it is not
//! A database: all that it stores is in memory and goes with the [`Server`]. It is one member on one
//! machine, without users, TLS and snapshots. Nothing starts one but a call in the program's own
//! code and [`Mode::Off`](crate::Mode::Off), which has one inside of the process, and says so loudly.
//!
//! # What can go wrong, on demand
//! | what happens in production | here |
//! |---|---|
//! | a lease runs out | [`advance`](Server::advance), [`expire_lease`](Server::expire_lease); [`freeze`](Server::freeze), so that none does |
//! | connections break | [`drop_connections`](Server::drop_connections); for longer: [`refuse_connections`](Server::refuse_connections) |
//! | the server hangs | [`stall`](Server::stall) |
//! | a request is carried out, and nobody hears of it | [`lose_reply`](Server::lose_reply) |
//! | there is no leader | [`refuse`](Server::refuse) |
//! | the history that a watch needs is gone | [`compact`](Server::compact) |
//! | a watch misses an event | [`swallow_event`](Server::swallow_event) |
//! | somebody restores a backup | [`restore`](Server::restore) |
//!
//! ```
//! use coord::embedded::{Rpc, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> coord::Result<()> {
//! let server = Server::start().await?;
//! let coordinator = server.coordinator().await?;
//! let center = coordinator.config_center();
//! let backup = center.set("shop/limit", &7).await?.revision();
//!
//! server.lose_reply(Rpc::Txn);
//! center.set("shop/limit", &8).await?; // asked again, and written once
//! assert_eq!(server.revision(), backup + 1);
//!
//! server.restore(backup)?;
//! assert_eq!(server.revision(), backup);
//! # coordinator.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! A lock whose lease runs out here is lost as [`Revoked`](crate::LostReason::Revoked): somebody else
//! ended it, as far as its holder can see. [`Expired`](crate::LostReason::Expired) is what its holder's
//! own clock says, which no server moves: [`stall`](Server::stall) the server for longer than
//! [`remaining`](crate::Held::remaining), which a short [`ttl`](crate::LockOptions::ttl) keeps short.
//!
//! [`etcdctl`]: https://etcd.io/docs/v3.5/dev-guide/interacting_v3/

mod core;
mod faults;
mod link;
mod rpc;
mod serve;
mod server;
mod state;
mod time;

/// Protocols are tested on it, without a server.
#[cfg(test)]
pub(crate) use self::core::Core;
pub use faults::Rpc;
pub(crate) use server::Inlet;
pub use server::Server;
