//! gRPC channels that find a service's instances in the registry and balance calls over them.
//!
//! | file | what it holds |
//! |---|---|
//! | `builder.rs` | [`ChannelBuilder`], [`Strategy`]: what the caller wants |
//! | `channel.rs` | [`Channel`]: what a generated client calls |
//! | `call.rs` | one call: pick, send, or wait; again, if it was never sent |
//! | `search.rs` | where a call goes, or how long it waits for a place |
//! | `deadline.rs` | how long a call may take |
//! | `underway.rs` | a call on an endpoint, as its channel counts it |
//! | `request.rs` | a request that can be sent again |
//! | `status.rs` | what a failure means: whether the call may be repeated, what the caller is told |
//! | `caller.rs` | the caller's name |
//! | `body.rs` | [`ResponseBody`]: a call lasts until its end |
//! | `keeper.rs` | the one task of a channel: follows the registry, connects, publishes the ready set |
//! | `filter.rs` | which instances suit the channel |
//! | `members.rs` | the endpoints, and what follows for all from what happens to one; without IO |
//! | `state.rs` | what becomes of an endpoint: a state machine without IO |
//! | `shares.rs` | which of the ready ones calls go to: zones, slow start |
//! | `gauges.rs` | the endpoints by state, as a metric |
//! | `dial.rs`, `tls.rs`, `wire.rs` | how a connection is made, and when it counts as made |
//! | `connection.rs` | one HTTP/2 connection |
//! | `endpoint.rs`, `load.rs` | one instance, as calls and pickers see it |
//! | `ready.rs` | what is picked from; immutable |
//! | `probe.rs` | an ejected endpoint that one call may try |
//! | `pick/` | the strategies |
//!
//! # Invariants
//! 1. A call goes through no task of ours: it picks from an immutable set and sends on the
//!    connection itself.
//! 2. Only the keeper changes the set, and it does so whether or not there are calls.
//! 3. A call that may have reached a server is never repeated.
//! 4. That the registry is silent, or empty, closes no connection that answers.

mod body;
mod builder;
mod call;
mod caller;
mod channel;
mod connection;
mod deadline;
mod dial;
mod endpoint;
mod filter;
mod gauges;
mod keeper;
mod load;
mod members;
mod meter;
mod pick;
mod probe;
mod ready;
mod request;
mod search;
mod shared;
mod shares;
mod state;
mod status;
#[cfg(feature = "tls")]
mod tls;
mod underway;
mod wire;

pub use body::ResponseBody;
pub use builder::{ChannelBuilder, Strategy};
pub use caller::{CALLER, Caller, caller};
pub use channel::Channel;
