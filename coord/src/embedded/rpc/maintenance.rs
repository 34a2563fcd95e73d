//! `Maintenance`: what operators and health checks ask.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse,
    PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest,
    PbSnapshotResponse, PbStatusRequest, PbStatusResponse,
};
use futures_util::stream::Empty;
use tonic::{Request, Response, Status};

use super::Services;
use crate::embedded::core::{MEMBER_ID, RAFT_TERM};

/// The etcd that this one is like.
const VERSION: &str = "3.5.30";
/// `AlarmRequest.AlarmAction`.
const ACTIVATE: i32 = 1;

#[tonic::async_trait]
impl PbMaintenanceService for Services {
    async fn status(
        &self,
        _: Request<PbStatusRequest>,
    ) -> Result<Response<PbStatusResponse>, Status> {
        let (header, size, index) = self
            .state
            .call(|core| (core.header(), core.size(), core.entries()));
        Ok(Response::new(PbStatusResponse {
            header: Some(header),
            version: VERSION.into(),
            db_size: size,
            db_size_in_use: size,
            leader: MEMBER_ID,
            raft_index: index,
            raft_applied_index: index,
            raft_term: RAFT_TERM,
            ..PbStatusResponse::default()
        }))
    }

    async fn alarm(
        &self,
        request: Request<PbAlarmRequest>,
    ) -> Result<Response<PbAlarmResponse>, Status> {
        if request.get_ref().action == ACTIVATE {
            return Err(Status::unimplemented("the embedded etcd raises no alarms"));
        }
        Ok(Response::new(PbAlarmResponse {
            header: Some(self.state.call(|core| core.header())),
            ..PbAlarmResponse::default()
        }))
    }

    /// Nothing is ever fragmented.
    async fn defragment(
        &self,
        _: Request<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        Ok(Response::new(PbDefragmentResponse::default()))
    }

    async fn hash(&self, _: Request<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Ok(Response::new(self.state.call(|core| core.hash())))
    }

    async fn hash_kv(
        &self,
        request: Request<PbHashKvRequest>,
    ) -> Result<Response<PbHashKvResponse>, Status> {
        let answer = self.state.call(|core| core.hash_kv(request.into_inner()))?;
        Ok(Response::new(answer))
    }

    type SnapshotStream = Empty<Result<PbSnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<PbSnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented(
            "the embedded etcd has no database file to send",
        ))
    }

    async fn move_leader(
        &self,
        request: Request<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        if request.get_ref().target_id != MEMBER_ID {
            return Err(Status::failed_precondition(
                "etcdserver: bad leader transferee",
            ));
        }
        Ok(Response::new(PbMoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        _: Request<PbDowngradeRequest>,
    ) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(Status::unimplemented("the embedded etcd has one version"))
    }
}
