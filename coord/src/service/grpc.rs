//! [`Context::serve_tonic`]: a tonic server that leaves as its service does.

mod health;
mod incoming;

use std::{error::Error as StdError, pin::pin, time::Duration};

use http::{Request, Response};
use tonic::{body::Body, codegen::Bytes, service::Routes, transport::Server};
use tonic_health::pb::health_server::HealthServer;
use tower::{Layer, Service, util::MapRequestLayer};

use self::{health::Health, incoming::Ends};
use super::{Context, settings::Settings};
use crate::{
    clock::Clock,
    error::{Context as ErrorContext, Error, Result},
};

/// A client that has connected just before the server stops has so long for its first word.
const GREETING: Duration = Duration::from_secs(1);

/// After so long without a new request, where nobody says how long, all seem to have heard that the
/// service leaves.
const QUIET: Duration = Duration::from_secs(1);

/// What [`Context::serve_tonic`] needs of the settings.
#[derive(Debug)]
pub(super) struct Terms {
    clock: Clock,
    ready_by_hand: bool,
    quiet: Option<Duration>,
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
            quiet: settings.quiet,
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
    /// use tonic::{service::Routes, transport::Server};
    ///
    /// ctx.serve_tonic(Server::builder(), Routes::new(users)).await
    /// # }
    /// ```
    ///
    /// It accepts from the service's only [listener](Self::listener), or of several from the one
    /// called `grpc`. TLS, layers and limits are what `server` was given; what it says of the TCP
    /// connections does not count: `TCP_NODELAY` is on. The services are taken by themselves, and not
    /// as `server`'s router, because a router of tonic's does not tell of its requests.
    ///
    /// The service is [ready](Self::ready) from here on, unless the word `ready = manual` was written
    /// down: then `main` says when, from another task.
    ///
    /// # Health
    /// [`grpc.health.v1.Health`](https://github.com/grpc/grpc/blob/master/doc/health-checking.md) is
    /// served beside the services (do not add it to them: tonic panics on a second one).
    /// It answers `SERVING` while others are to find the service: it is ready, it is not stopping, and
    /// its [registration](Self::registration) is healthy. A coord service can serve as a whole or not
    /// at all, so the answer is the same whichever name is asked for.
    ///
    /// # How it stops
    /// 1. `NOT_SERVING`; then the record is marked as draining, and removed.
    /// 2. Calls are still served, new ones too: others may not have heard yet. Once no new one has come
    ///    for `quiet` they have; else this ends with `drain`. What is in flight does not count, nor do
    ///    health checks and what a layer of `server` answers by itself; one that has to wait for a
    ///    limit counts when it is let in. Time in which the process or its runtime stood still is not
    ///    quiet. Of a service that has further listeners, whose requests are not heard of, and where
    ///    `quiet` is not written down, this is the whole `drain`; so it is if etcd did not confirm that
    ///    the record is gone.
    /// 3. The listener closes, once those who wait there have been accepted; callers are told that no
    ///    more calls are taken on their connections (GOAWAY), and calls that have begun go on. Those who
    ///    watch its health see the watch's end. A connection on which no client has said a word is
    ///    closed a second later.
    /// 4. What is open shortly before `shutdown_timeout` is over (a tenth of it, at most a second) is
    ///    cut, so that `main` can return in time.
    ///
    /// # Errors
    /// As [`listener`](Self::listener), and [`Unavailable`](Error::Unavailable) if a layer of
    /// `server` fails to make the service of a connection.
    ///
    /// # Cancel safety
    /// Dropped, it cuts all connections and closes the listener. The same happens when `main` returns
    /// while a task of its own serves: wait for that task.
    pub async fn serve_tonic<L, B>(&self, mut server: Server<L>, routes: Routes) -> Result<()>
    where
        L: Layer<Routes> + Clone,
        L::Service: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        <L::Service as Service<Request<Body>>>::Future: Send,
        <L::Service as Service<Request<Body>>>::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let Terms {
            clock,
            ready_by_hand,
            quiet,
            limit,
        } = self.serve_terms();
        let listener = self.listeners().grpc()?;
        let alone = self.listeners().bound().len() == 1;
        if let Some(quiet) = quiet.or(alone.then_some(QUIET)) {
            self.requests().all_are_heard_of(quiet);
        }
        // Before the health protocol is among them: who asks for that again and again has heard.
        let routes = self.heard(routes);
        let routes = routes.add_service(HealthServer::new(Health::new(self.clone())));
        let router = server.add_routes(routes);
        let ends = Ends::default();
        let incoming = incoming::accept(listener, self.shutdown(), clock.clone(), ends.clone());
        // tonic's connections are tasks of their own: they must not outlive this.
        let _cut_at_the_end = ends.cut.clone().drop_guard();
        if !ready_by_hand {
            self.ready();
        }
        // That there are no more connections is what stops it. Without a signal, tonic would not take
        // leave of those that are there.
        let no_signal = std::future::pending();
        let mut serving = pin!(router.serve_with_incoming_shutdown(incoming, no_signal));
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

    /// The same; whoever asks for a route is heard of.
    fn heard(&self, routes: Routes) -> Routes {
        let context = self.clone();
        let heard = MapRequestLayer::new(move |request: Request<_>| {
            context.requests().came();
            request
        });
        routes.into_axum_router().layer(heard).into()
    }
}
