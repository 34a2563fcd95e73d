//! [`Context::serve_tonic`]: a tonic server that leaves as its service does.

mod health;
mod incoming;

use std::{error::Error as StdError, pin::pin, time::Duration};

use http::{Request, Response};
use tonic::{body::Body, codegen::Bytes, service::Routes, transport::server::Router};
use tonic_health::pb::health_server::HealthServer;
use tower::{Layer, Service};

use self::{health::Health, incoming::Ends};
use super::{Context, settings::Settings};
use crate::{
    clock::Clock,
    error::{Context as ErrorContext, Error, Result},
};

/// A client that has connected just before the server stops has so long for its first word.
const GREETING: Duration = Duration::from_secs(1);

/// What [`Context::serve_tonic`] needs of the settings.
#[derive(Debug)]
pub(super) struct Terms {
    clock: Clock,
    ready_by_hand: bool,
    /// What is still open this long after the server was told to stop is cut.
    limit: Duration,
}

impl Terms {
    pub(super) fn new(settings: &Settings, clock: &Clock) -> Self {
        let limit = settings.shutdown_timeout;
        // What is left is `main`'s, to return: past the limit it would be dropped.
        let rest = (limit / 10).min(Duration::from_secs(1));
        Self {
            clock: clock.clone(),
            ready_by_hand: settings.ready_by_hand,
            limit: limit - rest,
        }
    }
}

impl Context {
    /// Serves these gRPC services until the service stops; returns when the last call has ended.
    ///
    /// ```no_run
    /// # use tonic_health::pb::health_server::{Health, HealthServer};
    /// # async fn users<T: Health>(users: HealthServer<T>, ctx: coord::Context) -> coord::Result<()> {
    /// use tonic::transport::Server;
    ///
    /// ctx.serve_tonic(Server::builder().add_service(users)).await
    /// # }
    /// ```
    ///
    /// It accepts from the service's only [listener](Self::listener), or of several from the one
    /// called `grpc`. TLS, layers and limits are what the router's builder was given; what that says
    /// of the TCP connections does not count: `TCP_NODELAY` is on.
    ///
    /// The service is [ready](Self::ready) from here on, unless the word `ready = manual` was written
    /// down: then `main` says when, from another task.
    ///
    /// # Health
    /// [`grpc.health.v1.Health`](https://github.com/grpc/grpc/blob/master/doc/health-checking.md) is
    /// served beside the router's services (do not add it to the router: it panics on a second one).
    /// It answers `SERVING` while others are to find the service: it is ready, it is not stopping, and
    /// its [registration](Self::registration) is healthy. A coord service can serve as a whole or not
    /// at all, so the answer is the same whichever name is asked for.
    ///
    /// # How it stops
    /// 1. `NOT_SERVING`; then the record is marked as draining, and removed.
    /// 2. For `drain` calls are still served, new ones too: others may not have heard yet.
    /// 3. The listener closes, callers are told that no more calls are taken on their connections
    ///    (GOAWAY), and calls that have begun go on. Those who watch its health see the watch's end. A
    ///    connection on which no client has said a word is closed a second later.
    /// 4. What is open shortly before `shutdown_timeout` is over (a tenth of it, at most a second) is
    ///    cut, so that `main` can return in time.
    ///
    /// # Errors
    /// As [`listener`](Self::listener), and [`Unavailable`](Error::Unavailable) if a layer of the
    /// router fails to make the service of a connection.
    ///
    /// # Cancel safety
    /// Dropped, it cuts all connections and closes the listener.
    pub async fn serve_tonic<L, B>(&self, router: Router<L>) -> Result<()>
    where
        L: Layer<Routes>,
        L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send,
        <L::Service as Service<Request<Body>>>::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let Terms {
            clock,
            ready_by_hand,
            limit,
        } = self.serve_terms();
        let listener = self.listeners().grpc()?;
        let router = router.add_service(HealthServer::new(Health::new(self.clone())));
        let ends = Ends::default();
        let incoming = incoming::accept(listener, clock.clone(), ends.clone());
        // tonic's connections are tasks of their own: they must not outlive this.
        let _cut_at_the_end = ends.cut.clone().drop_guard();
        if !ready_by_hand {
            self.ready();
        }
        let mut serving = pin!(router.serve_with_incoming_shutdown(incoming, self.shutdown()));
        let limit_passed = async {
            self.shutdown().await;
            let greeting = GREETING.min(*limit);
            clock.sleep(greeting).await;
            ends.silent.cancel();
            clock.sleep(*limit - greeting).await;
        };
        let served = tokio::select! {
            served = &mut serving => served,
            () = limit_passed => {
                tracing::warn!(target: "coord::service", service = self.service(),
                    "calls have not ended {} after the server was told to stop: cutting them off",
                    humantime::format_duration(*limit));
                ends.cut.cancel();
                serving.await
            }
        };
        served.map_err(|error| Error::Unavailable {
            context: ErrorContext::new("serve gRPC").cause(error),
            maybe_applied: false,
            detail: "the router makes no service for a connection".into(),
        })
    }
}
