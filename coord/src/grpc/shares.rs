//! Which of the ready endpoints calls go to, and in what proportion: the caller's zone, and slow start.

use std::time::Duration;

use super::{
    members::{Entry, Members},
    ready::Member,
};
use crate::clock::Instant;

/// Calls stay in their zone while this part of its weight is ready.
const ENOUGH: f64 = 0.7;
/// What one that starts slowly gets at first, of its whole share.
const FIRST: f64 = 0.1;
/// In so many steps to the whole.
const STEPS: u32 = 10;

/// What is picked from now, and when that changes by itself.
#[derive(Debug)]
pub(super) struct Shares {
    pub(super) members: Vec<Member>,
    pub(super) until: Option<Instant>,
}

/// `zone`: the caller's. `ramp`: how long a new endpoint takes to its whole share.
pub(super) fn shares(
    members: &Members,
    zone: Option<&str>,
    ramp: Duration,
    now: Instant,
) -> Shares {
    let local = |entry: &&Entry| zone.is_some() && entry.record.zone.as_deref() == zone;
    let weight = |entry: &Entry| f64::from(entry.record.weight);
    let serving = |entry: &&Entry| entry.life.ready_since().is_some() && entry.endpoint.is_some();
    // One that vanished counts as well: as long as it answers, nobody knows that it is gone.
    let stays = |entry: &&Entry| !entry.life.is_leaving();
    let all: f64 = members
        .entries()
        .filter(local)
        .filter(stays)
        .map(weight)
        .sum();
    let ready: f64 = members
        .entries()
        .filter(local)
        .filter(serving)
        .map(weight)
        .sum();
    let at_home = ready > 0.0 && ready >= ENOUGH * all;

    let mut ramping = false;
    let chosen = members.entries().filter(serving);
    let chosen = chosen.filter(|entry| !at_home || local(entry));
    let member = |entry: &Entry| {
        let endpoint = entry.endpoint.clone()?;
        let since = entry.life.ready_since()?;
        let run = now.since(since);
        let mut share = weight(entry);
        if !entry.warm && run < ramp {
            ramping = true;
            share *= FIRST + (1.0 - FIRST) * (run.as_secs_f64() / ramp.as_secs_f64());
        }
        Some(Member {
            endpoint,
            weight: share,
        })
    };
    let members = chosen.filter_map(member).collect();
    Shares {
        members,
        until: ramping.then(|| now + ramp / STEPS),
    }
}
