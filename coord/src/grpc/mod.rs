//! gRPC channels that find a service's instances in the registry and balance calls over them.
//!
//! ```
//! # use coord::InstanceSpec;
//! # use tonic::transport::{Server, server::TcpIncoming};
//! # use tonic_health::{pb::{HealthCheckRequest, health_client::HealthClient}, server::health_reporter};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let etcd = coord::embedded::Server::start().await?;
//! # let coordinator = etcd.coordinator().await?;
//! # let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?;
//! # let spec = InstanceSpec::new("user-service", incoming.local_addr()?.to_string());
//! # let (_, users) = health_reporter();
//! # let server = Server::builder().add_service(users).serve_with_incoming(incoming);
//! # let server = tokio::spawn(server);
//! # let registration = coordinator.registry().register(spec).await?;
//! # type UserClient<C> = HealthClient<C>;
//! // Any client that tonic generates takes it; it is cheap to clone, and made once.
//! let mut users = UserClient::new(coordinator.channel("user-service").await?);
//! # let who = HealthCheckRequest::default();
//! let answer = users.check(who).await?;
//! # assert_eq!(answer.get_ref().status, 1);
//! # coordinator.close().await;
//! # server.abort();
//! # Ok(())
//! # }
//! ```
//!
//! What tonic's own channel takes, this takes as well: `UserClient::with_interceptor`, tower's layers
//! around it, streams both ways.
//!
//! ```
//! # use std::time::Duration;
//! # use tonic::{Request, Status};
//! # use tonic_health::pb::health_client::HealthClient as UserClient;
//! # async fn clients(coordinator: &coord::Coordinator) -> coord::Result<()> {
//! let channel = coordinator.channel("user-service").await?;
//! let users = UserClient::with_interceptor(channel.clone(), |mut request: Request<()>| {
//!     let token = "Bearer …".parse().map_err(|_| Status::internal("no token"))?;
//!     request.metadata_mut().insert("authorization", token);
//!     Ok(request)
//! });
//! let few = tower::ServiceBuilder::new().concurrency_limit(64).service(channel);
//! let users = UserClient::new(few);
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes of a call
//! | what happens | what the call does |
//! |---|---|
//! | instances are ready | it goes to the one that the [`Strategy`] picks, on a connection that is there |
//! | none is | it waits for one, up to [`wait`](ChannelBuilder::wait) or its own deadline, then `UNAVAILABLE` with what the registry and the connections look like |
//! | the server has hung up before it began, known to the system if not yet here | it goes to another instance (on Linux; elsewhere once it is known here) |
//! | its connection closes, and no server has processed it | it goes to another instance, if all of the request is still here: `UNAVAILABLE` if it is larger than 4 MiB, or a stream of requests of which some were sent |
//! | its connection breaks, and one may have | `UNAVAILABLE`: it is never repeated |
//! | its deadline passes | `DEADLINE_EXCEEDED` |
//! | the caller drops it | the server is told; of a stream both ways once the requests have ended, too |
//!
//! # What becomes of an instance
//! | what happens | what the channel does |
//! |---|---|
//! | it is registered | connects to it, before calls need it |
//! | its weight, tags or metadata change | keeps the connection |
//! | it leaves (it drains, or deregisters) | picks it only while no other is ready, and its connection lives; what is in flight there goes on to its end |
//! | it says that it is not well, or does not suit the channel any more | picks it no more; what is in flight there goes on to its end |
//! | it vanishes from the registry without a word | uses it as long as it answers: an outage of etcd, or an emptied registry, costs no call |
//! | it cannot be connected to | tries again, with pauses that grow |
//! | its calls fail, five in a row | takes it out, at most a part of the instances at once, and lets one call try it after a while |
//!
//! A call fails so if it ends with `UNAVAILABLE`, also when another instance then answers it, or if its
//! stream is reset. One whose deadline passes does if the instance has answered nobody for a second: a
//! deadline that no instance can meet takes none out. What else an instance answers are answers.
//!
//! A connection takes two file descriptors on Linux, and one elsewhere.
//!
//! Of an instance with several addresses the one called `grpc` is used, else the first. What Go's
//! `naming/endpoints` has registered is balanced over, too.
//!
//! # Servers
//! `Context::serve_tonic` serves tonic's routes as long as its `#[coord::service]` lives, with
//! gRPC's health protocol, and leaves so that no call is lost. `caller(request.metadata())` tells a
//! server who calls it: see [`caller`](caller()).
//!
//! # Coming from elsewhere
//! | there | here |
//! |---|---|
//! | tonic: `Channel::balance_list`, `balance_channel` | `coordinator.channel(name)`; `Endpoint`'s settings are the [builder](ChannelBuilder)'s |
//! | tonic: `Endpoint::http2_keep_alive_interval` | [`keep_alive`](ChannelBuilder::keep_alive); a machine that has died is found without |
//! | grpc-go: `round_robin`, `weighted_round_robin`, `least_request` | [`Strategy`]; the weights are those of the registry |
//! | grpc-go: `WaitForReady` | how it is, for [`wait`](ChannelBuilder::wait); zero: fail fast |
//! | grpc-go: `retryPolicy` of a service config | none: what no server has processed is sent again by itself, and whether any other may be repeated the caller alone knows |
//! | go-zero: `p2c_ewma`, `Timeout`, `NonBlock` | the default, [`timeout`](ChannelBuilder::timeout), how it is: a channel is made with no instance there, too |
//! | go-zero: `Endpoints`; fixed addresses without a registry | `COORD_MODE=off` with `COORD_STATIC_USER_SERVICE`; else tonic's own channel |
//! | kratos: `WithNodeFilter(filter.Version(…))`, `WithDiscovery` | [`version`](ChannelBuilder::version), [`tag`](ChannelBuilder::tag); the registry is the coordinator's |
//! | Spring Cloud LoadBalancer: zone preference, health checks | [`zone`](ChannelBuilder::zone); an instance says how it is, and calls that fail take it out |
//!
//! # Metrics and spans
//! | metric | labels | what |
//! |---|---|---|
//! | `coord_grpc_calls_total` | `service`, `outcome` | calls that have ended: `answered` (also with an application's error), `overloaded`, `failed`, `dropped` by the caller, `unserved` (nobody to call) |
//! | `coord_grpc_resends_total` | `service` | calls that went to another instance, since the one before had not processed them |
//! | `coord_grpc_wait_seconds` | `service` | how long calls waited for an instance that had to |
//! | `coord_grpc_endpoints` | `service`, `state` | the instances, as the channels to the service see them: `ready`, `connecting`, `backing_off`, `ejected`, `draining` |
//! | `coord_grpc_connect_failures_total` | `service` | connections that could not be made |
//! | `coord_grpc_ejections_total` | `service` | instances that were taken out because calls to them failed |
//! | `coord_grpc_updates_total` | `service` | how often what is picked from has changed |
//!
//! A recorder that is installed later than a channel is made is told of what happens from then on.
//!
//! Each attempt of a call is a span `grpc.call` at debug level, with `service`, `instance` and
//! `attempt`.
//!
//! # Versions
//! Clients and servers are those of tonic 0.14. A client of another transport can be given the
//! [`Channel`], which is a `tower::Service` of HTTP requests.

