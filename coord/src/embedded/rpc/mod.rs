//! The protocol: etcd's services over the core.

mod cluster;
mod kv;
mod lease;
mod maintenance;
mod watch;

use std::{sync::Arc, time::Duration};

use etcd_client::proto::{
    PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer,
};
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Code, Response, Status, body::Body};
use tower::Service;

use super::{
    core::{Core, Refusal},
    faults::{Fate, Rpc},
    link::Link,
    state::State,
};

/// The largest message: etcd's 1.5 MiB for a request, and what it adds for the rest.
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// What a stream answers.
type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The services, for one connection.
#[derive(Clone, Debug)]
pub(super) struct Services {
    state: Arc<State>,
    link: Link,
}

impl Services {
    pub(super) fn new(state: Arc<State>, link: Link) -> Self {
        Self { state, link }
    }

    pub(super) async fn answer(&self, request: http::Request<Body>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        let fate = Rpc::unary(&path).map_or(Fate::Served, |rpc| self.state.faults.meet(rpc));
        if fate == Fate::Refused {
            return refused().into_http();
        }
        let response = self.dispatch(&path, request).await;
        if fate == Fate::ReplyLost {
            return self.vanish().await;
        }
        // An answer that begins with its status is a refusal.
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() == Code::Unimplemented && status.message().is_empty() => {
                unknown(&path).into_http()
            }
            Some(status) => in_etcds_words(status).into_http(),
            None => response,
        }
    }

    async fn dispatch(&self, path: &str, request: http::Request<Body>) -> http::Response<Body> {
        /// One of tonic's servers over these services, asked.
        macro_rules! ask {
            ($server:ident) => {
                $server::from_arc(Arc::new(self.clone()))
                    .max_decoding_message_size(MAX_MESSAGE_BYTES)
                    .call(request)
                    .await
            };
        }
        let service = path.rsplit_once('/').map(|(service, _)| service);
        let response = match service {
            Some("/etcdserverpb.KV") => ask!(PbKvServer),
            Some("/etcdserverpb.Watch") => ask!(PbWatchServer),
            Some("/etcdserverpb.Lease") => ask!(PbLeaseServer),
            Some("/etcdserverpb.Maintenance") => ask!(PbMaintenanceServer),
            Some("/etcdserverpb.Cluster") => ask!(PbClusterServer),
            // Not all messages of this service have names, so that it cannot be implemented. Of an
            // etcd without users a client needs no more than to hear that it is one.
            Some("/etcdserverpb.Auth") if path.ends_with("/Authenticate") => {
                let words = "etcdserver: authentication is not enabled";
                return Status::failed_precondition(words).into_http();
            }
            _ => return Status::unimplemented("").into_http(),
        };
        response.unwrap_or_else(|never| match never {})
    }

    /// Runs a call that writes, unless its connection has been cut meanwhile: it may have been meant
    /// for a store that a restored one has taken the place of.
    fn write<R>(
        &self,
        run: impl FnOnce(&mut Core, Duration) -> Result<R, Refusal>,
    ) -> Result<Response<R>, Status> {
        self.state.lease_call(|core, now| {
            if self.link.is_cut() {
                return Err(Status::unavailable("the connection is closed"));
            }
            Ok(Response::new(run(core, now)?))
        })
    }

    /// Cuts the connection, so that there is nobody to answer.
    async fn vanish<T>(&self) -> T {
        self.link.cut();
        std::future::pending().await
    }
}

/// The words in which a member without a leader refuses: nothing was done.
fn refused() -> Status {
    Status::unavailable("etcdserver: no leader")
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.message)
    }
}

/// A stream of answers, from its first one on: as with etcd, a call has begun when there is one.
async fn begun<T: Send + 'static>(mut answers: Answers<T>) -> Result<Response<Answers<T>>, Status> {
    match answers.next().await {
        Some(Ok(first)) => {
            let first = stream::once(std::future::ready(Ok(first)));
            Ok(Response::new(first.chain(answers).boxed()))
        }
        Some(Err(status)) => Err(status),
        None => Ok(Response::new(answers)),
    }
}

/// The words of etcd's gRPC library, which clients know, for a message that tonic finds too large.
fn in_etcds_words(status: Status) -> Status {
    let found = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")
        .and_then(|rest| rest.split(' ').next());
    match found {
        Some(found) => Status::resource_exhausted(format!(
            "grpc: received message larger than max ({found} vs. {MAX_MESSAGE_BYTES})"
        )),
        None => status,
    }
}

/// Its words for a call that there is not.
fn unknown(path: &str) -> Status {
    const SERVED: [&str; 6] = ["KV", "Watch", "Lease", "Maintenance", "Cluster", "Auth"];
    let path = path.trim_start_matches('/');
    let Some((service, method)) = path.rsplit_once('/') else {
        return Status::unimplemented(format!("malformed method name: {path:?}"));
    };
    let name = service.strip_prefix("etcdserverpb.");
    if name.is_some_and(|name| SERVED.contains(&name)) {
        Status::unimplemented(format!("unknown method {method} for service {service}"))
    } else {
        Status::unimplemented(format!("unknown service {service}"))
    }
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbKvService as _, PbPutRequest};
    use tonic::Request;

    use super::*;

    #[tokio::test]
    async fn what_was_on_its_way_when_its_connection_was_cut_is_not_done() {
        let state = Arc::new(State::new(String::new()));
        let connect = || Services::new(state.clone(), state.door.admit().expect("open"));
        let put = || {
            let key = "key".into();
            Request::new(PbPutRequest {
                key,
                ..PbPutRequest::default()
            })
        };
        let (old, unaffected) = (connect(), connect());
        old.put(put()).await.expect("it is connected");
        old.link.cut();
        old.put(put()).await.expect_err("it is cut");
        unaffected.put(put()).await.expect("it is connected");
        state.door.hang_up();
        unaffected.put(put()).await.expect_err("it is cut");
        connect().put(put()).await.expect("it is connected");
        assert_eq!(state.call(|core| core.revision()), 4);
    }
}
