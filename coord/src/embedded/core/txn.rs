//! Transactions, and the single writes, which are transactions of one operation.
//!
//! Everything that can fail is checked before anything is done, in the order in which etcd checks.

use std::collections::HashSet;

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbRangeRequest,
    PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp,
    PbTxnResponse,
};

use super::{lessor::Lessor, range, refusal::Refusal, revision_header, span::Span, store::Store};

/// etcd's default for `--max-txn-ops`.
const MAX_OPERATIONS: usize = 128;

pub(super) fn check_put(request: &PbPutRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EMPTY_KEY);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::VALUE_PROVIDED);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LEASE_PROVIDED);
    }
    Ok(())
}

pub(super) fn check_delete(request: &PbDeleteRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EMPTY_KEY);
    }
    Ok(())
}

/// Checks the form of a transaction.
pub(super) fn check(request: &PbTxnRequest) -> Result<(), Refusal> {
    check_size(request, MAX_OPERATIONS)?;
    Writes::of(&request.success)?;
    Writes::of(&request.failure)?;
    Ok(())
}

/// A nested transaction may be as large as its parent leaves room for.
fn check_size(request: &PbTxnRequest, room: usize) -> Result<(), Refusal> {
    let PbTxnRequest {
        compare,
        success,
        failure,
    } = request;
    let size = compare.len().max(success.len()).max(failure.len());
    let Some(room) = room.checked_sub(size) else {
        return Err(Refusal::TOO_MANY_OPERATIONS);
    };
    if compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EMPTY_KEY);
    }
    for operation in success.iter().chain(failure) {
        match &operation.request {
            Some(PbTxnOpRequest::RequestRange(request)) => range::check(request)?,
            Some(PbTxnOpRequest::RequestPut(request)) => check_put(request)?,
            Some(PbTxnOpRequest::RequestDeleteRange(request)) => check_delete(request)?,
            Some(PbTxnOpRequest::RequestTxn(request)) => check_size(request, room)?,
            None => return Err(Refusal::KEY_NOT_FOUND),
        }
    }
    Ok(())
}

/// What a list of operations may write: no key may be written twice, whatever branches are taken.
#[derive(Default)]
struct Writes<'a> {
    puts: HashSet<&'a [u8]>,
    deletions: Vec<(&'a [u8], &'a [u8])>,
}

impl<'a> Writes<'a> {
    fn of(operations: &'a [PbTxnRequestOp]) -> Result<Self, Refusal> {
        let mut writes = Self::default();
        let requests = || operations.iter().filter_map(|op| op.request.as_ref());
        for request in requests() {
            if let PbTxnOpRequest::RequestDeleteRange(deletion) = request {
                writes.deletions.push((&deletion.key, &deletion.range_end));
            }
        }
        for request in requests() {
            if let PbTxnOpRequest::RequestTxn(nested) = request {
                writes.nest(Self::of(&nested.success)?, Self::of(&nested.failure)?)?;
            }
        }
        for request in requests() {
            if let PbTxnOpRequest::RequestPut(put) = request {
                writes.put(&put.key)?;
            }
        }
        Ok(writes)
    }

    fn put(&mut self, key: &'a [u8]) -> Result<(), Refusal> {
        if self.is_deleted(key) || !self.puts.insert(key) {
            return Err(Refusal::DUPLICATE_KEY);
        }
        Ok(())
    }

    /// Of a nested transaction only one branch runs, so both may put the same key.
    fn nest(&mut self, then: Self, otherwise: Self) -> Result<(), Refusal> {
        for &key in &then.puts {
            self.put(key)?;
        }
        for &key in &otherwise.puts {
            if !then.puts.contains(key) {
                self.put(key)?;
            }
        }
        self.deletions.extend(then.deletions);
        self.deletions.extend(otherwise.deletions);
        Ok(())
    }

    /// By etcd's interval tree, which takes a range's end literally, a zero byte too: it does not
    /// see what a deletion of all keys from one on has in common with a put.
    fn is_deleted(&self, key: &[u8]) -> bool {
        let meets = |&(start, end): &(&[u8], &[u8])| match end {
            [] => start == key,
            end => start <= key && key < end,
        };
        self.deletions.iter().any(meets)
    }
}

