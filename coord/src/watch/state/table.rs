//! Every transition of the state table, one row each.

use super::*;
use crate::{
    client::{EventKind, Header, KeyValue, Reason},
    clock::Clock,
};

/// A machine on its way, and the time.
struct Given {
    machine: Machine,
    now: Instant,
    actions: Vec<Action>,
}

impl Given {
    /// Nothing has happened yet.
    fn new() -> Self {
        let (clock, _) = Clock::manual();
        let now = clock.now();
        let options = WatchOptions {
            page: 3,
            ..WatchOptions::default()
        };
        let span = Span::Interval(b"/p/".to_vec(), b"/p0".to_vec());
        Self {
            machine: Machine::new(now, span, options),
            now,
            actions: Vec::new(),
        }
    }

    fn then(mut self, input: Input) -> Self {
        self.actions = self.machine.step(self.now, input);
        self
    }

    /// Goes to the instant that the machine waits for.
    fn due(mut self) -> Self {
        self.now = self.machine.due().expect("it waits for a time");
        self.then(Input::Due)
    }

    fn listing() -> Self {
        Self::new().due()
    }

    /// With keys `x`, `y`, `z` of revisions 2, 3, 4; the list stands at 4.
    fn need() -> Self {
        Self::listing().then(page(Read::List, 4, &keys()))
    }

    fn opening() -> Self {
        Self::need().due()
    }

    fn watching() -> Self {
        Self::opening()
            .then(created(4, 5))
            .then(Input::Version(Some(Version::new(3, 5, 16))))
    }

    fn auditing() -> Self {
        Self::watching().audit_in(0).due()
    }

    fn audit_in(mut self, seconds: u64) -> Self {
        self.machine.audit_at = Some(self.now + Duration::from_secs(seconds));
        self
    }

    fn probing() -> Self {
        Self::watching().due().due().due()
    }

    fn suspect() -> Self {
        Self::opening().then(created(3, 5))
    }

    fn state(&self) -> &'static str {
        match self.machine.state {
            State::Empty { .. } => "Empty",
            State::Listing { .. } => "Listing",
            State::Need(_) => "Need",
            State::Opening { .. } => "Opening",
            State::Watching(_) => "Watching",
            State::Probing(..) => "Probing",
            State::Suspect(..) => "Suspect",
        }
    }

    fn did(&self) -> Vec<String> {
        let say = |action: &Action| match action {
            Action::Read(Read::List, range) => format!("list at {}", range.revision),
            Action::Read(Read::Audit, range) => format!("audit at {}", range.revision),
            Action::Read(Read::Probe, range) => format!("probe from {}", range.min_mod_revision),
            Action::Read(Read::Verify, _) => "verify".to_owned(),
            Action::Open(request) => format!("open {}", request.start_revision),
            Action::Close => "close".to_owned(),
            Action::AskProgress => "ask".to_owned(),
            Action::AskVersion(member) => format!("version of {member}"),
            Action::RefreshToken => "token".to_owned(),
            Action::LeaveEndpoint => "leave".to_owned(),
            Action::Publish(update) => format!(
                "{:?} {} at {}",
                update.cause,
                update.changes.len(),
                update.revision
            ),
            Action::Warn(_) => "warn".to_owned(),
            Action::Recovered => "recovered".to_owned(),
        };
        self.actions.iter().map(say).collect()
    }
}

fn header(revision: i64, raft_term: u64) -> Header {
    Header {
        cluster_id: 7,
        member_id: 1,
        revision,
        raft_term,
    }
}

