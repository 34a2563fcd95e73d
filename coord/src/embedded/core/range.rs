//! Range requests: which keys, in which order, how many.

use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse};

use super::{
    refusal::Refusal,
    revision_header,
    span::Span,
    store::{Store, Version},
};

// The protocol's numbers: their enums are not exported.
const ASCEND: i32 = 1;
const DESCEND: i32 = 2;
const BY_KEY: i32 = 0;
const BY_VERSION: i32 = 1;
const BY_CREATE: i32 = 2;
const BY_MOD: i32 = 3;
const BY_VALUE: i32 = 4;

pub(super) fn check(request: &PbRangeRequest) -> Result<(), Refusal> {
    if request.key.is_empty() {
        return Err(Refusal::EMPTY_KEY);
    }
    // etcd 3.5 ends with a panic; its successors refuse.
    let sorts = matches!(order(request), ASCEND | DESCEND);
    if sorts && !(BY_KEY..=BY_VALUE).contains(&request.sort_target) {
        return Err(Refusal::INVALID_SORT);
    }
    Ok(())
}

/// Whether the revision that a request names can be read: asked before anything is done.
pub(super) fn check_revision(store: &Store, request: &PbRangeRequest) -> Result<(), Refusal> {
    match request.revision {
        ..=0 => Ok(()),
        future if future > store.revision() => Err(Refusal::FUTURE_REVISION),
        gone if gone < store.compacted() => Err(Refusal::COMPACTED),
        _ => Ok(()),
    }
}

/// Reads; the [revision](check_revision) is one that can be read.
pub(super) fn read(store: &Store, request: &PbRangeRequest) -> PbRangeResponse {
    let revision = match request.revision {
        ..=0 => store.seen(),
        revision => revision,
    };
    let span = Span::new(&request.key, &request.range_end);
    let mut response = PbRangeResponse {
        header: Some(revision_header(store.seen())),
        ..PbRangeResponse::default()
    };
    if request.count_only {
        response.count = count(store.range(&span, revision).count());
        return response;
    }

    let limit = usize::try_from(request.limit).unwrap_or(0);
    // etcd reads one key more than it was asked for, to know whether there are more. With an order
    // or a filter it has to read all.
    let filtered = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ] != [0; 4];
    let read_all = limit == 0 || request.sort_order != 0 || filtered;
    let read = if read_all { usize::MAX } else { limit + 1 };
    let mut total = 0;
    let mut found: Vec<&Version> = Vec::new();
    for version in store.range(&span, revision) {
        total += 1;
        if found.len() < read {
            found.push(version);
        }
    }
    found.retain(|version| is_wanted(request, version));
    sort(request, &mut found);
    response.count = count(total);
    response.more = limit > 0 && found.len() > limit;
    if response.more {
        found.truncate(limit);
    }
    let copies = found.into_iter().map(|version| copy(request, version));
    response.kvs = copies.collect();
    response
}

fn count(keys: usize) -> i64 {
    i64::try_from(keys).unwrap_or(i64::MAX)
}

fn is_wanted(request: &PbRangeRequest, version: &PbKeyValue) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(
        version.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        version.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// The order that was asked for: with a target and no order, upwards.
fn order(request: &PbRangeRequest) -> i32 {
    match request.sort_order {
        0 if request.sort_target != BY_KEY => ASCEND,
        order => order,
    }
}

/// Sorts what was read. Asked for a target but for no order, etcd sorts only what it read: with a
/// limit these are the first keys and one more. An order that there is not is none.
fn sort(request: &PbRangeRequest, found: &mut [&Version]) {
    let order = order(request);
    if !matches!(order, ASCEND | DESCEND) {
        return;
    }
    let compare = |a: &&Version, b: &&Version| match request.sort_target {
        BY_VERSION => a.version.cmp(&b.version),
        BY_CREATE => a.create_revision.cmp(&b.create_revision),
        BY_MOD => a.mod_revision.cmp(&b.mod_revision),
        BY_VALUE => a.value.cmp(&b.value),
        _ => a.key.cmp(&b.key),
    };
    if order == DESCEND {
        found.sort_by(|a, b| compare(b, a));
    } else {
        found.sort_by(compare);
    }
}

fn copy(request: &PbRangeRequest, version: &PbKeyValue) -> PbKeyValue {
    let value = if request.keys_only {
        Vec::new()
    } else {
        version.value.clone()
    };
    PbKeyValue {
        key: version.key.clone(),
        value,
        ..*version
    }
}
