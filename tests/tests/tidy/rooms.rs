//! Spawning, the time and etcd's client are each used in one room.

use crate::code::{Code, Mention, Name};

/// Something that only some rooms may use.
struct Reserved {
    what: &'static str,
    /// As paths. The embedded server is a world of its own: it has its own tasks and its own ticks.
    rooms: &'static [&'static str],
    uses: fn(&Name) -> bool,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        what: "tasks are spawned in tasks.rs, where they are tracked and cancelled",
        rooms: &["tasks", "embedded"],
        uses: spawns,
    },
    Reserved {
        what: "time is read and waited for in clock.rs, where tests drive it",
        rooms: &["clock", "embedded"],
        uses: tells_time,
    },
    Reserved {
        what: "etcd-client is used in client/",
        rooms: &["client", "embedded"],
        uses: |name| starts_with(name, "etcd_client"),
    },
    Reserved {
        what: "tonic is used in client/, and by what has gRPC for its subject",
        rooms: &["client", "embedded", "grpc", "service::grpc"],
        uses: |name| starts_with(name, "tonic"),
    },
];

pub(crate) fn faults(code: &Code) -> Vec<String> {
    let within = |room: &&str| {
        let mut module = code.module.iter();
        room.split("::")
            .all(|part| module.next().is_some_and(|own| own == part))
    };
    let allowed = |reserved: &&Reserved| !reserved.rooms.iter().any(&within);
    let used = |reserved: &Reserved| {
        let uses = |mention: &&Mention| (reserved.uses)(&mention.name);
        let fault = |mention: &Mention| {
            let name = match &mention.name {
                Name::Path(segments, _) => segments.join("::"),
                Name::Method(name, _) => format!(".{name}()"),
            };
            code.fault(mention.line, format_args!("`{name}`: {}", reserved.what))
        };
        code.mentions
            .iter()
            .filter(uses)
            .map(fault)
            .collect::<Vec<_>>()
    };
    RESERVED.iter().filter(allowed).flat_map(used).collect()
}

fn starts_with(name: &Name, first: &str) -> bool {
    matches!(name, Name::Path(segments, _) if segments.first().is_some_and(|s| s == first))
}

fn spawns(name: &Name) -> bool {
    const FUNCTIONS: [&str; 4] = ["spawn", "spawn_blocking", "spawn_local", "spawn_on"];
    const SETS: [&str; 3] = ["JoinSet", "LocalSet", "TaskTracker"];
    match name {
        Name::Path(path, _) => {
            let ours = path[0] == "crate" || path[0] == "Self";
            let function = path.len() > 1 && path.last().is_some_and(|l| FUNCTIONS.contains(&&**l));
            let thread = path.ends_with(&["thread".to_owned(), "Builder".to_owned()]);
            !ours && (function || thread || path.iter().any(|s| SETS.contains(&&**s)))
        }
        // `spawn` is a method of ours too: what it is called on tells.
        Name::Method(method, on) if method == "spawn" => {
            let on = on.as_deref().unwrap_or_default();
            ["handle", "runtime", "rt", "current", "tracker", "set"].contains(&on)
        }
        Name::Method(method, _) => FUNCTIONS.contains(&&**method),
    }
}

fn tells_time(name: &Name) -> bool {
    let Name::Path(path, _) = name else {
        return false;
    };
    let path: Vec<_> = path.iter().map(String::as_str).collect();
    matches!(
        &path[..],
        ["tokio", "time", ..]
            | [
                "time",
                "sleep" | "sleep_until" | "timeout" | "timeout_at" | "interval",
                ..
            ]
            | [.., "Instant" | "SystemTime", "now"]
            | [.., "thread", "sleep" | "park_timeout"]
    )
}

#[cfg(test)]
fn faults_of(path: &str, text: &str) -> Vec<String> {
    faults(&Code::parse(path, text))
}

#[test]
fn a_use_outside_of_the_room_is_a_fault() {
    for text in [
        "fn f() { tokio::spawn(async {}); }",
        "fn f() { tokio::task::spawn_blocking(|| ()); }",
        "use tokio::task::spawn_local;",
        "use tokio::{sync::mpsc, task::JoinSet};",
        "fn f() { tokio::runtime::Handle::current().spawn(async {}); }",
        "fn f(&self) { self.handle.spawn(async {}); }",
        "fn f(h: X) { h.spawn_blocking(|| ()); }",
        "fn f() { std::thread::spawn(|| ()); }",
        "fn f() { tokio::select! { _ = tokio::spawn(x) => {} } }",
        "fn f() { std::time::Instant::now(); }",
        "fn f() { Instant::now(); }",
        "fn f() { let now = SystemTime::now; }",
        "fn f() { tokio::time::sleep(d).await; }",
        "use tokio::{time};",
        "use tokio::time::timeout;",
        "fn f() { std::thread::sleep(d); }",
        "use etcd_client::Client;",
        "fn f(x: ::etcd_client::Client) {}",
        "fn f() -> tonic::Status { x }",
    ] {
        let found = faults_of("coord/src/lock/guard.rs", text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
    }
}

#[test]
fn a_use_in_the_room_is_none() {
    for (path, text) in [
        (
            "tasks.rs",
            "fn f() { tokio::spawn(async {}); tracker.spawn_on(x, &self.handle); }",
        ),
        (
            "clock.rs",
            "fn f() { tokio::time::sleep(d); SystemTime::now(); }",
        ),
        (
            "client/channel.rs",
            "use {etcd_client::Client, tonic::Code};",
        ),
        ("grpc/mod.rs", "use tonic::transport::Channel;"),
        ("service/grpc/health.rs", "use tonic::Status;"),
        (
            "lock/guard.rs",
            "fn f(&self) { self.tasks.spawn(async {}); self.clock.now(); }",
        ),
        (
            "lock/guard.rs",
            "use std::time::Duration; use crate::clock::Instant;",
        ),
        (
            "lock/guard.rs",
            "/// Not `tokio::spawn`.\n#[cfg(test)] mod tests { use tokio::time; }",
        ),
    ] {
        let found = faults_of(&format!("coord/src/{path}"), text);
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}
