//! [`Socket`]: whether the other side has closed a connection, asked of the system itself.
//!
//! The runtime asks the system now and then what has happened, the less often the more it has to do. A
//! call that begins in between would be sent to a server of which the system knows that it is gone. What
//! was sent cannot be taken back: a connection that breaks does not say what of it was processed. So
//! the system is asked before a call is given to a connection; it answers in less than a microsecond.
//!
//! Only Linux tells. Elsewhere a connection is closed once the runtime has read that it is.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::{AsFd, OwnedFd};

#[cfg(any(target_os = "linux", target_os = "android"))]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::net::TcpStream;

/// A second handle of a connection's socket, since the first is deep inside of what runs over it. The
/// connection is closed when both are. The default is of none, and never hangs up.
#[derive(Debug, Default)]
pub(super) struct Socket {
    /// `None`: there are no descriptors left. Then it is as elsewhere.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    handle: Option<OwnedFd>,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Socket {
    pub(super) fn of(tcp: &TcpStream) -> Self {
        let handle = tcp.as_fd().try_clone_to_owned().ok();
        Self { handle }
    }

    /// Whether the other side sends nothing more, or the connection is broken. What came before that may
    /// be unread.
    pub(super) fn hung_up(&self) -> bool {
        let Some(handle) = &self.handle else {
            return false;
        };
        // Errors are told unasked.
        let mut asked = [PollFd::new(handle, PollFlags::RDHUP)];
        // It does not wait.
        matches!(poll(&mut asked, Some(&Timespec::default())), Ok(1..))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Socket {
    pub(super) fn of(_: &TcpStream) -> Self {
        Self::default()
    }

    pub(super) fn hung_up(&self) -> bool {
        false
    }
}
