//! Maintenance, the cluster, authentication.

use coord_tests::rpc::{
    AlarmRequest, Api, AuthenticateRequest, DefragmentRequest, HashKvRequest, HashRequest,
    MemberListRequest, StatusRequest,
};
use tonic::Code;

use crate::ask::{COMPACTED, FUTURE, compact, put, refused, rest, revision};

pub(crate) async fn a_status(api: &Api) {
    let at = put(api, "a", "1").await;
    let status = api.status(StatusRequest {}).await.unwrap();
    let header = status.header.expect("a header");
    assert_eq!(header.revision, at);
    assert!(status.version.starts_with("3."), "{}", status.version);
    assert!(status.db_size > 0 && status.db_size_in_use > 0);
    assert_eq!(status.leader, header.member_id);
    assert!(status.raft_term > 0 && status.raft_index > 0);
    assert!(status.raft_applied_index > 0);
    assert!(status.errors.is_empty() && !status.is_learner);
}

pub(crate) async fn no_alarms(api: &Api) {
    let at = put(api, "a", "1").await;
    let alarms = api.alarm(AlarmRequest::default()).await.unwrap();
    assert_eq!((alarms.alarms.len(), revision(&alarms.header)), (0, at));
}

pub(crate) async fn a_defragmentation(api: &Api) {
    put(api, "a", "1").await;
    let done = api.defragment(DefragmentRequest {}).await.unwrap();
    // The one answer without a header.
    assert_eq!(done.header, None);
}

pub(crate) async fn hashes(api: &Api) {
    let first = put(api, "a", "1").await;
    let second = put(api, "a", "2").await;
    compact(api, first).await;
    let hash = async || {
        let hash = api.hash(HashRequest {}).await.unwrap();
        assert_eq!(revision(&hash.header), second);
        hash.hash
    };
    assert_eq!(hash().await, hash().await);

    let of_keys = async |revision| api.hash_kv(HashKvRequest { revision }).await;
    let now = of_keys(0).await.unwrap();
    assert_eq!(
        (revision(&now.header), now.compact_revision),
        (second, first)
    );
    assert_eq!(of_keys(second).await.unwrap().hash, now.hash);
    refused(of_keys(second + 1).await, Code::OutOfRange, FUTURE);
    refused(of_keys(first - 1).await, Code::OutOfRange, COMPACTED);
    put(api, "a", "2").await;
    assert_ne!(of_keys(0).await.unwrap().hash, now.hash);
    assert_eq!(of_keys(second).await.unwrap().hash, now.hash);
}

pub(crate) async fn one_member(api: &Api) {
    let members = api.members(MemberListRequest::default()).await.unwrap();
    let header = members.header.expect("a header");
    assert_eq!(members.members.len(), 1);
    let member = &members.members[0];
    assert_eq!(member.id, header.member_id);
    assert!(!member.name.is_empty() && !member.is_learner);
    assert_eq!(member.client_urls.len(), 1);
    // Of this one etcd leaves the revision out.
    assert_eq!(header.revision, 0);
}

pub(crate) async fn nobody_is_authenticated(api: &Api) {
    for (name, password) in [("root", "secret"), ("", "")] {
        let request = AuthenticateRequest {
            name: name.into(),
            password: password.into(),
        };
        const OFF: &str = "etcdserver: authentication is not enabled";
        refused(
            api.authenticate(request).await,
            Code::FailedPrecondition,
            OFF,
        );
    }
}

pub(crate) async fn what_is_not_there(api: &Api) {
    const NO_METHOD: &str = "unknown method Nothing for service etcdserverpb.KV";
    refused(api.no_method(rest()).await, Code::Unimplemented, NO_METHOD);
    const NO_SERVICE: &str = "unknown service etcdserverpb.Nothing";
    refused(
        api.no_service(rest()).await,
        Code::Unimplemented,
        NO_SERVICE,
    );
}