/// Whether etcd takes the transaction for a write: on any branch is something else than a read, be
/// it a transaction that only reads.
pub(super) fn is_write(request: &PbTxnRequest) -> bool {
    let mut operations = request.success.iter().chain(&request.failure);
    operations.any(|op| !matches!(op.request, Some(PbTxnOpRequest::RequestRange(_))))
}

/// The branches that will be taken, depth first. All comparisons, nested ones too, are made on the
/// state before the transaction.
pub(super) struct Path(Vec<bool>);

impl Path {
    pub(super) fn of(store: &Store, request: &PbTxnRequest) -> Self {
        let mut taken = Vec::new();
        Self::take(store, request, &mut taken);
        Self(taken)
    }

    fn take(store: &Store, request: &PbTxnRequest, taken: &mut Vec<bool>) {
        let succeeded = request.compare.iter().all(|compare| holds(store, compare));
        taken.push(succeeded);
        for operation in branch(request, succeeded) {
            if let Some(PbTxnOpRequest::RequestTxn(nested)) = &operation.request {
                Self::take(store, nested, taken);
            }
        }
    }
}

fn branch(request: &PbTxnRequest, succeeded: bool) -> &[PbTxnRequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

/// A comparison holds if it holds for every key that it names. A key that is not there has zeros for
/// its numbers; no comparison with its value holds.
fn holds(store: &Store, compare: &PbCompare) -> bool {
    let span = Span::new(&compare.key, &compare.range_end);
    let mut any = false;
    for version in store.range(&span, store.revision()) {
        any = true;
        let order = match (compare.target, &compare.target_union) {
            (0, Some(PbTargetUnion::Version(with))) => version.version.cmp(with),
            (0, _) => version.version.cmp(&0),
            (1, Some(PbTargetUnion::CreateRevision(with))) => version.create_revision.cmp(with),
            (1, _) => version.create_revision.cmp(&0),
            (2, Some(PbTargetUnion::ModRevision(with))) => version.mod_revision.cmp(with),
            (2, _) => version.mod_revision.cmp(&0),
            (3, Some(PbTargetUnion::Value(with))) => version.value.cmp(with),
            (3, _) => version.value.as_slice().cmp(&[]),
            (4, Some(PbTargetUnion::Lease(with))) => version.lease.cmp(with),
            (4, _) => version.lease.cmp(&0),
            _ => std::cmp::Ordering::Equal,
        };
        if !satisfies(compare.result, order) {
            return false;
        }
    }
    if any {
        return true;
    }
    let with = match (compare.target, &compare.target_union) {
        (3, _) => return false,
        (0, Some(PbTargetUnion::Version(with)))
        | (1, Some(PbTargetUnion::CreateRevision(with)))
        | (2, Some(PbTargetUnion::ModRevision(with)))
        | (4, Some(PbTargetUnion::Lease(with))) => *with,
        _ => 0,
    };
    satisfies(compare.result, 0.cmp(&with))
}

fn satisfies(result: i32, order: std::cmp::Ordering) -> bool {
    match result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        3 => order.is_ne(),
        // etcd lets an operator that it does not know pass.
        _ => true,
    }
}

/// Checks what only the store and the leases can tell: of a transaction that fails nothing is done.
/// etcd looks at the writes first.
pub(super) fn check_operations(
    store: &Store,
    lessor: &Lessor,
    request: &PbTxnRequest,
    path: &Path,
) -> Result<(), Refusal> {
    let mut taken = Vec::new();
    collect(request, &mut path.0.iter().copied(), &mut taken);
    for operation in &taken {
        if let PbTxnOpRequest::RequestPut(put) = operation {
            if (put.ignore_value || put.ignore_lease) && store.get(&put.key).is_none() {
                return Err(Refusal::KEY_NOT_FOUND);
            }
            check_lease(lessor, put)?;
        }
    }
    for operation in &taken {
        if let PbTxnOpRequest::RequestRange(range) = operation {
            check_inner_revision(store, range)?;
        }
    }
    Ok(())
}

