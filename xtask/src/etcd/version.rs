//! The version that an etcd says of itself.

use std::{fmt, str::FromStr};

/// The oldest etcd that coord supports.
pub const OLDEST: Version = Version {
    major: 3,
    minor: 5,
    patch: 8,
};

/// A version of etcd, without what follows the three numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Reads what `etcd --version` prints, or a bare version.
impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let line = text.lines().next().ok_or(())?.trim();
        let numbers = line.strip_prefix("etcd Version:").unwrap_or(line).trim();
        // Builds of distributions and release candidates add to the last number.
        let numbers = numbers.split(['-', '+', '~']).next().ok_or(())?;
        let mut parts = numbers.split('.').map(|part| part.parse().map_err(drop));
        let mut next = || parts.next().ok_or(())?;
        let version = Self {
            major: next()?,
            minor: next()?,
            patch: next()?,
        };
        if parts.next().is_none() {
            Ok(version)
        } else {
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_etcd_prints() {
        let printed = "etcd Version: 3.5.30\nGit SHA: Not provided\nGo Version: go1.24\n";
        assert_eq!(
            printed.parse(),
            Ok(Version {
                major: 3,
                minor: 5,
                patch: 30
            })
        );
        assert_eq!(
            "3.6.0-rc.1".parse(),
            Ok(Version {
                major: 3,
                minor: 6,
                patch: 0
            })
        );
        for other in [
            "",
            "etcd Version: 3.5",
            "go version go1.24",
            "3.5.1.2",
            "3.5.x",
        ] {
            assert_eq!(other.parse::<Version>(), Err(()), "{other:?}");
        }
    }

    #[test]
    fn orders_by_number() {
        let [old, oldest, new] = ["3.5.7", "3.5.8", "3.5.16"].map(|v| v.parse().expect(v));
        assert!(old < OLDEST && oldest == OLDEST && OLDEST < new);
    }
}
