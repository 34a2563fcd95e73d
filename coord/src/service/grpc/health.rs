//! [`Health`]: gRPC's health protocol, told by the service itself.

use std::pin::Pin;

use futures_util::{Stream, StreamExt as _, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health as Protocol,
};

use crate::service::Context;

/// Says whether a service is serving. It looks when it is asked, so that nobody is told `SERVING`
/// once others have been told that the service leaves.
#[derive(Debug)]
pub(super) struct Health(Context);

impl Health {
    pub(super) fn new(context: Context) -> Self {
        Self(context)
    }
}

fn is_serving(context: &Context) -> bool {
    context.readiness().is_cancelled()
        && !context.leaving().is_cancelled()
        // One that others cannot reach is served to those who know it.
        && context.registered().is_none_or(|own| own.is_wanted())
}

/// Waits until it may be otherwise.
async fn changed(context: &Context) {
    let (ready, leaving) = (context.readiness(), context.leaving());
    let healthy = async {
        match context.registered() {
            Some(own) => own.until_wanted(!own.is_wanted()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = ready.cancelled(), if !ready.is_cancelled() => {}
        () = leaving.cancelled(), if !leaving.is_cancelled() => {}
        () = healthy => {}
    }
}

/// Each answer that differs from the one before; ends when the service is told to stop, since a
/// watch would else keep its connection open.
fn answers(context: Context) -> impl Stream<Item = bool> {
    let end = context.shutdown();
    let answers = stream::unfold((context, None), async |(context, last)| {
        loop {
            let now = is_serving(&context);
            if last != Some(now) {
                return Some((now, (context, Some(now))));
            }
            changed(&context).await;
        }
    });
    answers.take_until(end)
}

fn response(serving: bool) -> HealthCheckResponse {
    let status = match serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl Protocol for Health {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(response(is_serving(&self.0))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers = answers(self.0.clone()).map(|serving| Ok(response(serving)));
        Ok(Response::new(Box::pin(answers)))
    }
}
