//! [`Script`]: a model of etcd that a test plays, good enough for every trouble a watch can meet.
//!
//! It keeps history as etcd does (every revision, compaction, restore), serves linearizable and
//! serializable reads, catches streams up in batches whose header is the current revision, and then
//! tells one revision at a time. Nothing in it waits or wakes: a future is ready when the test has
//! made it so, and the test polls.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
};

use rand::{Rng, rngs::StdRng};

use super::{
    place::Map,
    source::{Source, SourceStream},
};
use crate::client::{
    CallError, Certainty, Event, EventKind, Header, KeyValue, Range, RangeReply, Reason, Span,
    Version, WatchMessage, WatchRequest,
};

/// The server, as the watch under test and the test both hold it.
#[derive(Clone, Debug)]
pub(super) struct Script(Arc<Mutex<World>>);

/// What was asked of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Range(Range),
    Watch(WatchRequest),
    Progress,
    Version(u64),
    Refresh,
    Leave,
}

/// How a member answers a progress request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Behind its events, once it is synced and has reached the stream's start.
    Behind,
    /// At once, with the current revision, before the events up to it.
    Ahead,
    Never,
}

#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) version: Version,
    /// It has applied no more than this revision; `None`: all of them.
    pub(super) lag: Option<i64>,
    pub(super) progress: Progress,
}

/// All that the test may turn. Change history through the methods.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rev: i64,
    pub(super) term: u64,
    pub(super) compacted: i64,
    pub(super) members: Vec<Member>,
    /// The member that the next call goes to.
    pub(super) endpoint: usize,
    /// Revisions in one message while a stream catches up.
    pub(super) batch: usize,
    /// Events in one part of a message; 0: never cut.
    pub(super) fragment: usize,
    /// A reply with more keys cannot be decoded; 0: no limit.
    pub(super) decodable_keys: usize,
    /// A catch-up message with more events cannot be decoded; 0: no limit.
    pub(super) decodable_events: usize,
    /// No call is answered but with an error.
    pub(super) down: bool,
    pub(super) token_expired: bool,
    pub(super) refresh_works: bool,
    pub(super) denied: bool,
    /// The next streams are refused with this reason.
    pub(super) refuse: Option<&'static str>,
    /// New streams never open.
    pub(super) stall_opens: bool,
    /// New streams open and then say nothing.
    pub(super) open_silent: bool,
    /// Only so many messages other than progress are still delivered.
    pub(super) trickle: Option<usize>,
    /// Answers to these reads are made at once, and delivered after [`World::release`].
    pub(super) hold: Option<fn(&Range) -> bool>,
    releases: u64,
    /// Every await is pending now and then, by these dice.
    pub(super) stutter: Option<StdRng>,
    /// Compacts to the current revision before the next page that is not a first one is served.
    pub(super) compact_between_pages: u32,
    /// Puts this key before the next page that is not a first one is served.
    pub(super) put_between_pages: Option<&'static str>,
    pub(super) calls: Vec<Call>,
    lost: BTreeSet<i64>,
    maps: BTreeMap<i64, Map>,
    events: BTreeMap<i64, Vec<Event>>,
    tapes: BTreeMap<u64, Tape>,
    opened: u64,
}

/// One stream.
#[derive(Debug)]
struct Tape {
    member: usize,
    request: WatchRequest,
    /// The first revision that is wanted.
    start: i64,
    /// The next revision to deliver.
    cursor: i64,
    created: bool,
    synced: bool,
    canceled: bool,
    silent: bool,
    queue: VecDeque<Result<Option<WatchMessage>, CallError>>,
}

fn error(reason: Reason, message: &str) -> CallError {
    CallError::new(Certainty::Unknown, reason, message)
}

fn within(span: &Span, key: &[u8]) -> bool {
    match span {
        Span::Key(only) => key == only,
        Span::Interval(start, end) => key >= start.as_slice() && key < end.as_slice(),
    }
}