fn kv(key: &str, revision: i64) -> KeyValue {
    KeyValue {
        key: format!("/p/{key}").into_bytes(),
        value: revision.to_string().into_bytes(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    }
}

fn keys() -> [KeyValue; 3] {
    [kv("x", 2), kv("y", 3), kv("z", 4)]
}

fn reply(revision: i64, term: u64, kvs: &[KeyValue], count: i64, more: bool) -> RangeReply {
    RangeReply {
        header: header(revision, term),
        kvs: kvs.to_vec(),
        more,
        count,
    }
}

/// The last page.
fn page(read: Read, revision: i64, kvs: &[KeyValue]) -> Input {
    Input::Read(read, Ok(reply(revision, 5, kvs, 3, false)))
}

fn page_and_more() -> Input {
    Input::Read(Read::List, Ok(reply(4, 5, &keys()[..2], 3, true)))
}

fn probe(revision: i64, term: u64, changed: &[KeyValue], count: i64) -> Input {
    Input::Read(
        Read::Probe,
        Ok(reply(revision, term, changed, count, false)),
    )
}

fn error(reason: Reason) -> CallError {
    CallError::new(
        crate::client::Certainty::Unknown,
        reason,
        "as the test wants it",
    )
}

fn failed(read: Read, reason: Reason) -> Input {
    Input::Read(read, Err(error(reason)))
}

fn created(revision: i64, term: u64) -> Input {
    Input::Message(WatchMessage {
        header: header(revision, term),
        created: true,
        ..WatchMessage::default()
    })
}

fn progress(revision: i64, term: u64) -> Input {
    Input::Message(WatchMessage {
        header: header(revision, term),
        watch_id: -1,
        ..WatchMessage::default()
    })
}

fn canceled(created: bool, compact_revision: i64, reason: &str) -> Input {
    Input::Message(WatchMessage {
        created,
        canceled: true,
        compact_revision,
        cancel_reason: reason.to_owned(),
        ..WatchMessage::default()
    })
}

fn puts(fragment: bool, puts: &[(&str, i64)]) -> Input {
    let last = puts.last().map_or(0, |(_, revision)| *revision);
    Input::Message(WatchMessage {
        // Ahead of its events, as in a catch-up.
        header: header(last + 10, 5),
        fragment,
        events: puts
            .iter()
            .map(|(key, revision)| Event {
                kind: EventKind::Put,
                kv: kv(key, *revision),
            })
            .collect(),
        ..WatchMessage::default()
    })
}

const EXPIRED: &str = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token";
const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

/// The transition, the machine before it, what happens (`Due`: when it waits for that), the state
/// after it, what is done, and `pos` after it.
type Row = (
    &'static str,
    Given,
    Input,
    &'static str,
    &'static [&'static str],
    i64,
);

/// `name: before, what happens => after [what is done] pos;`
macro_rules! rows {
    ($($name:literal: $before:expr, $input:expr
        => $after:ident [$($did:literal),*] $pos:literal;)*) => {
        vec![$(($name, $before, $input, stringify!($after), &[$($did),*], $pos)),*]
    };
}

