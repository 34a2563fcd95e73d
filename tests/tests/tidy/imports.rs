//! Imports run downwards only, and not sideways.

use std::collections::HashMap;

use crate::code::{Code, Mention, Name};

/// Plain things that know nothing of coordination. They may use one another, all above may use them.
const LEAVES: &[&str] = &[
    "clock", "error", "host", "key", "metrics", "options", "retry", "tasks",
];

/// The client and what stands on it.
const ENGINES: &[&str] = &["client", "session", "watch", "engine"];

/// What services are made of. They do not know of one another.
const PARTS: &[&str] = &["config", "lock", "registry", "instance_id", "grpc"];

/// The rooms that a room may use, besides its own; none: the room is in no layer.
fn below(room: &str) -> Option<Vec<&'static str>> {
    let layers: &[&[&str]] = match room {
        leaf if LEAVES.contains(&leaf) => &[LEAVES],
        // A server that speaks etcd's language, not a part of coord: only its errors are ours.
        "embedded" => &[&["error"]],
        "client" => &[LEAVES],
        // The two engines do not know of one another.
        "session" | "watch" => &[LEAVES, &["client"]],
        "engine" => &[LEAVES, &["client", "session", "watch"]],
        "config" => &[LEAVES, &["client", "watch", "engine"]],
        "lock" | "registry" | "instance_id" => &[LEAVES, ENGINES],
        "grpc" => &[LEAVES, ENGINES, &["registry"]],
        "coordinator" => &[LEAVES, ENGINES, PARTS, &["embedded"]],
        "global" => &[LEAVES, ENGINES, PARTS, &["coordinator"]],
        "service" => &[LEAVES, ENGINES, PARTS, &["coordinator", "global"]],
        "testing" => &[
            LEAVES,
            ENGINES,
            PARTS,
            &["embedded", "coordinator", "global"],
        ],
        // Stands above everything.
        "private" => &[
            LEAVES,
            ENGINES,
            PARTS,
            &["embedded", "coordinator", "global", "service", "testing"],
        ],
        _ => return None,
    };
    Some(layers.concat())
}

/// The room behind each name that the crate's root re-exports; none: another crate's.
pub(crate) type RootNames = HashMap<String, Option<String>>;

/// What the root of the crate re-exports: `use crate::Error` is an import from `error`.
pub(crate) fn root_names(library: &[Code]) -> RootNames {
    let rooms: Vec<_> = library.iter().filter_map(Code::room).collect();
    let root = library.iter().filter(|code| code.room().is_none());
    let mut names = RootNames::new();
    for mention in root.flat_map(|code| &code.mentions) {
        let Name::Path(segments, renamed) = &mention.name else {
            continue;
        };
        let path = segments
            .strip_prefix(&["crate".to_owned()])
            .unwrap_or(segments);
        if let [first, .., last] = path {
            let room = rooms.contains(&first.as_str()).then(|| first.clone());
            names.insert(renamed.as_ref().unwrap_or(last).clone(), room);
        }
    }
    names
}

pub(crate) fn faults(code: &Code, names: &RootNames) -> Vec<String> {
    // The root only declares and re-exports.
    let Some(own) = code.room() else {
        return Vec::new();
    };
    let Some(allowed) = below(own) else {
        return vec![code.fault(1, format_args!("`{own}` is in no layer: give it its place"))];
    };
    let fault = |mention: &Mention| {
        let Name::Path(segments, _) = &mention.name else {
            return None;
        };
        let [root, name, ..] = &segments[..] else {
            return None;
        };
        if root != "crate" {
            return None;
        }
        let used = match names.get(name) {
            Some(re_exported) => re_exported.as_deref()?,
            None => name,
        };
        if used == own || allowed.contains(&used) {
            return None;
        }
        let why = if below(used).is_some() {
            "must not use"
        } else {
            "names something unknown:"
        };
        let path = segments.join("::");
        Some(code.fault(
            mention.line,
            format_args!("`{own}` {why} `{used}` (`{path}`)"),
        ))
    };
    code.mentions.iter().filter_map(fault).collect()
}

