//! gRPC channels that find a service's instances in the registry and balance calls over them.
//!
//! | file | what it holds |
//! |---|---|
//! | `builder.rs` | [`ChannelBuilder`], [`Strategy`]: what the caller wants |
//! | `channel.rs` | [`Channel`]: what a generated client calls |
//! | `call.rs` | one call: pick, send, or wait; again, if it was never sent |
//! | `request.rs` | a request that can be sent again |
//! | `body.rs` | [`ResponseBody`]: a call lasts until its end |
//! | `keeper.rs` | the one task of a channel: follows the registry, connects, publishes the ready set |
//! | `state.rs` | what becomes of an endpoint: a state machine without IO |
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
mod channel;
mod connection;
mod endpoint;
mod keeper;
mod load;
mod pick;
mod probe;
mod ready;
mod request;
mod shared;
mod state;

pub use body::ResponseBody;
pub use builder::{ChannelBuilder, Strategy};
pub use channel::Channel;