#[test]
fn every_transition() {
    use Given as G;
    let old = || Input::Version(Some(Version::new(3, 5, 7)));
    let revised = || G::watching().then(puts(false, &[("x", 5)]));
    let audited_while_probing = || {
        let given = G::watching().due().due().audit_in(10).due();
        given.then(page(Read::Audit, 9, &keys()))
    };
    let changed_once = || {
        G::probing()
            .then(probe(6, 5, &[kv("x", 6)], 3))
            .due()
            .then(created(6, 5))
            .due()
            .due()
            .due()
    };
    let rows: Vec<Row> = rows! {
        "Empty: time": G::new(), Input::Due => Listing ["list at 0"] 0;
        "Empty: anything else": G::new(), old() => Empty [] 0;
        "Empty: stale token": G::listing().then(failed(Read::List, Reason::BadToken)),
            Input::Due => Empty ["token"] 0;
        "Empty: token": G::listing().then(failed(Read::List, Reason::BadToken)).due(),
            Input::Refreshed(Ok(())) => Listing ["list at 0"] 0;
        "Empty: no token": G::listing().then(failed(Read::List, Reason::BadToken)).due(),
            Input::Refreshed(Err(error(Reason::Unavailable))) => Empty ["warn", "leave"] 0;
        "Listing: page": G::listing(), page_and_more() => Listing ["list at 4"] 0;
        "Listing: last page": G::listing().then(page_and_more()),
            page(Read::List, 6, &keys()[2..]) => Need ["Listed 3 at 4"] 4;
        "Listing: compacted": G::listing().then(page_and_more()),
            failed(Read::List, Reason::Compacted) => Listing [] 0;
        "Listing: future revision": G::listing().then(page_and_more()),
            failed(Read::List, Reason::FutureRevision) => Listing [] 0;
        "Listing: lower term": G::listing().then(page_and_more()),
            Input::Read(Read::List, Ok(reply(9, 4, &keys()[2..], 3, false))) => Listing [] 0;
        "Listing: too large": G::listing(), failed(Read::List, Reason::TooLarge) => Listing [] 0;
        "Listing: time": G::listing().then(failed(Read::List, Reason::Compacted)),
            Input::Due => Listing ["list at 0"] 0;
        "Listing: error": G::listing(), failed(Read::List, Reason::Unavailable) => Empty ["warn"] 0;
        "Listing: history went back": G::watching().then(canceled(false, 9, "")).due(),
            page(Read::List, 3, &keys()[..2]) => Need ["Regressed 1 at 3"] 3;
        "Listing: again": G::watching().then(canceled(false, 9, "")).due(),
            page(Read::List, 9, &keys()) => Need ["Relisted 0 at 9"] 9;
        "Need: time": G::need(), Input::Due => Opening ["open 5"] 4;
        "Need: anything else": G::need(), old() => Need [] 4;
        "Need: stale token": G::opening().then(canceled(true, 0, EXPIRED)),
            Input::Due => Need ["token"] 4;
        "Need: token": G::opening().then(canceled(true, 0, DENIED)).due(),
            Input::Refreshed(Ok(())) => Opening ["open 5"] 4;
        "Opening: stream": G::opening(), Input::Opened(Ok(())) => Opening [] 4;
        "Opening: created": G::opening(), created(9, 5) => Watching ["version of 1"] 4;
        "Opening: created after a trouble": G::watching().then(Input::Ended(None)).due(),
            created(9, 5) => Watching ["version of 1", "recovered"] 4;
        "Opening: created behind": G::opening(),
            created(3, 5) => Suspect ["version of 1", "probe from 5"] 4;
        "Opening: created in a lower term": G::opening(),
            created(9, 4) => Suspect ["version of 1", "probe from 5"] 4;
        "Opening: progress": G::opening(), progress(9, 5) => Opening [] 4;
        "Opening: refused token": G::opening(),
            canceled(true, 0, EXPIRED) => Need ["close", "warn"] 4;
        "Opening: compacted": G::opening(), canceled(false, 9, "") => Empty ["close", "warn"] 4;
        "Opening: refused": G::opening(),
            canceled(true, 0, "mvcc: watcher range is empty") => Need ["close", "warn"] 4;
        "Opening: error": G::opening(),
            Input::Opened(Err(error(Reason::Unavailable))) => Need ["close", "warn"] 4;
        "Opening: end": G::opening(), Input::Ended(None) => Need ["close", "warn"] 4;
        "Opening: time": G::opening(), Input::Due => Need ["close", "leave", "warn"] 4;
        "Watching: events": G::watching(), puts(false, &[("x", 5)]) => Watching ["Events 1 at 5"] 5;
        "Watching: revisions in one message": G::watching(),
            puts(false, &[("x", 5), ("y", 5), ("x", 7)]) => Watching ["Events 3 at 7"] 7;
        "Watching: events of the past": revised(),
            puts(false, &[("y", 4), ("x", 5)]) => Watching [] 5;
        "Watching: fragment": G::watching(), puts(true, &[("x", 5)]) => Watching [] 4;
        "Watching: last part": G::watching().then(puts(true, &[("x", 5)])),
            puts(false, &[("y", 5)]) => Watching ["Events 2 at 5"] 5;
        "Watching: progress": G::watching(), progress(9, 5) => Watching [] 9;
        "Watching: progress of an old server": G::watching().then(old()),
            progress(9, 5) => Watching [] 4;
        "Watching: progress of an unknown server": G::watching().then(Input::Version(None)),
            progress(9, 5) => Watching [] 4;
        "Watching: progress between fragments": G::watching().then(puts(true, &[("x", 5)])),
            progress(5, 5) => Watching [] 4;
        "Watching: progress behind": G::watching(), progress(3, 5) => Suspect ["probe from 5"] 4;
        "Watching: progress in a lower term": G::watching(),
            progress(9, 4) => Suspect ["probe from 5"] 4;
        "Watching: time": G::watching(), Input::Due => Watching ["verify", "ask"] 4;
        "Watching: time again": G::watching().due(), Input::Due => Watching ["ask"] 4;
        "Watching: time, version unknown": G::watching().then(Input::Version(None)).due(),
            Input::Due => Watching ["version of 1", "ask"] 4;
        "Watching: silent twice": G::watching().due().due(),
            Input::Due => Probing ["probe from 5"] 4;
        "Watching: silence ends": G::watching().due().due().then(puts(true, &[("x", 5)])),
            Input::Due => Watching ["ask"] 4;
        "Watching: verified": G::watching().due(), page(Read::Verify, 4, &[]) => Watching [] 4;
        "Watching: not verified": G::watching().due(),
            failed(Read::Verify, Reason::Timeout) => Watching [] 4;
        "Watching: the verification shows that history went back": G::watching().due(),
            page(Read::Verify, 3, &[]) => Empty ["close", "warn"] 4;
        "Watching: audit due": G::watching().audit_in(0),
            Input::Due => Watching ["audit at 0"] 4;
        "Watching: audit finds nothing": G::auditing(),
            page(Read::Audit, 9, &keys()) => Watching [] 9;
        "Watching: audit finds a lost event": G::auditing(),
            page(Read::Audit, 9, &[kv("x", 6), kv("y", 3)]) => Watching ["Audited 2 at 9"] 9;
        "Watching: audit older than an event": G::auditing().then(puts(false, &[("x", 5)])),
            page(Read::Audit, 4, &keys()) => Watching [] 5;
        "Watching: audit page is gone": G::auditing(),
            failed(Read::Audit, Reason::Compacted) => Watching ["audit at 0"] 4;
        "Watching: audit fails": G::auditing(),
            failed(Read::Audit, Reason::Timeout) => Watching [] 4;
        "Watching: audit shows that history went back": G::auditing(),
            page(Read::Audit, 3, &keys()[..2]) => Empty ["close", "warn"] 4;
        "Watching: compacted": G::watching(), canceled(false, 9, "") => Empty ["close", "warn"] 4;
        "Watching: too large": G::watching(),
            Input::Ended(Some(error(Reason::TooLarge))) => Empty ["close", "warn"] 4;
        "Watching: canceled": G::watching(), canceled(false, 0, DENIED) => Need ["close", "warn"] 4;
        "Watching: error": G::watching(),
            Input::Ended(Some(error(Reason::Unavailable))) => Need ["close", "warn"] 4;
        "Watching: end": G::watching(), Input::Ended(None) => Need ["close", "warn"] 4;
        "Probing: events": G::probing(), puts(false, &[("x", 5)]) => Watching ["Events 1 at 5"] 5;
        "Probing: progress": G::probing(), progress(9, 5) => Watching [] 9;
        "Probing: unchanged before the start": G::probing(), probe(4, 5, &[], 3) => Watching [] 4;
        "Probing: unchanged after the start": G::probing(), probe(9, 5, &[], 3) => Need ["close"] 9;
        "Probing: changed": G::probing(),
            probe(9, 5, &[kv("x", 9)], 3) => Need ["close", "leave", "warn"] 4;
        "Probing: deleted": G::probing(), probe(9, 5, &[], 2) => Need ["close", "leave", "warn"] 4;
        "Probing: changed again": changed_once(),
            probe(9, 5, &[kv("x", 6)], 3) => Empty ["close", "warn"] 4;
        "Probing: an audit moved pos": audited_while_probing(),
            probe(9, 5, &[kv("x", 9)], 3) => Watching [] 9;
        "Probing: history went back": G::probing(),
            probe(3, 5, &[], 2) => Empty ["close", "warn"] 4;
        "Probing: lower term": G::probing(), probe(9, 4, &[], 3) => Empty ["close", "warn"] 4;
        "Probing: error": G::probing(),
            failed(Read::Probe, Reason::Timeout) => Need ["close", "leave", "warn"] 4;
        "Probing: end": G::probing(), Input::Ended(None) => Need ["close", "warn"] 4;
        "Suspect: history went back": G::suspect(),
            probe(3, 5, &[], 2) => Empty ["close", "warn"] 4;
        "Suspect: lower term": G::suspect(), probe(9, 4, &[], 3) => Empty ["close", "warn"] 4;
        "Suspect: else": G::suspect(), probe(4, 5, &[], 3) => Watching [] 4;
        "Suspect: error": G::suspect(),
            failed(Read::Probe, Reason::Timeout) => Need ["close", "leave", "warn"] 4;
        "Suspect: end": G::suspect(), Input::Ended(None) => Need ["close", "warn"] 4;
    };
    for (name, before, input, state, did, pos) in rows {
        assert!(
            name.starts_with(before.state()),
            "{name}: begins in {}",
            before.state()
        );
        let after = match input {
            Input::Due => before.due(),
            input => before.then(input),
        };
        assert_eq!(after.state(), state, "{name}");
        assert_eq!(after.did(), did, "{name}");
        assert_eq!(after.machine.place.pos(), pos, "{name}");
    }
}

