//! The server without a server: requests in, answers and events out.
//!
//! Knows no clock, no IO and no lock: what time it is is an argument, and whoever calls it has it
//! alone. Its data are the protocol's own messages.

mod lessor;
mod range;
mod refusal;
mod span;
mod store;
#[cfg(test)]
mod tests;
mod txn;
mod watchers;

pub(crate) use refusal::Refusal;
pub(super) use watchers::StreamId;

use std::{hash::Hasher, time::Duration};

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbHashKvRequest,
    PbHashKvResponse, PbHashResponse, PbLeaseGrantRequest, PbLeaseGrantResponse,
    PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbLeaseLeasesResponse, PbLeaseRevokeRequest,
    PbLeaseRevokeResponse, PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbResponseHeader, PbTxnRequest,
    PbTxnResponse, PbWatchRequest, PbWatchResponse,
};
use prost::Message;

use lessor::Lessor;
use store::Store;
use txn::{Apply, Path};
use watchers::Watchers;

/// The one member of this cluster, and the cluster.
pub(super) const MEMBER_ID: u64 = 0x636f_6f72_6401;
const CLUSTER_ID: u64 = 0x636f_6f72_64ff;
pub(super) const RAFT_TERM: u64 = 2;
/// etcd's default for `--max-request-bytes`, which it compares with a write as its log has it.
const MAX_REQUEST_BYTES: usize = 1536 * 1024;
/// What etcd's log adds to a write, about.
const LOG_ENTRY_BYTES: usize = 20;

/// How much memory the history may take unless somebody wants otherwise.
pub(super) const DEFAULT_RETENTION: u64 = 32 * 1024 * 1024;

/// The header of an inner answer: etcd fills in the revision alone.
fn revision_header(revision: i64) -> PbResponseHeader {
    PbResponseHeader {
        revision,
        ..PbResponseHeader::default()
    }
}

/// The header of an answer.
fn header(revision: i64) -> PbResponseHeader {
    PbResponseHeader {
        cluster_id: CLUSTER_ID,
        member_id: MEMBER_ID,
        revision,
        raft_term: RAFT_TERM,
    }
}

/// All that the server is.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    store: Store,
    lessor: Lessor,
    watchers: Watchers,
    retention: u64,
    /// How many entries etcd's log would have: one for each write that was well asked for, also if
    /// it changes nothing.
    entries: u64,
}

