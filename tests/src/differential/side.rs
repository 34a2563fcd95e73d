//! One of the two servers.

use std::time::Duration;

use super::{
    generate::STREAMS,
    normal,
    op::{Reply, Request},
    watches::Watches,
};
use coord::embedded::Server;
use xtask::etcd::Version;

use crate::{
    Etcd, EtcdConfig,
    etcd::installed,
    eventually,
    rpc::{
        Answer, Api, CompactionRequest, DeleteRangeRequest, LeaseLeasesRequest, LeaseRevokeRequest,
        LeaseTimeToLiveRequest, PutRequest, RangeRequest, WatchResponse,
    },
};

/// How a test makes a server wrong, to see that it is found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tamper {
    /// Changes an answer.
    pub reply: Option<fn(&mut Answer<Reply>)>,
    /// Changes what a stream of watches says.
    pub watch: Option<fn(&mut WatchResponse)>,
}

/// The process or the thread that serves.
#[derive(Debug)]
enum Host {
    Etcd(Etcd),
    Embedded(Server),
}

/// A server under comparison.
pub struct Side {
    name: String,
    api: Api,
    host: Host,
    tamper: Tamper,
    pub(super) watches: Vec<Watches>,
    /// The lease ids that it chose.
    chosen: Vec<i64>,
}

impl std::fmt::Debug for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Side").field(&self.name).finish()
    }
}

impl Side {
    /// A real etcd, with leases as short as etcd grants when it is shipped.
    ///
    /// `None`: there is no etcd on this machine, and the calling test is to return.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn etcd() -> Option<Self> {
        let config = EtcdConfig::new()
            .argument("--heartbeat-interval=100")
            .argument("--election-timeout=1000");
        let etcd = Etcd::start_or_skip(config).await?;
        Some(Self::new("etcd", &etcd.endpoint(), Host::Etcd(etcd)))
    }

    /// An embedded server.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub async fn embedded() -> Self {
        let server = Server::start().await.expect("an embedded server starts");
        let endpoint = server.endpoint().to_owned();
        Self::new("embedded", &endpoint, Host::Embedded(server))
    }

    fn new(name: &str, endpoint: &str, host: Host) -> Self {
        Self {
            name: name.to_owned(),
            api: Api::new(endpoint),
            host,
            tamper: Tamper::default(),
            watches: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Another name than that of its kind.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// It is made wrong.
    #[must_use]
    pub fn tampered(mut self, tamper: Tamper) -> Self {
        self.tamper = tamper;
        self
    }

    /// Its last words, if it has ended by itself: then nothing more can be learnt of it.
    pub(super) fn last_words(&self) -> Option<String> {
        let Host::Etcd(etcd) = &self.host else {
            return None;
        };
        let log = etcd.log();
        let is_last = |line: &&str| ["panic", "fatal"].iter().any(|l| line.contains(l));
        let last = log.lines().find(is_last)?;
        Some(format!("{} has ended: {last}", self.name))
    }

    /// The version of a real etcd.
    pub(super) fn version(&self) -> Option<Version> {
        match self.host {
            Host::Etcd(_) => Some(installed()?.version),
            Host::Embedded(_) => None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sends a call; the answer can be compared.
    pub(super) async fn call(&mut self, request: Request) -> Answer<Reply> {
        let chooses = matches!(&request, Request::Grant(grant) if grant.id == 0);
        let mut answer = request.send(&self.api).await;
        if let Some(tamper) = self.tamper.reply {
            tamper(&mut answer);
        }
        if let Ok(reply) = &mut answer {
            if let Reply::Grant(granted) = reply
                && chooses
            {
                self.chosen.push(granted.id);
            }
            normal::reply(reply, &self.chosen);
        }
        answer
    }

    /// The current revision.
    pub(super) async fn revision(&self) -> Answer<i64> {
        let request = RangeRequest {
            key: "any".into(),
            count_only: true,
            ..Default::default()
        };
        let header = self.api.range(request).await?.header;
        Ok(header.map_or(0, |header| header.revision))
    }

    /// Begins a sequence at `revision`: no watches, no keys, no leases, and the history before is
    /// compacted.
    pub(super) async fn reset(&mut self, revision: i64) -> Answer<()> {
        self.watches.clear();
        self.chosen.clear();
        for lease in self.api.leases(LeaseLeasesRequest {}).await?.leases {
            self.api.revoke(LeaseRevokeRequest { id: lease.id }).await?;
        }
        let everything = DeleteRangeRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            ..Default::default()
        };
        self.api.delete_range(everything.clone()).await?;
        while self.revision().await? < revision {
            let pad = PutRequest {
                key: "a".into(),
                ..Default::default()
            };
            self.api.put(pad).await?;
        }
        // What a watch from the compacted revision is shown is that this one key was deleted.
        self.api.delete_range(everything).await?;
        let compaction = CompactionRequest {
            revision: self.revision().await?,
            physical: true,
        };
        self.api.compact(compaction).await?;
        let open = || Watches::open(&self.api, self.tamper.watch);
        self.watches = std::iter::repeat_with(open).take(STREAMS).collect();
        Ok(())
    }

    /// At which revision [`reset`](Self::reset) can begin at the earliest.
    pub(super) async fn earliest(&self) -> Answer<i64> {
        let leases = self.api.leases(LeaseLeasesRequest {}).await?.leases.len();
        let leases = i64::try_from(leases).expect("few leases");
        // The leases are revoked, everything is deleted, and one key is put.
        Ok(self.revision().await? + leases + 2)
    }

    /// Waits until a lease has run out.
    pub(super) async fn expired(&self, id: i64, ttl: Duration) {
        if let Host::Embedded(server) = &self.host {
            server.advance(ttl + Duration::from_secs(1));
        }
        eventually("the lease has run out", async || {
            let request = LeaseTimeToLiveRequest { id, keys: false };
            self.api
                .time_to_live(request)
                .await
                .is_ok_and(|left| left.ttl == -1)
        })
        .await;
    }
}
