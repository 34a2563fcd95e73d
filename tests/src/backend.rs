//! One behaviour test, two servers: the embedded one, and a real etcd.
//!
//! ```no_run
//! use coord_tests::{Backend, on_both};
//!
//! on_both! {
//!     a_lock_is_exclusive,
//! }
//!
//! async fn a_lock_is_exclusive(server: Backend) {
//!     let (one, two) = (server.coordinator().await, server.coordinator().await);
//!     let _held = one.lock("jobs").acquire().await.unwrap();
//!     two.lock("jobs").try_acquire().await.unwrap_err();
//! }
//! # fn main() {}
//! ```
//!
//! This makes two tests, `a_lock_is_exclusive::embedded` and `a_lock_is_exclusive::etcd`. The test
//! itself is a plain function, formatted, documented and navigated as any other; one that is left
//! out of the list is dead code, and the compiler says so.
//!
//! A fault that both can show is a method here, and each doc says what it is on which. What only a
//! real etcd has (processes, members, metrics, `etcdctl`) is on [`Etcd`], for tests of its own.

use std::{fs, io, path::Path, time::Duration};

use coord::{Coordinator, Options, embedded::Server};
use etcd_client::Client;
use tempfile::TempDir;

use crate::{
    Etcd, EtcdConfig, Worker,
    etcd::{self, DATA},
    guardian,
};

/// The options of tests: nothing runs out while the machine has other work, or stands still for some
/// seconds. What a test is to see running out it makes short itself.
#[must_use]
pub fn patient() -> Options {
    let mut options = Options::test();
    options.connect_timeout = Duration::from_secs(60);
    options.request_timeout = Duration::from_secs(30);
    options.keep_alive_timeout = Duration::from_secs(20);
    options.lock.ttl = Duration::from_secs(60);
    options.lock.wait = Duration::from_secs(120);
    options.registry.ttl = Duration::from_secs(60);
    options
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An etcd in this process's memory.
    Embedded,
    /// A real one, of its own process.
    Etcd,
}

/// The server that a behaviour test runs on: fresh, and its own.
#[derive(Debug)]
pub struct Backend {
    server: Inner,
}

#[derive(Debug)]
enum Inner {
    Embedded(Server),
    Etcd(Etcd),
}

impl Backend {
    /// Starts one; `None`, loudly, if it is to be a real one and there is none on this machine.
    ///
    /// # Panics
    ///
    /// If it does not start, or if there is no etcd and `COORD_REQUIRE_ETCD` is `1`.
    pub async fn start_or_skip(kind: Kind) -> Option<Self> {
        let server = match kind {
            Kind::Embedded => {
                let started = Server::start().await;
                Inner::Embedded(started.expect("the embedded server starts"))
            }
            Kind::Etcd => Inner::Etcd(Etcd::start_or_skip(EtcdConfig::new()).await?),
        };
        Some(Self { server })
    }

