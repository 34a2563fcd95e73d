//! Several members that are one etcd.

use super::{Etcd, EtcdConfig, installed};
use crate::eventually;

/// A cluster of real etcds; each member is an [`Etcd`] with all that it can do.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Etcd>,
}

impl Cluster {
    /// Starts `size` members and waits until each answers.
    ///
    /// # Errors
    ///
    /// If no etcd is found, or if one does not start; the error has the end of its log.
    pub async fn start(size: usize, config: EtcdConfig) -> anyhow::Result<Self> {
        Ok(Self {
            members: Etcd::start_members(size, config).await?,
        })
    }

    /// Starts a cluster, or leaves the calling test out, loudly, if there is no etcd.
    ///
    /// # Panics
    ///
    /// If it does not start, or if there is none and `COORD_REQUIRE_ETCD` is `1`.
    pub async fn start_or_skip(size: usize, config: EtcdConfig) -> Option<Self> {
        installed()?;
        Some(Self::start(size, config).await.expect("the cluster starts"))
    }

    /// The addresses of all members, with the scheme.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// One member.
    ///
    /// # Panics
    ///
    /// If there are not that many.
    #[must_use]
    pub fn member(&self, index: usize) -> &Etcd {
        &self.members[index]
    }

    /// The index of the member that leads; waits while there is none. Members that do not answer
    /// are passed over.
    ///
    /// # Panics
    ///
    /// If there is no leader within two minutes.
    pub async fn leader(&self) -> usize {
        eventually("a member leads", async || {
            let mut leaders = Vec::new();
            for (index, member) in self.members.iter().enumerate() {
                if let Some((true, term)) = member.leadership().await {
                    leaders.push((term, index));
                }
            }
            // One that was deposed and does not know it yet has an older term.
            leaders.into_iter().max().map(|(_, index)| index)
        })
        .await
    }
}