impl Core {
    pub(crate) fn new() -> Self {
        Self {
            store: Store::new(),
            lessor: Lessor::default(),
            watchers: Watchers::default(),
            retention: DEFAULT_RETENTION,
            entries: 0,
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.store.revision()
    }

    pub(super) fn entries(&self) -> u64 {
        self.entries
    }

    pub(super) fn header(&self) -> PbResponseHeader {
        header(self.store.revision())
    }

    /// How many bytes the keys and the values have, old ones too.
    pub(super) fn size(&self) -> i64 {
        self.store.bytes()
    }

    /// Reads keys.
    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Refusal> {
        range::check(request)?;
        range::check_revision(&self.store, request)?;
        let mut response = range::read(&self.store, request);
        response.header = Some(self.header());
        Ok(response)
    }

    /// Writes a key.
    pub(super) fn put(&mut self, request: PbPutRequest) -> Result<PbPutResponse, Refusal> {
        txn::check_put(&request)?;
        check_size(&request)?;
        self.entries += 1;
        txn::check_lease(&self.lessor, &request)?;
        if (request.ignore_value || request.ignore_lease) && self.store.get(&request.key).is_none()
        {
            return Err(Refusal::KEY_NOT_FOUND);
        }
        let mut response = self.apply(|apply| apply.put(request));
        response.header = Some(self.header());
        Ok(response)
    }

    /// Deletes keys.
    pub(super) fn delete_range(
        &mut self,
        request: &PbDeleteRequest,
    ) -> Result<PbDeleteResponse, Refusal> {
        txn::check_delete(request)?;
        check_size(request)?;
        self.entries += 1;
        let mut response = self.apply(|apply| apply.delete_range(request));
        response.header = Some(self.header());
        Ok(response)
    }

    /// Compares, and does one or the other.
    pub(crate) fn txn(&mut self, request: PbTxnRequest) -> Result<PbTxnResponse, Refusal> {
        txn::check(&request)?;
        if txn::is_write(&request) {
            check_size(&request)?;
            self.entries += 1;
        }
        let path = Path::of(&self.store, &request);
        txn::check_operations(&self.store, &self.lessor, &request, &path)?;
        let mut response = self.apply(|apply| apply.txn(request, &path));
        response.header = Some(self.header());
        Ok(response)
    }

    /// Runs a transaction that cannot fail, and tells the watchers.
    fn apply<R>(&mut self, run: impl FnOnce(&mut Apply<'_>) -> R) -> R {
        let result = run(&mut Apply {
            store: &mut self.store,
            lessor: &mut self.lessor,
        });
        let revision = self.store.revision() + 1;
        if let Some(changes) = self.store.commit() {
            self.watchers.notify(revision, changes);
            self.retain();
        }
        result
    }

    /// Forgets what is older than a revision.
    pub(super) fn compact(
        &mut self,
        request: PbCompactionRequest,
    ) -> Result<PbCompactionResponse, Refusal> {
        self.entries += 1;
        self.compact_at(request.revision)?;
        Ok(PbCompactionResponse {
            header: Some(self.header()),
        })
    }

    fn compact_at(&mut self, revision: i64) -> Result<(), Refusal> {
        self.store.compact(revision)?;
        self.lessor.forget(revision);
        self.watchers.forget(revision);
        Ok(())
    }

    /// About how much memory the history may take, for reads and watches of the past; what is older
    /// is compacted away, from time to time.
    pub(super) fn set_retention(&mut self, bytes: u64) {
        self.retention = bytes;
        self.retain();
    }

    fn retain(&mut self) {
        if self.store.history_bytes() > self.retention {
            // Some at a time: to look for the place each time would be too much work. What was
            // compacted by hand may be newer than that: then this is done already.
            let _ = self.compact_at(self.store.newest(self.retention / 4 * 3));
        }
    }

    /// Grants a lease.
    pub(crate) fn grant(
        &mut self,
        now: Duration,
        request: PbLeaseGrantRequest,
    ) -> Result<PbLeaseGrantResponse, Refusal> {
        self.entries += 1;
        let revision = self.store.revision();
        let (id, ttl) = self.lessor.grant(now, revision, request.id, request.ttl)?;
        Ok(PbLeaseGrantResponse {
            header: Some(self.header()),
            id,
            ttl,
            error: String::new(),
        })
    }

    /// Ends a lease; its keys go in one revision.
    pub(crate) fn revoke(
        &mut self,
        request: PbLeaseRevokeRequest,
    ) -> Result<PbLeaseRevokeResponse, Refusal> {
        if !self.end_lease(request.id) {
            return Err(Refusal::LEASE_NOT_FOUND);
        }
        Ok(PbLeaseRevokeResponse {
            header: Some(self.header()),
        })
    }

    /// Ends a lease as if it had run out; whether there was one.
    pub(super) fn end_lease(&mut self, id: i64) -> bool {
        self.entries += 1;
        let Some(keys) = self.lessor.end(id, self.store.revision()) else {
            return false;
        };
        self.apply(|apply| {
            for key in keys {
                apply.store.delete(key);
            }
        });
        true
    }

    /// Renews a lease. A TTL of 0 says that there is none.
    pub(super) fn keep_alive(
        &mut self,
        now: Duration,
        request: PbLeaseKeepAliveRequest,
    ) -> PbLeaseKeepAliveResponse {
        PbLeaseKeepAliveResponse {
            header: Some(self.header()),
            id: request.id,
            ttl: self.lessor.renew(now, request.id).unwrap_or(0),
        }
    }

    /// What is left of a lease. A TTL of -1 says that there is none.
    pub(crate) fn time_to_live(
        &self,
        now: Duration,
        request: PbLeaseTimeToLiveRequest,
    ) -> PbLeaseTimeToLiveResponse {
        let mut response = PbLeaseTimeToLiveResponse {
            header: Some(self.header()),
            id: request.id,
            ttl: -1,
            ..PbLeaseTimeToLiveResponse::default()
        };
        if let Some((left, granted, keys)) = self.lessor.status(now, request.id) {
            response.ttl = left;
            response.granted_ttl = granted;
            if request.keys {
                response.keys = keys.iter().cloned().collect();
            }
        }
        response
    }

    /// All leases.
    pub(super) fn leases(&self) -> PbLeaseLeasesResponse {
        let ids = self.lessor.ids().into_iter();
        PbLeaseLeasesResponse {
            header: Some(self.header()),
            leases: ids.map(|id| PbLeaseStatus { id }).collect(),
        }
    }

    /// Ends the leases that have run out: each is a revision of its own, if it has keys.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(id) = self.lessor.overdue(now) {
            self.end_lease(id);
        }
    }

