//! What other versions of etcd do otherwise than the one that the embedded server follows.

use xtask::etcd::Version;

use super::Op;

/// The version that the embedded server follows.
const FOLLOWED: Version = Version {
    major: 3,
    minor: 5,
    patch: 30,
};

/// A behaviour that changed between versions of etcd.
#[derive(Debug)]
pub struct Known {
    /// What is otherwise.
    pub what: &'static str,
    /// From this version on, etcd does what the embedded server does. Where the change itself was
    /// not looked for, the oldest version that is known to.
    pub since: Version,
    /// The conformance check that fails before.
    pub check: &'static str,
    /// Whether a random operation meets it; such are left out.
    pub meets: fn(&Op) -> bool,
}

/// All that are known. Seen with 3.5.16.
pub const KNOWN: &[Known] = &[
    Known {
        what: "a watch from a negative revision is created, and then cancelled as compacted",
        since: FOLLOWED,
        check: "watch::a_negative_revision_is_refused",
        meets: |op| matches!(op, Op::Watch(_, request) if request.start_revision < 0),
    },
    Known {
        what: "progress is told though a watch of the stream begins in the future",
        since: FOLLOWED,
        check: "watch::progress_is_told_once_all_are_abreast",
        // They are waited for before progress is asked for.
        meets: |_| false,
    },
];

/// What is otherwise in a version of etcd.
pub fn in_version(version: Version) -> impl Iterator<Item = &'static Known> {
    KNOWN.iter().filter(move |known| version < known.since)
}