    /// Its address with the scheme, as clients take it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match &self.server {
            Inner::Embedded(server) => server.endpoint().to_owned(),
            Inner::Etcd(etcd) => etcd.endpoint(),
        }
    }

    /// The [`patient`] options, with its address.
    #[must_use]
    pub fn options(&self) -> Options {
        patient().endpoints([self.endpoint()])
    }

    /// A coordinator of its own on it.
    ///
    /// # Panics
    ///
    /// If it does not connect.
    pub async fn coordinator(&self) -> Coordinator {
        let connected = Coordinator::connect(self.options()).await;
        connected.expect("a coordinator connects")
    }

    /// A raw client: the test's outside view of the store.
    ///
    /// # Panics
    ///
    /// If it does not connect.
    pub async fn client(&self) -> Client {
        let connected = match &self.server {
            Inner::Embedded(server) => Client::connect([server.endpoint()], None).await,
            Inner::Etcd(etcd) => return etcd.client().await,
        };
        connected.expect("a raw client connects")
    }

    /// How long its log is: every write, transaction and grant that is asked for adds an entry, also
    /// one that changes nothing.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    pub async fn log_entries(&self) -> u64 {
        let status = self.client().await.status().await;
        status.expect("a status").raft_applied_index()
    }

    /// It is away: its connections are closed and new ones are refused. On a real one: SIGKILL.
    /// Nothing is lost, and meanwhile no lease runs out.
    ///
    /// # Panics
    ///
    /// If it is away already.
    pub fn kill(&self) {
        match &self.server {
            Inner::Embedded(server) => {
                server.freeze();
                server.refuse_connections();
            }
            Inner::Etcd(etcd) => etcd.kill(),
        }
    }

    /// It is there again, after [`kill`](Self::kill), with the same address and data. Returns when it
    /// answers.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub async fn restart(&self) {
        match &self.server {
            Inner::Embedded(server) => {
                // As a real one that has started, it gives each lease its whole time again.
                let restored = server.restore(server.revision());
                restored.expect("the newest revision is never compacted");
                server.thaw();
                server.accept_connections();
            }
            Inner::Etcd(etcd) => etcd.restart().await,
        }
    }

    /// It is there and says nothing: what is sent to it waits. On a real one: SIGSTOP.
    ///
    /// # Panics
    ///
    /// If it is away.
    pub fn stop(&self) {
        match &self.server {
            Inner::Embedded(server) => server.stall(),
            Inner::Etcd(etcd) => etcd.stop(),
        }
    }

    /// It goes on, after [`stop`](Self::stop), with what was sent meanwhile.
    ///
    /// # Panics
    ///
    /// If it is away.
    pub fn cont(&self) {
        match &self.server {
            Inner::Embedded(server) => server.resume(),
            Inner::Etcd(etcd) => etcd.cont(),
        }
    }

    /// The lease and its keys are gone: it has run out, or on a real one, which has no clock to turn,
    /// it was revoked. Clients cannot tell the two apart.
    ///
    /// # Panics
    ///
    /// If there is no such lease.
    pub async fn expire_lease(&self, id: i64) {
        match &self.server {
            Inner::Embedded(server) => assert!(server.expire_lease(id), "there is no lease {id}"),
            Inner::Etcd(etcd) => {
                let revoked = etcd.client().await.lease_revoke(id).await;
                revoked.expect("there is such a lease");
            }
        }
    }

    /// Remembers what it holds now. A real one is restarted in between, because its data can be
    /// copied only while it is not running.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub async fn save(&self) -> Saved {
        match &self.server {
            Inner::Embedded(server) => Saved(Copied::Embedded(server.revision())),
            Inner::Etcd(etcd) => {
                etcd.kill();
                let dir = guardian::scratch("saved-");
                copy(&etcd.dir().join(DATA), dir.path()).expect("its data is copied");
                etcd.restart().await;
                Saved(Copied::Etcd(dir))
            }
        }
    }

    /// Is again what it was at `saved`, leases too: the revisions after that are forgotten, and given
    /// out anew. Connections are closed.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub async fn restore(&self, saved: &Saved) {
        match (&self.server, &saved.0) {
            (Inner::Embedded(server), Copied::Embedded(revision)) => {
                let restored = server.restore(*revision);
                restored.expect("it is not compacted");
            }
            (Inner::Etcd(etcd), Copied::Etcd(dir)) => {
                etcd.kill();
                let data = etcd.dir().join(DATA);
                fs::remove_dir_all(&data).expect("its data is removed");
                copy(dir.path(), &data).expect("the older data is copied");
                etcd.restart().await;
            }
            _ => panic!("saved on another server"),
        }
    }

    /// Has forgotten everything, keys, leases and history.
    ///
    /// # Panics
    ///
    /// If it does not come back.
    pub async fn lose_data(&self) {
        match &self.server {
            Inner::Embedded(server) => {
                server.restore(1).expect("it is not compacted");
                // Those of before the first write.
                let leases = self.client().await.leases().await;
                for lease in leases.expect("an answer").leases() {
                    server.expire_lease(lease.id());
                }
            }
            Inner::Etcd(etcd) => {
                etcd.kill();
                fs::remove_dir_all(etcd.dir().join(DATA)).expect("its data is removed");
                etcd.restart().await;
            }
        }
    }

    /// Runs `etcdctl` on it, and returns what it printed.
    ///
    /// # Panics
    ///
    /// If there is no `etcdctl` (see [`installed`](crate::etcd::installed)), or if it fails.
    pub async fn etcdctl(&self, arguments: &[&str]) -> String {
        match &self.server {
            Inner::Embedded(server) => etcd::etcdctl(server.endpoint(), &[], arguments).await,
            Inner::Etcd(etcd) => etcd.etcdctl(arguments).await,
        }
    }

    /// Starts an `etcdctl` on it that goes on until it is [terminated](Worker::terminate).
    ///
    /// # Panics
    ///
    /// If there is no `etcdctl`.
    #[must_use]
    pub fn etcdctl_running(&self, arguments: &[&str]) -> Worker {
        let program = etcd::etcdctl_command(&self.endpoint(), &[], arguments);
        Worker::start("etcdctl", program)
    }

    /// The real one, if it is one: for what is not asked of the other.
    #[must_use]
    pub fn etcd(&self) -> Option<&Etcd> {
        match &self.server {
            Inner::Embedded(_) => None,
            Inner::Etcd(etcd) => Some(etcd),
        }
    }
}

/// What a [`Backend`] held at a time.
#[derive(Debug)]
pub struct Saved(Copied);

#[derive(Debug)]
enum Copied {
    /// The revision of an embedded one, whose history has all.
    Embedded(i64),
    /// The data of a real one.
    Etcd(TempDir),
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Runs one test on one of the two, as [`on_both!`](crate::on_both) has it done.
///
/// # Panics
///
/// If the test does, or if the server does not start.
pub fn run(kind: Kind, test: impl AsyncFnOnce(Backend)) {
    // As many on a machine with one processor: a test may block one.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        if let Some(server) = Backend::start_or_skip(kind).await {
            test(server).await;
        }
    });
}

/// Makes of each function named here, an `async fn(Backend)`, a test on the embedded server and one
/// on a real etcd. See [`backend`](crate::backend).
#[macro_export]
macro_rules! on_both {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn embedded() {
                $crate::backend::run($crate::backend::Kind::Embedded, super::$test);
            }

            #[test]
            fn etcd() {
                $crate::backend::run($crate::backend::Kind::Etcd, super::$test);
            }
        }
    )+};
}
