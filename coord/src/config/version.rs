//! [`Version`]: which state of a key a value is.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of a config key: etcd's revision of the write that made its current value.
///
/// Every write makes a new one, above all before it in the whole store; two keys that one
/// transaction wrote have the same. A key that does not exist has [`Version::ABSENT`].
///
/// ```
/// use coord::config::Version;
///
/// let version = Version::from(812);
/// assert!(version.exists() && version > Version::ABSENT);
/// assert_eq!(version.to_string(), "812");
/// assert_eq!(i64::from(version), 812);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(i64);

impl Version {
    /// The version of a key that does not exist.
    pub const ABSENT: Self = Self(0);

    /// Whether there is a key of this version.
    #[must_use]
    pub const fn exists(self) -> bool {
        self.0 != 0
    }

    /// The store's revision that made it; 0 for [`ABSENT`](Self::ABSENT).
    #[must_use]
    pub const fn revision(self) -> i64 {
        self.0
    }
}

impl From<i64> for Version {
    /// From a revision, as [`Error::Conflict`](crate::Error::Conflict) tells it.
    fn from(revision: i64) -> Self {
        Self(revision)
    }
}

impl From<Version> for i64 {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
