//! [`Watchers`]: who is shown what.
//!
//! A stream's messages are pulled by whoever sends them, so that a slow reader holds up nobody. Each
//! stream has one queue, in the order of the revisions, with its answers and its events. A watch is
//! *synced* while every event of it is queued as it happens; it *lags* while it reads the history
//! instead: when it starts in the past, and when its reader has fallen too far behind for the queue.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    mem,
};

use etcd_client::proto::{
    PbEvent, PbKeyValue, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse,
};
use prost::Message as _;

use super::{
    header,
    refusal::Refusal,
    span::Span,
    store::{Store, Version, is_deletion, memory},
};

/// About how much memory the changes may take that are queued on a stream: then its watches lag.
const MAX_QUEUED_BYTES: u64 = 4 * 1024 * 1024;
/// How many revisions of its history, and about how many bytes, a message for a lagging watch has.
const MAX_REVISIONS: usize = 1000;
const MAX_BYTES: usize = 1024 * 1024;
/// The size from which a message is cut in fragments, for who asked for that: etcd's limit of a
/// request, and what it reserves for gRPC.
const FRAGMENT_BYTES: usize = 1536 * 1024 + 512 * 1024;
/// The id of a watch that is none, or of all of a stream.
const NO_WATCH: i64 = -1;

/// One watch stream of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u64);

#[derive(Clone, Debug, Default)]
pub(super) struct Watchers {
    streams: BTreeMap<StreamId, Stream>,
    last_stream: u64,
    woken: BTreeSet<StreamId>,
    /// Events that are shown to nobody.
    swallow: Vec<Vec<u8>>,
    swallowed: BTreeSet<(i64, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    watches: BTreeMap<i64, Watch>,
    next_id: i64,
    queue: VecDeque<Item>,
    /// About how much memory the changes in the queue take.
    queued_bytes: u64,
    /// The watches that lag, those that were served last at the end.
    lagging: VecDeque<i64>,
    /// Progress was asked for. The answer waits until no watch lags.
    progress: bool,
}

#[derive(Clone, Debug)]
struct Watch {
    span: Span,
    /// The revision that was asked for.
    start: i64,
    place: Place,
    puts: bool,
    deletions: bool,
    prev_kv: bool,
    fragment: bool,
    /// It is told now and then how far it is.
    progress_notify: bool,
    /// It was shown no event since the last time for that.
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Shown everything from this revision on, which may be in the future, as it happens.
    Synced { from: i64 },
    /// Has to read the history from this revision on.
    Lagging { from: i64 },
    /// Its history was compacted away; its id stays taken until it is cancelled, as in etcd.
    Compacted,
}

#[derive(Clone, Debug)]
enum Item {
    Message(Box<PbWatchResponse>),
    Changes {
        watch: i64,
        revision: i64,
        changes: Vec<Version>,
    },
}

impl Watch {
    /// Whether it has been shown everything up to now, and has begun.
    fn is_abreast(&self, revision: i64) -> bool {
        matches!(self.place, Place::Synced { .. }) && self.start <= revision
    }

    fn wants(&self, change: &PbKeyValue) -> bool {
        let wanted = if is_deletion(change) {
            self.deletions
        } else {
            self.puts
        };
        wanted && self.span.contains(&change.key)
    }

    fn event(&self, store: &Store, change: &Version) -> PbEvent {
        let is_creation = change.create_revision == change.mod_revision;
        let before = (self.prev_kv && !is_creation)
            .then(|| store.at(&change.key, change.mod_revision - 1))
            .flatten();
        PbEvent {
            r#type: i32::from(is_deletion(change)),
            kv: Some((**change).clone()),
            prev_kv: before
                // What was compacted cannot be read, even where it is still there.
                .filter(|_| change.mod_revision > store.compacted())
                .map(|before| (**before).clone()),
        }
    }
}

impl Watchers {
    pub(super) fn open(&mut self) -> StreamId {
        self.last_stream += 1;
        let id = StreamId(self.last_stream);
        self.streams.insert(id, Stream::default());
        id
    }