    /// When there will be something to [expire](Self::expire).
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.lessor.next_deadline()
    }

    /// Opens a watch stream.
    pub(super) fn open_stream(&mut self) -> StreamId {
        self.watchers.open()
    }

    /// Ends a watch stream with all its watches.
    pub(super) fn close_stream(&mut self, id: StreamId) {
        self.watchers.close(id);
    }

    /// Takes a request of a watch stream; what it has to say comes from [`next`](Self::next).
    pub(super) fn watch(&mut self, id: StreamId, request: PbWatchRequest) {
        self.watchers.request(&self.store, id, request);
    }

    /// The next message of a watch stream.
    pub(super) fn next(&mut self, id: StreamId) -> Option<PbWatchResponse> {
        self.watchers.next(&self.store, id)
    }

    /// The streams that may have something to say that had nothing before.
    pub(super) fn take_woken(&mut self) -> Vec<StreamId> {
        self.watchers.take_woken()
    }

    /// Tells the watches that asked for it how far they are.
    pub(super) fn notify_progress(&mut self) {
        self.watchers.notify_progress(&self.store);
    }

    /// How many watch streams are open, and how many watches they have.
    pub(super) fn watch_count(&self) -> (usize, usize) {
        self.watchers.count()
    }

    /// A number that is the same for the same history.
    pub(super) fn hash(&self) -> PbHashResponse {
        PbHashResponse {
            header: Some(self.header()),
            hash: self.hash_until(self.store.revision()),
        }
    }

    /// A number that is the same for the same history up to a revision.
    pub(super) fn hash_kv(&self, request: PbHashKvRequest) -> Result<PbHashKvResponse, Refusal> {
        let revision = match request.revision {
            ..=0 => self.store.revision(),
            future if future > self.store.revision() => return Err(Refusal::FUTURE_REVISION),
            gone if gone < self.store.compacted() => return Err(Refusal::COMPACTED),
            revision => revision,
        };
        Ok(PbHashKvResponse {
            header: Some(self.header()),
            hash: self.hash_until(revision),
            compact_revision: self.store.compacted(),
            hash_revision: revision,
        })
    }

    fn hash_until(&self, revision: i64) -> u32 {
        let mut hasher = std::hash::DefaultHasher::new();
        let versions = self.store.versions();
        for version in versions.filter(|version| version.mod_revision <= revision) {
            hasher.write(&version.encode_to_vec());
        }
        (hasher.finish() >> 32) as u32
    }

    /// The next event of this key is shown to no watch.
    pub(super) fn swallow(&mut self, key: &[u8]) {
        self.watchers.swallow(key);
    }

    /// Goes back to an older revision, as a server does that was restored from a backup. The watches
    /// are gone with the connections.
    pub(super) fn restore(&mut self, now: Duration, revision: i64) -> Result<(), Refusal> {
        self.store.restore(revision)?;
        self.lessor.restore(now, revision);
        let everything = span::Span::new(&[0], &[0]);
        for version in self.store.range(&everything, revision) {
            self.lessor.attach(version.lease, &version.key);
        }
        self.watchers.restore();
        Ok(())
    }
}

fn check_size(request: &impl Message) -> Result<(), Refusal> {
    if request.encoded_len() + LOG_ENTRY_BYTES > MAX_REQUEST_BYTES {
        return Err(Refusal::TOO_LARGE);
    }
    Ok(())
}
