//! `Cluster`: one member, for ever.

use etcd_client::proto::{
    PbClusterService, PbMember, PbMemberAddRequest, PbMemberAddResponse, PbMemberListRequest,
    PbMemberListResponse, PbMemberPromoteRequest, PbMemberPromoteResponse, PbMemberRemoveRequest,
    PbMemberRemoveResponse, PbMemberUpdateRequest, PbMemberUpdateResponse, PbResponseHeader,
};
use tonic::{Request, Response, Status};

use super::Services;
use crate::embedded::core::MEMBER_ID;

#[tonic::async_trait]
impl PbClusterService for Services {
    async fn member_list(
        &self,
        _: Request<PbMemberListRequest>,
    ) -> Result<Response<PbMemberListResponse>, Status> {
        let header = self.state.call(|core| core.header());
        Ok(Response::new(PbMemberListResponse {
            // As with etcd: this service does not tell the revision.
            header: Some(PbResponseHeader {
                revision: 0,
                ..header
            }),
            members: vec![PbMember {
                id: MEMBER_ID,
                name: "embedded".into(),
                client_ur_ls: vec![self.state.endpoint.clone()],
                ..PbMember::default()
            }],
        }))
    }

    async fn member_add(
        &self,
        _: Request<PbMemberAddRequest>,
    ) -> Result<Response<PbMemberAddResponse>, Status> {
        Err(alone())
    }

    async fn member_remove(
        &self,
        _: Request<PbMemberRemoveRequest>,
    ) -> Result<Response<PbMemberRemoveResponse>, Status> {
        Err(alone())
    }

    async fn member_update(
        &self,
        _: Request<PbMemberUpdateRequest>,
    ) -> Result<Response<PbMemberUpdateResponse>, Status> {
        Err(alone())
    }

    async fn member_promote(
        &self,
        _: Request<PbMemberPromoteRequest>,
    ) -> Result<Response<PbMemberPromoteResponse>, Status> {
        Err(alone())
    }
}

fn alone() -> Status {
    Status::unimplemented("the embedded etcd is one member, for ever")
}