    pub(super) fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.woken.remove(&id);
    }

    /// The store has gone back: nothing that was to be shown is true any more.
    pub(super) fn restore(&mut self) {
        self.streams.clear();
        self.swallowed.clear();
    }

    #[cfg(test)]
    pub(super) fn queued_bytes(&self) -> u64 {
        let queues = self.streams.values().map(|stream| stream.queued_bytes);
        queues.sum()
    }

    /// How many streams are open, and how many watches they have.
    pub(super) fn count(&self) -> (usize, usize) {
        let watches = self.streams.values().map(|stream| stream.watches.len());
        (self.streams.len(), watches.sum())
    }

    pub(super) fn take_woken(&mut self) -> Vec<StreamId> {
        mem::take(&mut self.woken).into_iter().collect()
    }

    pub(super) fn swallow(&mut self, key: &[u8]) {
        self.swallow.push(key.to_vec());
    }

    /// Takes a request of a stream. The answer is queued.
    pub(super) fn request(&mut self, store: &Store, id: StreamId, request: PbWatchRequest) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match request.request_union {
            Some(PbWatchRequestUnion::CreateRequest(request)) => {
                let wanted = Wanted {
                    id: request.watch_id,
                    key: request.key,
                    range_end: request.range_end,
                    start: request.start_revision,
                };
                let watch = |span, place| Watch {
                    span,
                    start: request.start_revision,
                    place,
                    puts: !request.filters.contains(&0),
                    deletions: !request.filters.contains(&1),
                    prev_kv: request.prev_kv,
                    fragment: request.fragment,
                    progress_notify: request.progress_notify,
                    quiet: true,
                };
                stream.create(store, wanted, watch);
            }
            Some(PbWatchRequestUnion::CancelRequest(request)) => {
                stream.cancel(store, request.watch_id);
            }
            Some(PbWatchRequestUnion::ProgressRequest(_)) => stream.progress = true,
            None => return,
        }
        self.woken.insert(id);
    }

    /// Queues a revision's changes for the watches that are synced.
    pub(super) fn notify(&mut self, revision: i64, changes: &[Version]) {
        for change in changes {
            if let Some(at) = self.swallow.iter().position(|key| *key == change.key) {
                let key = self.swallow.swap_remove(at);
                self.swallowed.insert((revision, key));
            }
        }
        let swallowed = &self.swallowed;
        let is_shown = |change: &Version| {
            swallowed.is_empty() || !swallowed.contains(&(revision, change.key.clone()))
        };
        for (&id, stream) in &mut self.streams {
            for (&watch_id, watch) in &mut stream.watches {
                let Place::Synced { from } = watch.place else {
                    continue;
                };
                if revision < from {
                    continue;
                }
                let wanted = |change: &&Version| watch.wants(change) && is_shown(change);
                let changes: Vec<_> = changes.iter().filter(wanted).cloned().collect();
                if changes.is_empty() {
                    continue;
                }
                if stream.queued_bytes >= MAX_QUEUED_BYTES {
                    watch.place = Place::Lagging { from: revision };
                    stream.lagging.push_back(watch_id);
                } else {
                    stream.queued_bytes += memory(&changes);
                    stream.queue.push_back(Item::Changes {
                        watch: watch_id,
                        revision,
                        changes,
                    });
                }
                self.woken.insert(id);
            }
        }
    }

    /// The store cannot show anything before this revision any more.
    pub(super) fn forget(&mut self, revision: i64) {
        self.swallowed.retain(|(at, _)| *at >= revision);
    }

    /// Tells those watches how far they are that want to be told, and have not heard of it by events.
    pub(super) fn notify_progress(&mut self, store: &Store) {
        for (&id, stream) in &mut self.streams {
            for (&watch_id, watch) in &mut stream.watches {
                let was_quiet = mem::replace(&mut watch.quiet, true);
                if watch.progress_notify && was_quiet && watch.is_abreast(store.revision()) {
                    let message = message(store.revision(), watch_id);
                    stream.queue.push_back(Item::Message(Box::new(message)));
                    self.woken.insert(id);
                }
            }
        }
    }

    /// The next message of a stream, in fragments if it is large and they were asked for.
    pub(super) fn next(&mut self, store: &Store, id: StreamId) -> Option<PbWatchResponse> {
        self.streams.get_mut(&id)?.next(store, &self.swallowed)
    }
}

