//! [`KeepAlive`]: when a lease's deadline is, in discrete time.
//!
//! One client, one lease, one etcd. A grant is sent once or twice, renewals on one stream or two;
//! each request and answer takes as long as it likes, those of a stream in order. The lease expires
//! some time after its last renewal's TTL, never before. The law: while the client believes, the
//! lease lives.

use stateright::{Model, Property};

/// How long a lease lives after its grant or a renewal, in ticks.
const TTL: u8 = 3;
/// When the world ends.
const END: u8 = 9;
/// How many renewals are sent.
const RENEWALS: u8 = 3;

/// From what else than the rule the deadline counts. The rule: from the first grant that was sent,
/// then from the send of the renewal that is answered; answers match the sends of their stream in
/// order, and those of an old stream count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miscount {
    /// From when the answer comes.
    FromReceipt,
    /// From the last grant that was sent, not the first.
    FromLastGrant,
    /// From the latest renewal that was sent.
    FromLatestSend,
    /// The answer on an old stream counts for the first send on the new one.
    OldStream,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct KeepAlive {
    /// What is wrong, if anything.
    pub miscount: Option<Miscount>,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Beat {
    now: u8,
    /// When each grant was sent.
    grants: Vec<u8>,
    /// How many of them are still on their way.
    grants_out: u8,
    /// How many answers to them are.
    granted_out: u8,
    lease: Lease,
    renewals: u8,
    /// The old stream and the current one.
    streams: [Stream; 2],
    reconnected: bool,
    /// When those that are unanswered on the current stream were sent.
    pending: Vec<u8>,
    /// Until when the client believes.
    deadline: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lease {
    No,
    /// Not before this does it expire.
    Until(u8),
    Expired,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Stream {
    requests: u8,
    answers: u8,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A tick of the clock.
    Tick,
    /// A grant is sent, or sent again.
    SendGrant,
    /// A grant reaches etcd.
    Grant,
    /// The answer reaches the client: granted, or "exists", which means the same.
    HearGrant,
    /// A renewal is sent on the current stream.
    SendRenewal,
    /// The next renewal of a stream reaches etcd.
    Renew(u8),
    /// The next answer of a stream reaches the client.
    HearRenewal(u8),
    /// A new stream; the old one's messages may still arrive.
    Reconnect,
    /// The lease expires.
    Expire,
}

impl Beat {
    fn believes(&self) -> bool {
        self.deadline.is_some_and(|deadline| self.now < deadline)
    }

    fn current(&self) -> usize {
        usize::from(self.reconnected)
    }
}

impl Model for KeepAlive {
    type State = Beat;
    type Action = Step;

    fn init_states(&self) -> Vec<Beat> {
        vec![Beat {
            now: 0,
            grants: Vec::new(),
            grants_out: 0,
            granted_out: 0,
            lease: Lease::No,
            renewals: 0,
            streams: [Stream::default(); 2],
            reconnected: false,
            pending: Vec::new(),
            deadline: None,
        }]
    }

    fn actions(&self, beat: &Beat, steps: &mut Vec<Step>) {
        let mut add = |may: bool, step: Step| {
            if may {
                steps.push(step);
            }
        };
        add(beat.now < END, Step::Tick);
        let more_grants = beat.grants.len() < 2 && beat.deadline.is_none();
        add(more_grants, Step::SendGrant);
        add(beat.grants_out > 0, Step::Grant);
        add(
            beat.granted_out > 0 && beat.deadline.is_none(),
            Step::HearGrant,
        );
        add(
            beat.believes() && beat.renewals < RENEWALS,
            Step::SendRenewal,
        );
        for (index, stream) in beat.streams.iter().enumerate() {
            add(stream.requests > 0, Step::Renew(index as u8));
            add(stream.answers > 0, Step::HearRenewal(index as u8));
        }
        add(
            !beat.reconnected && beat.deadline.is_some(),
            Step::Reconnect,
        );
        let over = matches!(beat.lease, Lease::Until(end) if end <= beat.now);
        add(over, Step::Expire);
    }

    fn next_state(&self, beat: &Beat, step: Step) -> Option<Beat> {
        let mut next = beat.clone();
        let is = |miscount| self.miscount == Some(miscount);
        match step {
            Step::Tick => next.now += 1,
            Step::SendGrant => {
                next.grants.push(beat.now);
                next.grants_out += 1;
            }
            Step::Grant => {
                next.grants_out -= 1;
                next.granted_out += 1;
                if beat.lease == Lease::No {
                    next.lease = Lease::Until(beat.now + TTL);
                }
            }
            Step::HearGrant => {
                next.granted_out -= 1;
                let from = if is(Miscount::FromReceipt) {
                    Some(&beat.now)
                } else if is(Miscount::FromLastGrant) {
                    beat.grants.last()
                } else {
                    beat.grants.first()
                };
                next.deadline = from.map(|from| from + TTL);
            }
            Step::SendRenewal => {
                next.renewals += 1;
                next.pending.push(beat.now);
                next.streams[beat.current()].requests += 1;
            }
            Step::Renew(stream) => {
                let stream = &mut next.streams[usize::from(stream)];
                stream.requests -= 1;
                // "Gone" is an answer as well; the client then stops, which needs no state.
                if let Lease::Until(_) = beat.lease {
                    stream.answers += 1;
                    next.lease = Lease::Until(beat.now + TTL);
                }
            }
            Step::HearRenewal(stream) => {
                let index = usize::from(stream);
                next.streams[index].answers -= 1;
                let counts = index == beat.current() || is(Miscount::OldStream);
                if counts && !beat.pending.is_empty() && beat.believes() {
                    let sent = match is(Miscount::FromLatestSend) {
                        true => beat.pending.last().copied(),
                        false => Some(next.pending.remove(0)),
                    };
                    let from = match is(Miscount::FromReceipt) {
                        true => Some(beat.now),
                        false => sent,
                    };
                    next.deadline = next.deadline.max(from.map(|from| from + TTL));
                }
            }
            Step::Reconnect => {
                next.reconnected = true;
                next.pending.clear();
            }
            Step::Expire => next.lease = Lease::Expired,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a believer's lease lives", |_, beat: &Beat| {
                !beat.believes() || beat.lease != Lease::Expired
            }),
            // Else the law would hold of a client that never believes anything.
            Property::sometimes("the lease is renewed", |_, beat: &Beat| {
                beat.believes() && beat.now > TTL + 1
            }),
        ]
    }
}