/// The faults of a file in a crate whose root re-exports some names.
#[cfg(test)]
fn faults_of(path: &str, text: &str) -> Vec<String> {
    let root = "pub use error::{Context as ErrorContext, Error}; pub use lock::LockGuard;
                pub use coord_macros::locked;";
    let library = [
        Code::parse("coord/src/lib.rs", root),
        Code::parse("coord/src/error.rs", ""),
        Code::parse("coord/src/lock/mod.rs", ""),
    ];
    faults(&Code::parse(path, text), &root_names(&library))
}

#[test]
fn an_import_upwards_or_sideways_is_a_fault() {
    for (path, text, part) in [
        (
            "session/keeper.rs",
            "use crate::watch::Watcher;",
            "`session` must not use `watch`",
        ),
        (
            "watch/mod.rs",
            "use crate::{client::X, session::Y};",
            "`watch` must not use `session`",
        ),
        (
            "config/mod.rs",
            "fn f() { crate::lock::x() }",
            "`config` must not use `lock`",
        ),
        (
            "config/mod.rs",
            "use crate::session::Session;",
            "`config` must not use `session`",
        ),
        (
            "lock/guard.rs",
            "use super::super::registry::X;",
            "`lock` must not use `registry`",
        ),
        (
            "lock/guard.rs",
            "use crate::Coordinator;",
            "names something unknown: `Coordinator`",
        ),
        (
            "error.rs",
            "use crate::client::Client;",
            "`error` must not use `client`",
        ),
        (
            "client/mod.rs",
            "use crate::LockGuard;",
            "`client` must not use `lock`",
        ),
        (
            "client/mod.rs",
            "use crate::*;",
            "names something unknown: `*`",
        ),
        (
            "engine.rs",
            "use crate::config::X;",
            "`engine` must not use `config`",
        ),
        (
            "coordinator.rs",
            "use crate::global::global;",
            "`coordinator` must not use `global`",
        ),
        (
            "global.rs",
            "use crate::service::X;",
            "`global` must not use `service`",
        ),
        (
            "service/mod.rs",
            "use crate::private::x;",
            "`service` must not use `private`",
        ),
        (
            "embedded/mod.rs",
            "use crate::{clock::Clock, error::E};",
            "`embedded` must not use",
        ),
        (
            "registry/mod.rs",
            "use coord::grpc::X;",
            "`registry` must not use `grpc`",
        ),
        ("utils.rs", "", "`utils` is in no layer"),
    ] {
        let found = faults_of(&format!("coord/src/{path}"), text);
        assert!(
            found.len() == 1 && found[0].contains(part),
            "{path}: {text}: {found:?}"
        );
    }
}

#[test]
fn an_import_downwards_is_none() {
    for (path, text) in [
        ("lib.rs", "mod lock; pub use lock::LockGuard;"),
        ("error.rs", "use crate::key::Key;"),
        (
            "lock/guard.rs",
            "use super::queue::X; use crate::{Error, ErrorContext, session::S};",
        ),
        (
            "lock/guard.rs",
            "use crate::lock::queue::X; use crate::locked; use std::fmt;",
        ),
        ("grpc/mod.rs", "use crate::registry::Instance;"),
        (
            "global.rs",
            "use crate::{coordinator::Coordinator, options::Options};",
        ),
        (
            "service/run.rs",
            "use crate::{config, global, instance_id::Id, lock, registry};",
        ),
        ("private.rs", "pub use crate::{service::run, lock::locked};"),
        (
            "config/mod.rs",
            "#[cfg(test)] mod tests { use crate::lock::X; }",
        ),
    ] {
        let found = faults_of(&format!("coord/src/{path}"), text);
        assert!(found.is_empty(), "{found:?}");
    }
}
