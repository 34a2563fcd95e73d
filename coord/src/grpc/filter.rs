//! [`Filter`]: which instances suit a channel.

use std::collections::BTreeSet;

use semver::VersionReq;

use crate::registry::{Instance, requirement, satisfies};

/// What an instance must have.
#[derive(Debug)]
pub(super) struct Filter {
    version: Option<VersionReq>,
    tags: BTreeSet<String>,
}

impl Filter {
    /// The error is for people.
    pub(super) fn new(version: Option<&str>, tags: &BTreeSet<String>) -> Result<Self, String> {
        Ok(Self {
            version: version.map(requirement).transpose()?,
            tags: tags.clone(),
        })
    }

    pub(super) fn suits(&self, instance: &Instance) -> bool {
        let version = self.version.as_ref();
        version.is_none_or(|requirement| satisfies(instance, requirement))
            && self.tags.is_subset(&instance.tags)
    }
}