#[test]
fn a_suspect_stream_is_not_read() {
    assert!(!Given::suspect().machine.reads_stream());
    assert!(Given::probing().machine.reads_stream());
    assert!(Given::watching().machine.reads_stream());
}

#[test]
fn after_an_unchanged_probe_the_stream_starts_behind_it() {
    let given = Given::probing().then(probe(9, 5, &[], 3)).due();
    assert_eq!(given.did(), ["open 10"]);
    assert_eq!(given.machine.status().trouble, None);
}

#[test]
fn verified_is_when_the_read_was_sent_once_its_revision_is_reached() {
    let given = Given::watching();
    let listed_at = given.machine.status().verified_at;
    assert!(listed_at.is_some());
    let given = given.due();
    let sent_at = given.now;
    let mut given = given.then(page(Read::Verify, 9, &[]));
    assert_eq!(
        given.machine.status().verified_at,
        listed_at,
        "9 is not reached"
    );
    given.now = given.now + Duration::from_secs(1);
    let given = given.then(progress(9, 5));
    assert_eq!(given.machine.status().verified_at, Some(sent_at));
    assert_eq!(given.machine.status().alive_at, Some(given.now));
    let verified = given.then(progress(10, 5)).machine.status();
    assert_eq!(
        verified.verified_at,
        Some(sent_at),
        "progress alone proves nothing"
    );
}

