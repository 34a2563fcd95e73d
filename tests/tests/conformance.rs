//! What etcd does, asserted of the embedded server and of a real etcd alike.
//!
//! One list of checks, each run against both. Where they disagree the check fails for one of them,
//! and its name says which: a check that fails for the real etcd asserts what is not so.

// Beside this file they would each be a test binary of its own.
#[path = "conformance/ask.rs"]
mod ask;
#[path = "conformance/compact.rs"]
mod compact;
#[path = "conformance/delete.rs"]
mod delete;
#[path = "conformance/lease.rs"]
mod lease;
#[path = "conformance/other.rs"]
mod other;
#[path = "conformance/put.rs"]
mod put;
#[path = "conformance/range.rs"]
mod range;
#[path = "conformance/txn.rs"]
mod txn;
#[path = "conformance/watch.rs"]
mod watch;

use std::{panic::AssertUnwindSafe, pin::Pin};

use coord::embedded::Server;
use coord_tests::{Etcd, EtcdConfig, differential::known, rpc::Api};
use futures_util::FutureExt as _;

type Check = fn(Api) -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! checks {
    ($($room:ident: $($check:ident)+;)+) => {
        /// Every check by its name.
        const CHECKS: &[(&str, Check)] = &[
            $($((
                concat!(stringify!($room), "::", stringify!($check)),
                |api| Box::pin(async move { $room::$check(&api).await }),
            ),)+)+
        ];
    };
}

checks! {
    // First: it needs a store that nobody has used.
    range: an_empty_store_is_at_revision_one;
    range: a_header_has_the_current_revision
        a_key_is_needed
        range_ends
        limits_and_counts
        bounds_of_revisions_filter_after_the_count
        keys_without_values
        orders
        a_target_without_an_order_sorts_only_what_was_read
        an_unknown_order_is_none
        revisions;
    put: every_put_is_a_revision
        what_a_put_returns
        values_that_are_kept
        leases_that_are_kept
        a_lease_must_be_there
        a_key_is_needed
        requests_have_a_size;
    delete: nothing_deleted_is_no_revision
        a_range_is_one_revision
        what_a_deletion_returns
        a_key_that_comes_back_is_new
        a_key_is_needed;
    txn: every_target_and_operator
        a_missing_key_has_zeros_and_no_value
        a_comparison_of_a_range_holds_for_all
        odd_comparisons
        operations_see_those_before_them
        reads_are_no_revision
        comparisons_of_nested_ones_are_made_before_any_write
        nested_ones_read_what_was_done_before_them
        headers_of_nested_ones_are_empty
        keys_are_written_once
        keys_that_are_not_seen_to_be_written_twice
        what_fails_fails_before_anything_is_done
        inner_revisions
        forms_are_checked
        operations_are_counted
        an_empty_one_succeeds;
    compact: revisions_that_can_be_compacted
        what_is_left
        a_tombstone_at_the_compacted_revision_is_left
        of_a_key_put_and_deleted_at_the_compacted_revision_the_deletion_is_left;
    watch: a_watch_begins_after_now
        a_watch_begins_in_the_past
        a_watch_begins_in_the_future
        a_watch_begins_at_the_compacted_revision
        a_watch_before_the_compacted_revision_is_cancelled
        a_compacted_watch_holds_its_id_and_the_progress
        a_negative_revision_is_refused
        ranges_of_keys
        empty_ranges_are_refused
        previous_values
        filters
        ids
        ids_that_are_taken
        cancels
        a_revision_is_one_message
        a_large_revision_is_cut_for_those_who_ask
        progress_is_told_once_all_are_abreast
        nobody_to_tell_of_progress
        a_stream_goes_on_after_its_requests
        what_lies_between_is_in_order;
    lease: ids_are_chosen
        ttls_have_bounds
        what_is_left_of_a_lease
        a_lease_that_is_not_there
        keep_alives
        a_keep_alive_begins_the_time_anew
        a_stream_of_keep_alives_ends_with_its_requests
        all_leases_by_their_end
        a_revocation_is_one_revision
        a_revocation_without_keys_is_none
        a_put_detaches
        leases_that_run_out_are_one_revision_each;
    other: a_status
        no_alarms
        a_defragmentation
        hashes
        one_member
        nobody_is_authenticated
        what_is_not_there;
}

#[tokio::test]
async fn embedded() {
    let server = Server::start().await.expect("an embedded server starts");
    check("embedded", server.endpoint(), &[]).await;
}

#[tokio::test]
async fn etcd() {
    // As it is shipped: the shortest lease follows from these.
    let config = EtcdConfig::new()
        .argument("--heartbeat-interval=100")
        .argument("--election-timeout=1000");
    let Some(etcd) = Etcd::start_or_skip(config).await else {
        return;
    };
    let version = coord_tests::etcd::installed().expect("it runs").version;
    let known: Vec<_> = known::in_version(version)
        .map(|known| known.check)
        .collect();
    check("etcd", &etcd.endpoint(), &known).await;
}

/// Runs all checks, and fails with every one that does; and with every one that is known to fail
/// with this version of etcd, and does not.
async fn check(server: &str, endpoint: &str, known: &[&str]) {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        let api = Api::new(endpoint);
        let passed = AssertUnwindSafe(check(api.clone())).catch_unwind().await;
        if known.contains(name) {
            if passed.is_ok() {
                failed.push(format!("{server}: {name}: passed, and was known to fail"));
            }
        } else if let Err(panic) = passed {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
            failed.push(format!("{server}: {name}: {}", why.unwrap_or_default()));
        }
        ask::clear(&api).await;
    }
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n{}",
        failed.len(),
        CHECKS.len(),
        failed.join("\n\n")
    );
}

#[test]
fn what_is_known_to_differ_is_checked() {
    for known in known::KNOWN {
        let is_known = |(name, _): &(&str, Check)| *name == known.check;
        assert!(CHECKS.iter().any(is_known), "there is no {}", known.check);
    }
}