impl Script {
    /// One member, up to date.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            rev: 1,
            term: 5,
            compacted: 0,
            members: vec![member(1)],
            endpoint: 0,
            batch: 1_000,
            fragment: 0,
            decodable_keys: 0,
            decodable_events: 0,
            down: false,
            token_expired: false,
            refresh_works: true,
            denied: false,
            refuse: None,
            stall_opens: false,
            open_silent: false,
            trickle: None,
            hold: None,
            releases: 0,
            stutter: None,
            compact_between_pages: 0,
            put_between_pages: None,
            calls: Vec::new(),
            lost: BTreeSet::new(),
            maps: BTreeMap::from([(1, Map::new())]),
            events: BTreeMap::new(),
            tapes: BTreeMap::new(),
            opened: 0,
        })))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0
            .lock()
            .expect("no test panics while it holds the world")
    }

    /// A second member.
    pub(super) fn with_two_members() -> Self {
        let script = Self::new();
        script.world().members.push(member(2));
        script
    }

    pub(super) fn put(&self, key: &str, value: &str) -> i64 {
        self.world().write(&[(key, Some(value))])
    }

    pub(super) fn delete(&self, key: &str) -> i64 {
        self.world().write(&[(key, None)])
    }

    async fn until(&self, ready: impl Fn(&World) -> bool) {
        poll_fn(|_| {
            let mut world = self.world();
            match ready(&world) && !world.stutters() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// How many calls are such.
    pub(super) fn count(&self, such: impl Fn(&Call) -> bool) -> usize {
        self.world().calls.iter().filter(|call| such(call)).count()
    }
}

pub(super) fn member(id: u64) -> Member {
    Member {
        id,
        version: Version::new(3, 5, 16),
        lag: None,
        progress: Progress::Behind,
    }
}

impl World {
    /// One revision.
    pub(super) fn write(&mut self, changes: &[(&str, Option<&str>)]) -> i64 {
        let mut map = self.maps[&self.rev].clone();
        let rev = self.rev + 1;
        let mut events = Vec::new();
        for (key, value) in changes {
            let key = key.as_bytes().to_vec();
            let kv = match value {
                Some(value) => {
                    let old = map.get(&key);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.as_bytes().to_vec(),
                        create_revision: old.map_or(rev, |old| old.create_revision),
                        mod_revision: rev,
                        version: old.map_or(1, |old| old.version + 1),
                        lease: 0,
                    };
                    map.insert(key, kv.clone());
                    kv
                }
                None if map.remove(&key).is_some() => KeyValue {
                    key,
                    mod_revision: rev,
                    ..KeyValue::default()
                },
                None => continue,
            };
            let kind = match value {
                Some(_) => EventKind::Put,
                None => EventKind::Delete,
            };
            events.push(Event { kind, kv });
        }
        if !events.is_empty() {
            self.rev = rev;
            self.maps.insert(rev, map);
            self.events.insert(rev, events);
        }
        self.rev
    }

    /// The keys of `span` at `revision`; `None` if that is in no history.
    pub(super) fn map_at(&self, span: &Span, revision: i64) -> Option<Map> {
        let map = self.maps.get(&revision)?;
        Some(
            map.iter()
                .filter(|(key, _)| within(span, key))
                .map(|(key, kv)| (key.clone(), kv.clone()))
                .collect(),
        )
    }

    pub(super) fn compact(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
    }

    /// From a backup made at `to`: what came after never was. The connections break.
    pub(super) fn restore(&mut self, to: i64, lower_term: bool) {
        self.rev = to;
        self.maps.split_off(&(to + 1));
        self.events.split_off(&(to + 1));
        self.lost.split_off(&(to + 1));
        self.compacted = self.compacted.min(to);
        if lower_term {
            self.term -= 1;
        }
        for member in &mut self.members {
            member.lag = None;
        }
        self.cut();
    }

    /// Breaks every stream.
    pub(super) fn cut(&mut self) {
        for tape in self.tapes.values_mut() {
            tape.queue = [Err(error(Reason::Unavailable, "cut"))].into();
            (tape.silent, tape.canceled) = (false, true);
        }
    }

    /// Ends every stream in good order.
    pub(super) fn end(&mut self) {
        for tape in self.tapes.values_mut() {
            tape.queue = [Ok(None)].into();
            (tape.silent, tape.canceled) = (false, true);
        }
    }

    /// Half-open: no stream says anything any more, and none breaks.
    pub(super) fn silence(&mut self) {
        for tape in self.tapes.values_mut() {
            tape.silent = true;
        }
    }

    /// Delivers the answers that were held, and holds no more.
    pub(super) fn release(&mut self) {
        self.hold = None;
        self.releases += 1;
    }

    /// No stream ever tells this revision.
    pub(super) fn lose(&mut self, revision: i64) {
        self.lost.insert(revision);
    }

    pub(super) fn streams(&self) -> usize {
        self.tapes.len()
    }

    fn stutters(&mut self) -> bool {
        (self.stutter.as_mut()).is_some_and(|dice| dice.random_bool(0.5))
    }

    fn header(&self, member: usize, revision: i64) -> Header {
        Header {
            cluster_id: 7,
            member_id: self.members[member].id,
            revision,
            raft_term: self.term,
        }
    }

    fn seen_by(&self, member: usize) -> i64 {
        self.members[member].lag.unwrap_or(self.rev).min(self.rev)
    }

    fn refusal(&self) -> Option<CallError> {
        if self.down {
            Some(error(Reason::Unavailable, "no endpoint answers"))
        } else if self.token_expired {
            Some(error(Reason::BadToken, "etcdserver: invalid auth token"))
        } else if self.denied {
            Some(error(Reason::Denied, "etcdserver: permission denied"))
        } else {
            None
        }
    }

    fn range(&mut self, range: &Range) -> Result<RangeReply, CallError> {
        // Later pages start behind a key: at the key and a zero byte.
        if matches!(&range.span, Span::Interval(start, _) if start.ends_with(&[0])) {
            if self.compact_between_pages > 0 {
                self.compact_between_pages -= 1;
                self.write(&[("/elsewhere", Some("x"))]);
                self.compact(self.rev);
            }
            if let Some(key) = self.put_between_pages.take() {
                self.write(&[(key, Some("between"))]);
            }
        }
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let current = if range.serializable {
            self.seen_by(self.endpoint)
        } else {
            self.rev
        };
        let at = if range.revision == 0 {
            current
        } else {
            range.revision
        };
        if at > current {
            return Err(error(
                Reason::FutureRevision,
                "required revision is a future revision",
            ));
        }
        if at < self.compacted {
            return Err(error(
                Reason::Compacted,
                "required revision has been compacted",
            ));
        }
        let all = self.map_at(&range.span, at).unwrap_or_default();
        let count = i64::try_from(all.len()).expect("a small test");
        let mut kvs: Vec<_> = all
            .into_values()
            .filter(|kv| kv.mod_revision >= range.min_mod_revision)
            .collect();
        let mut more = false;
        let limit = usize::try_from(range.limit).expect("not negative");
        if limit > 0 && kvs.len() > limit {
            more = true;
            kvs.truncate(limit);
        }
        if range.count_only {
            (kvs, more) = (Vec::new(), false);
        }
        if self.decodable_keys > 0 && kvs.len() > self.decodable_keys {
            return Err(error(Reason::TooLarge, "decoded message length too large"));
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeReply {
            header: self.header(self.endpoint, current),
            kvs,
            more,
            count,
        })
    }

    fn open(&mut self, request: WatchRequest) -> u64 {
        self.opened += 1;
        let mut tape = Tape {
            member: self.endpoint,
            start: request.start_revision,
            cursor: request.start_revision,
            request,
            created: false,
            synced: false,
            canceled: false,
            silent: self.open_silent,
            queue: VecDeque::new(),
        };
        // etcd answers so to some expired tokens, too.
        let refused = if self.token_expired || self.denied {
            Some("rpc error: code = PermissionDenied desc = etcdserver: permission denied")
        } else {
            self.refuse
        };
        if let Some(reason) = refused {
            tape.canceled = true;
            tape.created = true;
            tape.queue.push_back(Ok(Some(WatchMessage {
                header: self.header(self.endpoint, self.seen_by(self.endpoint)),
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: reason.to_owned(),
                ..WatchMessage::default()
            })));
        }
        self.tapes.insert(self.opened, tape);
        self.opened
    }

    /// Writes what the stream would say next to its queue, if there is anything.
    fn write_tape(&mut self, id: u64) {
        let Some(mut tape) = self.tapes.remove(&id) else {
            return;
        };
        let seen = self.seen_by(tape.member);
        if !tape.created {
            tape.created = true;
            if tape.start == 0 {
                tape.start = seen + 1;
                tape.cursor = seen + 1;
            }
            tape.synced = tape.start > seen;
            tape.queue.push_back(Ok(Some(WatchMessage {
                header: self.header(tape.member, seen),
                created: true,
                ..WatchMessage::default()
            })));
        } else if tape.canceled {
        } else if !tape.synced && tape.cursor < self.compacted {
            tape.canceled = true;
            tape.queue.push_back(Ok(Some(WatchMessage {
                canceled: true,
                compact_revision: self.compacted,
                ..WatchMessage::default()
            })));
        } else {
            let limit = if tape.synced { 1 } else { self.batch };
            let mut events = Vec::new();
            let mut revisions = 0;
            let mut last = seen;
            while tape.cursor <= seen && revisions < limit {
                let revision = tape.cursor;
                tape.cursor += 1;
                let mut told: Vec<_> = (self.events.get(&revision).into_iter().flatten())
                    .filter(|event| within(&tape.request.span, &event.kv.key))
                    .filter(|event| !(tape.request.no_put && event.kind == EventKind::Put))
                    .cloned()
                    .collect();
                if !told.is_empty() && !self.lost.contains(&revision) {
                    revisions += 1;
                    last = revision;
                    events.append(&mut told);
                }
            }
            let header = self.header(tape.member, if tape.synced { last } else { seen });
            let too_large = self.decodable_events > 0 && events.len() > self.decodable_events;
            if too_large && !tape.synced {
                let reason = "decoded message length too large";
                tape.queue.push_back(Err(error(Reason::TooLarge, reason)));
            } else if !events.is_empty() {
                let part = if self.fragment == 0 {
                    events.len()
                } else {
                    self.fragment
                };
                let parts = events.len().div_ceil(part);
                for (index, events) in events.chunks(part).enumerate() {
                    tape.queue.push_back(Ok(Some(WatchMessage {
                        header,
                        fragment: index + 1 < parts,
                        events: events.to_vec(),
                        ..WatchMessage::default()
                    })));
                }
            }
            tape.synced |= tape.cursor > seen;
        }
        self.tapes.insert(id, tape);
    }

    fn next_message(&mut self, id: u64) -> Poll<Result<Option<WatchMessage>, CallError>> {
        if !self.tapes[&id].silent && self.tapes[&id].queue.is_empty() {
            self.write_tape(id);
        }
        let stopped = self.trickle == Some(0);
        let tape = self.tapes.get_mut(&id).expect("an open stream");
        let is_progress = |next: &Result<Option<WatchMessage>, CallError>| matches!(next, Ok(Some(m)) if m.watch_id == -1 && !m.canceled);
        match tape.queue.front() {
            None => Poll::Pending,
            Some(next) if stopped && !is_progress(next) => Poll::Pending,
            _ if tape.silent => Poll::Pending,
            Some(next) => {
                if let (Some(left), false) = (&mut self.trickle, is_progress(next)) {
                    *left -= 1;
                }
                Poll::Ready(tape.queue.pop_front().expect("looked at"))
            }
        }
    }

    fn progress(&mut self, id: u64) {
        let member = self.tapes[&id].member;
        let seen = self.seen_by(member);
        let answer = Ok(Some(WatchMessage {
            header: self.header(member, seen),
            watch_id: -1,
            ..WatchMessage::default()
        }));
        let mode = self.members[member].progress;
        if self.tapes[&id].silent || self.tapes[&id].canceled {
            return;
        }
        // What is due comes first, but not for a server that overtakes.
        while mode == Progress::Behind
            && self.tapes[&id].created
            && self.tapes[&id].synced
            && self.tapes[&id].cursor <= seen
        {
            self.write_tape(id);
        }
        let tape = self.tapes.get_mut(&id).expect("an open stream");
        match mode {
            Progress::Ahead => tape.queue.push_front(answer),
            Progress::Behind if !tape.created => tape.queue.push_front(answer),
            Progress::Behind if tape.synced && tape.start <= seen => tape.queue.push_back(answer),
            Progress::Behind | Progress::Never => {}
        }
    }
}

impl Source for Script {
    type Stream = ScriptStream;

    async fn range(&self, range: Range) -> Result<RangeReply, CallError> {
        let (reply, held, releases) = {
            let mut world = self.world();
            world.calls.push(Call::Range(range.clone()));
            let held = world.hold.is_some_and(|holds| holds(&range));
            (world.range(&range), held, world.releases)
        };
        self.until(|world| !held || world.releases != releases)
            .await;
        reply
    }

    async fn watch(&self, request: WatchRequest) -> Result<ScriptStream, CallError> {
        self.world().calls.push(Call::Watch(request.clone()));
        self.until(|world| !world.stall_opens).await;
        let mut world = self.world();
        if world.down {
            return Err(error(Reason::Unavailable, "no endpoint answers"));
        }
        let id = world.open(request);
        Ok(ScriptStream {
            script: self.clone(),
            id,
        })
    }

    async fn refresh_token(&self) -> Result<(), CallError> {
        self.until(|_| true).await;
        let mut world = self.world();
        world.calls.push(Call::Refresh);
        if world.down {
            return Err(error(Reason::Unavailable, "no endpoint answers"));
        }
        if world.refresh_works {
            world.token_expired = false;
        }
        Ok(())
    }

    async fn version_of(&self, member: u64) -> Option<Version> {
        self.until(|_| true).await;
        let mut world = self.world();
        world.calls.push(Call::Version(member));
        let current = &world.members[world.endpoint];
        (current.id == member && !world.down).then_some(current.version)
    }

    fn leave_endpoint(&self) {
        let mut world = self.world();
        world.calls.push(Call::Leave);
        world.endpoint = (world.endpoint + 1) % world.members.len();
    }
}

/// The watch's end of a [`Tape`].
#[derive(Debug)]
pub(super) struct ScriptStream {
    script: Script,
    id: u64,
}

impl SourceStream for ScriptStream {
    async fn next(&mut self) -> Result<Option<WatchMessage>, CallError> {
        poll_fn(|_| {
            let mut world = self.script.world();
            match world.stutters() {
                true => Poll::Pending,
                false => world.next_message(self.id),
            }
        })
        .await
    }

    async fn request_progress(&mut self) -> Result<(), CallError> {
        self.script.until(|_| true).await;
        let mut world = self.script.world();
        world.calls.push(Call::Progress);
        world.progress(self.id);
        Ok(())
    }
}

impl Drop for ScriptStream {
    fn drop(&mut self) {
        self.script.world().tapes.remove(&self.id);
    }
}