#[test]
fn from_the_third_restart_on_a_list_is_read_in_one_piece() {
    let mut given = Given::listing();
    for _ in 0..2 {
        given = given
            .then(page_and_more())
            .then(failed(Read::List, Reason::Compacted))
            .due();
        assert!(matches!(&given.actions[..], [Action::Read(_, range)] if range.limit == 3));
    }
    given = given
        .then(page_and_more())
        .then(failed(Read::List, Reason::Compacted))
        .due();
    assert!(matches!(&given.actions[..], [Action::Read(_, range)] if range.limit == 0));
}

#[test]
fn what_is_too_large_is_read_in_smaller_pages() {
    let mut given = Given::listing()
        .then(failed(Read::List, Reason::TooLarge))
        .due();
    assert!(matches!(&given.actions[..], [Action::Read(_, range)] if range.limit == 1));
    given = given.then(failed(Read::List, Reason::TooLarge));
    assert_eq!(given.state(), "Empty", "one key alone is too large");
}

#[test]
fn a_denial_that_a_fresh_token_does_not_help_waits_long() {
    let mut given = Given::opening().then(canceled(true, 0, DENIED)).due();
    assert_eq!(given.did(), ["token"]);
    given = given
        .then(Input::Refreshed(Ok(())))
        .then(canceled(true, 0, DENIED));
    let wait = given.machine.due().expect("a time").since(given.now);
    assert!(wait >= Duration::from_secs(30));
    let status = given.machine.status();
    assert_eq!(status.phase, Phase::BackingOff);
    assert!(status.trouble.expect("told").contains("permission denied"));
}

#[test]
fn backoff_grows_and_is_reset_by_a_minute_of_health() {
    let mut given = Given::watching();
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        given = given.then(Input::Ended(None));
        longest = longest.max(given.machine.due().expect("a time").since(given.now));
        given = given.due().then(created(4, 5));
    }
    assert!(longest > Duration::from_secs(1) && longest <= Duration::from_secs(30));
    given.now = given.now + Duration::from_secs(60);
    given = given.then(Input::Ended(None));
    let wait = given.machine.due().expect("a time").since(given.now);
    assert!(wait <= Duration::from_millis(100));
}

#[test]
fn a_trouble_is_warned_of_once_until_events_flow_again() {
    let refused = || Input::Opened(Err(error(Reason::Unavailable)));
    let mut given = Given::opening().then(refused());
    assert_eq!(given.did(), ["close", "warn"]);
    given = given.due().then(refused());
    assert_eq!(given.did(), ["close", "leave"]);
    given = given.due().then(created(4, 5));
    assert_eq!(given.did(), ["version of 1", "recovered"]);
    given = given.then(Input::Ended(None)).due().then(refused());
    assert_eq!(given.did(), ["close", "warn", "leave"]);
}
