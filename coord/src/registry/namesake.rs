//! Looks for a second instance that its owner calls by the same name.

use super::{discover, instance::InstanceHealth, registration::Member, wish::Stage};
use crate::client::{Range, Span};

/// Warns if another instance of the service has the same name as `member`, once both are there. Both
/// stand: the names are their owners' own.
pub(super) async fn look(member: Member) {
    let Some(name) = &member.name else {
        return;
    };
    let mut wish = member.wish.subscribe();
    if wish
        .wait_for(|wish| wish.stage >= Stage::Serving)
        .await
        .is_err()
    {
        return;
    }
    let (stage, number) = {
        let wish = wish.borrow();
        (wish.stage, wish.number)
    };
    if stage > Stage::Serving {
        return;
    }
    member.settled(number).await;
    let engine = &member.engine;
    let Ok(prefix) = engine.layout.life_cycles(&member.service) else {
        return;
    };
    // One page: all instances of a large fleet that starts reading all of each other would be too much
    // for a warning.
    let mut range = Range::new(Span::prefix(&prefix));
    range.limit = discover::PAGE;
    let reply = match engine.read(range).await {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(target: "coord::registry", %error, "cannot look for a namesake");
            return;
        }
    };
    let others = reply
        .kvs
        .iter()
        .filter_map(|kv| super::read(&member.service, &prefix, kv));
    let mut same = others.filter(|other| {
        other.name.as_deref() == Some(name)
            && *other.instance != *member.instance
            && other.health != InstanceHealth::Draining
    });
    if let Some(other) = same.next_back() {
        tracing::warn!(target: "coord::registry", service = %member.service, name = %name,
            instance = %member.instance, other = other.instance, address = other.address,
            host = other.host,
            "another instance has the same name; both stand (it may be one that has crashed)");
    }
}