/// What a create request asks for.
struct Wanted {
    id: i64,
    key: Vec<u8>,
    range_end: Vec<u8>,
    start: i64,
}

impl Stream {
    fn create(&mut self, store: &Store, wanted: Wanted, watch: impl FnOnce(Span, Place) -> Watch) {
        let Wanted {
            mut id,
            mut key,
            range_end,
            start,
        } = wanted;
        if key.is_empty() {
            // The smallest key.
            key.push(0);
        }
        let span = Span::new(&key, &range_end);
        let refusal = if start < 0 {
            Some(Refusal::COMPACTED.message)
        } else if span.is_empty() {
            Some("mvcc: watcher range is empty")
        } else if id != 0 && self.watches.contains_key(&id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream")
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.push(PbWatchResponse {
                created: true,
                canceled: true,
                cancel_reason: reason.into(),
                ..message(store.revision(), NO_WATCH)
            });
            return;
        }
        if id == 0 {
            while self.watches.contains_key(&self.next_id) {
                self.next_id += 1;
            }
            id = self.next_id;
            self.next_id += 1;
        }
        let next = store.revision() + 1;
        let place = match start {
            0 => Place::Synced { from: next },
            start if start >= next => Place::Synced { from: start },
            start => Place::Lagging { from: start },
        };
        self.push(PbWatchResponse {
            created: true,
            ..message(store.revision(), id)
        });
        if matches!(place, Place::Lagging { .. }) {
            self.lagging.push_back(id);
        }
        self.watches.insert(id, watch(span, place));
    }

    fn cancel(&mut self, store: &Store, id: i64) {
        // etcd does not answer for one that it does not know.
        if self.watches.contains_key(&id) {
            self.settle(store, id);
            self.watches.remove(&id);
            self.lagging.retain(|lagging| *lagging != id);
            self.push(PbWatchResponse {
                canceled: true,
                ..message(store.revision(), id)
            });
        }
    }

    /// Makes messages of the changes that are queued for a watch: another may get its id.
    fn settle(&mut self, store: &Store, id: i64) {
        for item in mem::take(&mut self.queue) {
            let item = match item {
                Item::Changes {
                    watch,
                    revision,
                    changes,
                } if watch == id => {
                    let message = self.show(store, watch, revision, &changes);
                    message.map(|message| Item::Message(Box::new(message)))
                }
                item => Some(item),
            };
            self.queue.extend(item);
        }
    }

    fn push(&mut self, message: PbWatchResponse) {
        self.queue.push_back(Item::Message(Box::new(message)));
    }

