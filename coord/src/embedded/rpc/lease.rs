//! `Lease`: grants, renewals, revocations.

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures_util::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Services, begun, in_etcds_words, refused};
use crate::embedded::faults::{Fate, Rpc};

#[tonic::async_trait]
impl PbLeaseService for Services {
    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        self.write(|core, now| core.grant(now, request.into_inner()))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        self.write(|core, _| core.revoke(request.into_inner()))
    }

    type LeaseKeepAliveStream = Answers<PbLeaseKeepAliveResponse>;

    /// One answer for each request, in their order. As with etcd, the stream ends with the requests.
    async fn lease_keep_alive(
        &self,
        requests: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let services = self.clone();
        let answers = requests.into_inner().then(move |request| {
            let services = services.clone();
            async move { services.renew(request.map_err(in_etcds_words)?).await }
        });
        begun(answers.boxed()).await
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let answer = self
            .state
            .lease_call(|core, now| core.time_to_live(now, request));
        Ok(Response::new(answer))
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        Ok(Response::new(self.state.call(|core| core.leases())))
    }
}

impl Services {
    async fn renew(
        &self,
        request: PbLeaseKeepAliveRequest,
    ) -> Result<PbLeaseKeepAliveResponse, Status> {
        let fate = self.state.faults.meet(Rpc::LeaseKeepAlive);
        if fate == Fate::Refused {
            return Err(refused());
        }
        let answer = self.write(|core, now| Ok(core.keep_alive(now, request)))?;
        if fate == Fate::ReplyLost {
            return self.vanish().await;
        }
        Ok(answer.into_inner())
    }
}