// | file | what it holds |
// |---|---|
// | `builder.rs` | [`ChannelBuilder`], [`Strategy`]: what the caller wants |
// | `channel.rs` | [`Channel`]: what a generated client calls |
// | `call.rs` | one call: pick, send, or wait; again, if it was never sent |
// | `search.rs` | where a call goes, or how long it waits for a place |
// | `deadline.rs` | how long a call may take |
// | `underway.rs` | a call on an endpoint, as its channel counts it |
// | `request.rs` | a request that can be sent again |
// | `status.rs` | what a failure means: whether the call may be repeated, what the caller is told |
// | `caller.rs` | the caller's name |
// | `body.rs` | [`ResponseBody`]: a call lasts until its end |
// | `keeper.rs` | the one task of a channel: follows the registry, connects, publishes the ready set |
// | `filter.rs` | which instances suit the channel |
// | `members.rs` | the endpoints, and what follows for all from what happens to one; without IO |
// | `state.rs` | what becomes of an endpoint: a state machine without IO |
// | `shares.rs` | which of them calls go to: zones, slow start, those that leave |
// | `gauges.rs` | the endpoints by state, as a metric |
// | `dial.rs`, `tls.rs`, `wire.rs` | how a connection is made, and when it counts as made |
// | `connection.rs` | one HTTP/2 connection |
// | `endpoint.rs`, `load.rs` | one instance, as calls and pickers see it |
// | `ready.rs` | what is picked from; immutable |
// | `probe.rs` | an ejected endpoint that one call may try |
// | `pick/` | the strategies |
//
// # Invariants
// 1. A call goes through no task of ours: it picks from an immutable set and sends on the
//    connection itself.
// 2. Only the keeper changes the set, and it does so whether or not there are calls.
// 3. A call that may have reached a server is never repeated.
// 4. That the registry is silent, or empty, closes no connection that answers.

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
mod socket;
mod state;
mod status;
#[cfg(feature = "tls")]
mod tls;
mod underway;
mod wire;

pub use body::ResponseBody;
pub use builder::{ChannelBuilder, Strategy};
pub use call::Call;
pub use caller::{CALLER, Caller, caller};
pub use channel::Channel;