    fn next(
        &mut self,
        store: &Store,
        swallowed: &BTreeSet<(i64, Vec<u8>)>,
    ) -> Option<PbWatchResponse> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                match item {
                    Item::Message(message) => return Some(*message),
                    Item::Changes {
                        watch,
                        revision,
                        changes,
                    } => {
                        if let Some(message) = self.show(store, watch, revision, &changes) {
                            return Some(self.first_fragment(message));
                        }
                    }
                }
            } else if let Some(id) = self.lagging.pop_front() {
                if let Some(message) = self.catch_up(store, swallowed, id) {
                    return Some(message);
                }
            } else {
                let answers = mem::take(&mut self.progress) && self.is_abreast(store.revision());
                return answers.then(|| message(store.revision(), NO_WATCH));
            }
        }
    }

    /// Whether a request for progress is answered. etcd says nothing for a stream that has a watch
    /// with a start that was not reached yet, be it the next revision, or one that was compacted
    /// away and not cancelled by the client; nor has it anybody to answer without any watch.
    fn is_abreast(&self, revision: i64) -> bool {
        !self.watches.is_empty() && self.watches.values().all(|w| w.is_abreast(revision))
    }

    /// The message for changes that were queued as they happened.
    fn show(
        &mut self,
        store: &Store,
        id: i64,
        revision: i64,
        changes: &[Version],
    ) -> Option<PbWatchResponse> {
        self.queued_bytes -= memory(changes);
        let watch = self.watches.get_mut(&id)?;
        watch.quiet = false;
        let events = changes.iter().map(|change| watch.event(store, change));
        Some(PbWatchResponse {
            events: events.collect(),
            ..message(revision, id)
        })
    }

    /// The next part of the history for a watch that lags.
    fn catch_up(
        &mut self,
        store: &Store,
        swallowed: &BTreeSet<(i64, Vec<u8>)>,
        id: i64,
    ) -> Option<PbWatchResponse> {
        let watch = self.watches.get_mut(&id)?;
        let Place::Lagging { from } = watch.place else {
            return None;
        };
        if from < store.compacted() {
            watch.place = Place::Compacted;
            return Some(PbWatchResponse {
                canceled: true,
                compact_revision: store.compacted(),
                ..message(0, id)
            });
        }
        let (mut events, mut bytes, mut revisions) = (Vec::new(), 0, 0);
        let mut next = store.revision() + 1;
        for (revision, changes) in store.history(from) {
            if revisions == MAX_REVISIONS || bytes >= MAX_BYTES {
                next = revision;
                break;
            }
            let shown = changes.iter().filter(|change| {
                watch.wants(change)
                    && (swallowed.is_empty()
                        || !swallowed.contains(&(revision, change.key.clone())))
            });
            let before = events.len();
            events.extend(shown.map(|change| watch.event(store, change)));
            bytes += events[before..]
                .iter()
                .map(PbEvent::encoded_len)
                .sum::<usize>();
            revisions += usize::from(events.len() > before);
        }
        if next > store.revision() {
            watch.place = Place::Synced { from: next };
        } else {
            watch.place = Place::Lagging { from: next };
            self.lagging.push_back(id);
        }
        if events.is_empty() {
            return None;
        }
        watch.quiet = false;
        let whole = PbWatchResponse {
            events,
            ..message(store.revision(), id)
        };
        Some(self.first_fragment(whole))
    }

    /// Cuts a message that is too large, if its watch wants that; what is left is next in the queue.
    fn first_fragment(&mut self, whole: PbWatchResponse) -> PbWatchResponse {
        let wants = self
            .watches
            .get(&whole.watch_id)
            .is_some_and(|w| w.fragment);
        if !wants || whole.events.len() < 2 || whole.encoded_len() < FRAGMENT_BYTES {
            return whole;
        }
        let mut fragments = fragments(whole);
        let first = fragments.pop_front().unwrap_or_default();
        for fragment in fragments.into_iter().rev() {
            self.queue.push_front(Item::Message(Box::new(fragment)));
        }
        first
    }
}

fn fragments(mut whole: PbWatchResponse) -> VecDeque<PbWatchResponse> {
    let mut events: VecDeque<_> = mem::take(&mut whole.events).into();
    let mut fragments = VecDeque::new();
    while !events.is_empty() {
        let mut fragment = PbWatchResponse {
            fragment: true,
            ..whole.clone()
        };
        let mut size = fragment.encoded_len();
        while let Some(event) = events.front() {
            let event_size = event.encoded_len();
            // The tag of the field and the length before the event.
            size += 1 + prost::length_delimiter_len(event_size) + event_size;
            if !fragment.events.is_empty() && size >= FRAGMENT_BYTES {
                break;
            }
            fragment.events.extend(events.pop_front());
        }
        fragment.fragment = !events.is_empty();
        fragments.push_back(fragment);
    }
    fragments
}

fn message(revision: i64, watch_id: i64) -> PbWatchResponse {
    PbWatchResponse {
        header: Some(header(revision)),
        watch_id,
        ..PbWatchResponse::default()
    }
}