/// Unlike a range of its own, one in a transaction takes a negative revision for a very old one.
fn check_inner_revision(store: &Store, request: &PbRangeRequest) -> Result<(), Refusal> {
    match request.revision {
        0 => Ok(()),
        revision if revision < store.compacted() => Err(Refusal::COMPACTED),
        _ => range::check_revision(store, request),
    }
}

/// The operations of the branches that are taken, without the nested transactions themselves.
fn collect<'a>(
    request: &'a PbTxnRequest,
    path: &mut impl Iterator<Item = bool>,
    taken: &mut Vec<&'a PbTxnOpRequest>,
) {
    let succeeded = path.next().unwrap_or_default();
    for operation in branch(request, succeeded) {
        match &operation.request {
            Some(PbTxnOpRequest::RequestTxn(nested)) => collect(nested, path, taken),
            Some(operation) => taken.push(operation),
            None => {}
        }
    }
}

pub(super) fn check_lease(lessor: &Lessor, request: &PbPutRequest) -> Result<(), Refusal> {
    if request.lease != 0 && !lessor.knows(request.lease) {
        return Err(Refusal::LEASE_NOT_FOUND);
    }
    Ok(())
}

/// The open transaction: the store, and the leases of the keys that it writes.
pub(super) struct Apply<'a> {
    pub(super) store: &'a mut Store,
    pub(super) lessor: &'a mut Lessor,
}

impl Apply<'_> {
    pub(super) fn txn(&mut self, request: PbTxnRequest, path: &Path) -> PbTxnResponse {
        self.nested(request, &mut path.0.iter().copied())
    }

    fn nested(
        &mut self,
        request: PbTxnRequest,
        path: &mut impl Iterator<Item = bool>,
    ) -> PbTxnResponse {
        let succeeded = path.next().unwrap_or_default();
        let operations = if succeeded {
            request.success
        } else {
            request.failure
        };
        let mut responses = Vec::with_capacity(operations.len());
        for operation in operations {
            let response = operation.request.map(|request| match request {
                PbTxnOpRequest::RequestRange(request) => {
                    PbTxnOpResponse::ResponseRange(range::read(self.store, &request))
                }
                PbTxnOpRequest::RequestPut(request) => {
                    PbTxnOpResponse::ResponsePut(self.put(request))
                }
                PbTxnOpRequest::RequestDeleteRange(request) => {
                    PbTxnOpResponse::ResponseDeleteRange(self.delete_range(&request))
                }
                PbTxnOpRequest::RequestTxn(request) => {
                    PbTxnOpResponse::ResponseTxn(self.nested(request, path))
                }
            });
            responses.push(PbResponseOp { response });
        }
        PbTxnResponse {
            // Of a nested transaction etcd leaves it empty.
            header: Some(revision_header(0)),
            succeeded,
            responses,
        }
    }

    pub(super) fn put(&mut self, request: PbPutRequest) -> PbPutResponse {
        let PbPutRequest {
            key,
            mut value,
            mut lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        } = request;
        let before = self.store.get(&key).cloned();
        if let Some(before) = &before {
            if ignore_value {
                value.clone_from(&before.value);
            }
            if ignore_lease {
                lease = before.lease;
            }
            self.lessor.detach(before.lease, &key);
        }
        self.lessor.attach(lease, &key);
        self.store.put(key, value, lease);
        PbPutResponse {
            header: Some(revision_header(self.store.seen())),
            prev_kv: before.filter(|_| prev_kv).map(|kv| (*kv).clone()),
        }
    }

    pub(super) fn delete_range(&mut self, request: &PbDeleteRequest) -> PbDeleteResponse {
        let span = Span::new(&request.key, &request.range_end);
        let found: Vec<_> = self
            .store
            .range(&span, self.store.seen())
            .cloned()
            .collect();
        for version in &found {
            self.lessor.detach(version.lease, &version.key);
            self.store.delete(version.key.clone());
        }
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let before = found.iter().filter(|_| request.prev_kv);
        PbDeleteResponse {
            header: Some(revision_header(self.store.seen())),
            deleted,
            prev_kvs: before.map(|kv| (**kv).clone()).collect(),
        }
    }
}
