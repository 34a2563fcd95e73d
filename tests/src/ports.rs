//! Ports that stay ours.
//!
//! A port that the system hands out is free again while its server is down, and then any outgoing
//! connection may get it. So ports are taken from below the range that systems hand out by
//! themselves, and for as long as one is held a lock file keeps it from every other test process.

use std::{
    fs::{self, File},
    net::TcpListener,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{
    fs::{FlockOperation, flock},
    process::getuid,
};

const FIRST: u32 = 16_000;
const COUNT: u32 = 12_000;

/// A port of the loopback interface that only its holder uses.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Locked for as long as it is open; the system unlocks it if this process dies.
    _lock: File,
}

impl Port {
    /// Takes a port that nothing listens on.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn take() -> Self {
        // Processes start far apart, so that they rarely try the same ports.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = process::id().wrapping_mul(7_919);
        let candidates = (0..COUNT).map(|_| {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            FIRST + start.wrapping_add(step) % COUNT
        });
        let mut ports = candidates.filter_map(|n| Self::try_take(u16::try_from(n).ok()?));
        ports.next().expect("one of the test ports is free")
    }

    fn try_take(number: u16) -> Option<Self> {
        let dir = std::env::temp_dir().join(format!("coord-tests-ports-{}", getuid().as_raw()));
        fs::create_dir_all(&dir).expect("a folder for the locks of ports");
        let lock = File::create(dir.join(number.to_string())).expect("a file to lock");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        // Servers that are not ours do not know the lock.
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self {
            number,
            _lock: lock,
        })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once_at_a_time() {
        let held: Vec<Port> = (0..50).map(|_| Port::take()).collect();
        let mut numbers: Vec<_> = held.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);

        let number = held[0].number();
        assert!(Port::try_take(number).is_none());
        let _server = TcpListener::bind(("127.0.0.1", number)).expect("only the lock is held");
        drop(held);
        assert!(Port::try_take(number).is_none());
    }
}
