//! The watches of one stream, as one server serves them.

use std::{
    mem,
    time::{Duration, Instant},
};

use super::normal;
use crate::rpc::{
    Api, Event, Refused, Stream, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest,
    WatchRequest, WatchResponse,
};

/// How long everything that is due may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(20);
/// After how long a request for progress is made again: etcd does not answer one while a watch of
/// the stream has not caught up.
const AGAIN: Duration = Duration::from_millis(10);

/// What one watch was sent, without what depends on when it was sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    /// The answer to the request.
    created: WatchResponse,
    /// The events, those of one revision together.
    events: Vec<(i64, Vec<Event>)>,
    /// The answers that say that it is no more.
    ends: Vec<WatchResponse>,
    /// What no order of events allows.
    faults: Vec<String>,
}

/// The watches of one stream.
pub(super) struct Watches {
    stream: Stream<WatchRequest, WatchResponse>,
    /// Watches that the server refused or ended are still here.
    pub(super) logs: Vec<Log>,
    /// The watches that may get something: an id, and its log.
    live: Vec<(i64, usize)>,
    /// The furthest revision that one of them begins at.
    begins: i64,
    /// The watches that were compacted away: they keep their stream from progress until they are
    /// cancelled by the client too.
    compacted: Vec<i64>,
    /// The revision of the last answer to a request for progress.
    progress: Option<i64>,
    /// What does not belong to a watch.
    pub(super) strays: Vec<String>,
    /// The id of a watch whose last message was a fragment.
    open: Vec<i64>,
    tamper: Option<fn(&mut WatchResponse)>,
}

impl Watches {
    pub(super) fn open(api: &Api, tamper: Option<fn(&mut WatchResponse)>) -> Self {
        Self {
            stream: api.watch(),
            logs: Vec::new(),
            live: Vec::new(),
            begins: 0,
            compacted: Vec::new(),
            progress: None,
            strays: Vec::new(),
            open: Vec::new(),
            tamper,
        }
    }

    /// Asks for a watch, and waits for the answer.
    pub(super) async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Refused> {
        let logs = self.logs.len();
        self.begins = self.begins.max(request.start_revision);
        self.stream.send(request);
        while self.logs.len() == logs {
            let response = self.stream.next().await?;
            self.file(response);
        }
        Ok(())
    }

    /// Cancels a watch, and waits for the answer if there is one: whatever is answered comes before
    /// the answer to the next request, which etcd refuses.
    pub(super) async fn cancel(&mut self, watch_id: i64) -> Result<(), Refused> {
        self.stream.send(WatchCancelRequest { watch_id });
        self.create(WatchCreateRequest {
            key: "b".into(),
            range_end: "a".into(),
            ..Default::default()
        })
        .await?;
        let refused = self.logs.pop().expect("an answer is a log");
        if !refused.created.canceled {
            self.live.pop();
            self.strays.push(format!("{refused:?} for an empty range"));
        }
        Ok(())
    }

    /// Whether a watch waits for a revision after this one.
    pub(super) fn begins_after(&self, revision: i64) -> bool {
        self.begins > revision
    }

    /// Why the last watch that was asked for was refused, if it was.
    pub(super) fn last_refusal(&self) -> &str {
        let last = self.logs.last();
        last.map_or("", |log| &log.created.cancel_reason)
    }

    /// How many events all watches were sent.
    pub(super) fn events(&self) -> u64 {
        let revisions = self.logs.iter().flat_map(|log| &log.events);
        revisions.map(|(_, events)| events.len() as u64).sum()
    }

    /// Waits until every watch has everything up to `revision`.
    pub(super) async fn settle(&mut self, revision: i64) -> Result<(), Refused> {
        let started = Instant::now();
        self.progress = None;
        // A watch that is being compacted away leaves `live` while we wait.
        while !self.live.is_empty() && self.progress.is_none_or(|progress| progress < revision) {
            for gone in mem::take(&mut self.compacted) {
                self.cancel(gone).await?;
            }
            self.stream.send(WatchProgressRequest {});
            let asked = Instant::now();
            while let Some(rest) = AGAIN.checked_sub(asked.elapsed()) {
                let Some(response) = self.stream.next_within(rest).await else {
                    break;
                };
                self.file(response?);
                if self.progress.is_some() || !self.compacted.is_empty() {
                    break;
                }
            }
            if started.elapsed() > ARRIVAL {
                self.strays.push(format!("no progress in {ARRIVAL:?}"));
                break;
            }
        }
        for gone in mem::take(&mut self.compacted) {
            self.cancel(gone).await?;
        }
        if let Some(progress) = self.progress
            && progress != revision
        {
            self.strays
                .push(format!("progress to {progress}, not {revision}"));
        }
        Ok(())
    }

    /// Puts a response where it belongs.
    fn file(&mut self, mut response: WatchResponse) {
        if let Some(tamper) = self.tamper {
            tamper(&mut response);
        }
        normal::watch(&mut response);
        let id = response.watch_id;
        if response.created {
            if !response.canceled {
                self.live.push((id, self.logs.len()));
            }
            self.logs.push(Log {
                created: response,
                ..Log::default()
            });
            return;
        }
        let quiet = response.events.is_empty() && !response.canceled;
        if id == -1 && quiet {
            self.progress = response.header.map(|header| header.revision);
            return;
        }
        let Some(at) = self.live.iter().position(|(live, _)| *live == id) else {
            // The second end of one that was compacted away.
            let ended = self
                .logs
                .iter_mut()
                .rev()
                .find(|log| log.created.watch_id == id);
            match ended {
                Some(log) if response.canceled => log.ends.push(response),
                _ => self.strays.push(format!("{response:?}")),
            }
            return;
        };
        let log = &mut self.logs[self.live[at].1];
        if response.canceled {
            if response.compact_revision != 0 {
                self.compacted.push(id);
            }
            log.ends.push(response);
            self.live.remove(at);
            return;
        }
        let continued = self.open.contains(&id);
        self.open.retain(|open| *open != id);
        if response.fragment {
            self.open.push(id);
        }
        log.append(response, continued);
    }
}

impl Log {
    pub(super) fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    fn append(&mut self, response: WatchResponse, continued: bool) {
        let sent_at = response.header.map_or(0, |header| header.revision);
        let mut first = true;
        for event in response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if sent_at < revision {
                self.faults
                    .push(format!("{revision} was sent at {sent_at}"));
            }
            match self.events.last_mut() {
                Some((last, events)) if *last == revision => {
                    if first && !continued {
                        self.faults.push(format!("{revision} came in two messages"));
                    }
                    events.push(event);
                }
                _ => self.events.push((revision, vec![event])),
            }
            first = false;
        }
    }
}
