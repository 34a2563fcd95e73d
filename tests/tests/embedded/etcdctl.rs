//! etcd's own command works on it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use coord::embedded::Server;
use coord_tests::{etcd::installed, eventually};
use etcd_client::GetOptions;

use crate::connect;

/// `etcdctl` and a server to use it on.
struct Bench {
    ctl: &'static Path,
    server: Server,
}

/// One that runs for as long as it is wanted.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn line(&mut self) -> String {
        self.lines.next().expect("it goes on").unwrap()
    }
}

impl Bench {
    /// None: there is no etcd on this machine.
    async fn start() -> Option<Self> {
        let ctl = installed()?.ctl.as_deref();
        Some(Self {
            ctl: ctl.expect("etcdctl lies beside etcd or on PATH"),
            server: Server::start().await.unwrap(),
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.ctl);
        command.args(["--endpoints", self.server.endpoint()]);
        command.args(arguments);
        // What the caller has set for a server of its own.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"ETCDCTL_") {
                command.env_remove(variable);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        self.run_with("", arguments)
    }

    fn run_with(&self, input: &str, arguments: &[&str]) -> String {
        let mut command = self.command(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap());
        assert!(output.status.success(), "{arguments:?}: {out}{err}");
        out
    }

    fn spawn(&self, arguments: &[&str]) -> Running {
        let mut child = self.command(arguments).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }
}

#[tokio::test]
async fn keys_are_put_read_and_deleted() {
    let Some(bench) = Bench::start().await else {
        return;
    };
    assert_eq!(bench.run(&["put", "a", "1"]), "OK\n");
    assert_eq!(bench.run(&["put", "b", "2"]), "OK\n");
    assert_eq!(bench.run(&["put", "--prev-kv", "a", "3"]), "OK\na\n1\n");
    assert_eq!(bench.run(&["get", "a"]), "a\n3\n");
    assert_eq!(bench.run(&["get", "--rev=2", "a"]), "a\n1\n");
    let sorted = ["get", "--from-key", "", "--order=DESCEND"];
    assert_eq!(bench.run(&sorted), "b\n2\na\n3\n");
    assert_eq!(bench.run(&["del", "--prefix", ""]), "2\n");
    assert_eq!(bench.run(&["get", "--prefix", ""]), "");
    assert_eq!(bench.run(&["compaction", "3"]), "compacted revision 3\n");
}

#[tokio::test]
async fn transactions_compare_and_choose() {
    let Some(bench) = Bench::start().await else {
        return;
    };
    let txn = "version(\"key\") = \"0\"\n\nput key created\n\nget key\n\n";
    assert_eq!(bench.run_with(txn, &["txn"]), "SUCCESS\n\nOK\n");
    assert_eq!(bench.run_with(txn, &["txn"]), "FAILURE\n\nkey\ncreated\n");
}

#[tokio::test]
async fn a_watch_prints_what_was_and_what_comes() {
    let Some(bench) = Bench::start().await else {
        return;
    };
    bench.run(&["put", "key", "old"]);
    let mut watch = bench.spawn(&["watch", "--rev=2", "key"]);
    let event = |watch: &mut Running| [(); 3].map(|()| watch.line());
    assert_eq!(event(&mut watch), ["PUT", "key", "old"]);
    bench.run(&["put", "key", "new"]);
    assert_eq!(event(&mut watch), ["PUT", "key", "new"]);
    bench.run(&["del", "key"]);
    assert_eq!(event(&mut watch), ["DELETE", "key", ""]);
}

#[tokio::test]
async fn leases_are_granted_renewed_looked_at_and_revoked() {
    let Some(bench) = Bench::start().await else {
        return;
    };
    bench.server.freeze();
    let granted = bench.run(&["lease", "grant", "60"]);
    let id = granted.split(' ').nth(1).unwrap();
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)\n"));
    bench.run(&["put", "--lease", id, "key", "value"]);
    assert_eq!(
        bench.run(&["lease", "list"]),
        format!("found 1 leases\n{id}\n")
    );
    bench.server.advance(std::time::Duration::from_secs(20));
    assert_eq!(
        bench.run(&["lease", "timetolive", "--keys", id]),
        format!("lease {id} granted with TTL(60s), remaining(40s), attached keys([key])\n")
    );
    assert_eq!(
        bench.run(&["lease", "keep-alive", "--once", id]),
        format!("lease {id} keepalived with TTL(60)\n")
    );
    assert_eq!(
        bench.run(&["lease", "revoke", id]),
        format!("lease {id} revoked\n")
    );
    assert_eq!(bench.run(&["get", "key"]), "");
}

#[tokio::test]
async fn locks_and_elections_are_won_in_turn() {
    let Some(bench) = Bench::start().await else {
        return;
    };
    let mut first = bench.spawn(&["lock", "jobs"]);
    let entry = first.line();
    let mut second = bench.spawn(&["lock", "jobs", "echo", "held"]);
    let mut client = connect(&bench.server).await;
    let prefix = GetOptions::new().with_prefix();
    eventually("both are in the queue", async || {
        let queue = client.get("jobs/", Some(prefix.clone())).await.unwrap();
        queue.count() == 2
    })
    .await;
    drop(first);
    // It was killed: nobody renews its lease.
    let entry = client.get(entry, None).await.unwrap();
    assert!(bench.server.expire_lease(entry.kvs()[0].lease()));
    assert_eq!(second.line(), "held");

    let mut leader = bench.spawn(&["elect", "team", "anna"]);
    assert!(leader.line().starts_with("team/"));
    assert_eq!(leader.line(), "anna");
    let mut observer = bench.spawn(&["elect", "--listen", "team"]);
    assert!(observer.line().starts_with("team/"));
    assert_eq!(observer.line(), "anna");
}

#[tokio::test]
async fn it_says_that_it_is_well_and_who_it_is() {
    let Some(bench) = Bench::start().await else {
        return;
    };
    let endpoint = bench.server.endpoint();
    let health = bench.run(&["endpoint", "health"]);
    assert!(
        health.starts_with(&format!("{endpoint} is healthy")),
        "{health}"
    );
    let status = bench.run(&["endpoint", "status"]);
    assert!(status.starts_with(&format!("{endpoint}, ")), "{status}");
    assert!(
        status.contains(", true, false, 2, "),
        "leader, in term 2: {status}"
    );
    let members = bench.run(&["member", "list"]);
    assert!(
        members.contains(&format!(", started, embedded, , {endpoint}, false")),
        "{members}"
    );
    assert_eq!(bench.run(&["alarm", "list"]), "");
    bench.run(&["endpoint", "hashkv"]);
    bench.run(&["defrag"]);
}
