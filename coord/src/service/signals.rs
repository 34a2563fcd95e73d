//! Why a service stops: the signals that ask its process to, and the program itself.

use std::io;

/// What asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// A service manager: others may still be sending requests here.
    Terminate,
    /// A person at the terminal.
    Interrupt,
    /// The program: `Context::stop`.
    Asked,
    /// Nobody: its instance id was lost.
    IdLost,
}

impl Stop {
    pub(super) fn is_signal(self) -> bool {
        matches!(self, Self::Terminate | Self::Interrupt)
    }

    /// The exit code of a process that is ended for it.
    pub(super) fn exit_code(self) -> i32 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
            Self::Asked | Self::IdLost => 1,
        }
    }
}

/// From its making on, these signals do nothing by themselves.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Within a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn caught(&mut self) -> Stop {
        tokio::select! {
            _ = self.terminate.recv() => Stop::Terminate,
            _ = self.interrupt.recv() => Stop::Interrupt,
        }
    }
}

#[cfg(windows)]
#[derive(Debug)]
pub(super) struct Signals {
    ctrl_c: tokio::signal::windows::CtrlC,
    shutdown: tokio::signal::windows::CtrlShutdown,
}

#[cfg(windows)]
impl Signals {
    /// Within a runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: tokio::signal::windows::ctrl_c()?,
            shutdown: tokio::signal::windows::ctrl_shutdown()?,
        })
    }

    async fn caught(&mut self) -> Stop {
        tokio::select! {
            _ = self.shutdown.recv() => Stop::Terminate,
            _ = self.ctrl_c.recv() => Stop::Interrupt,
        }
    }
}

impl Signals {
    /// The next one; none ever comes where none are watched.
    pub(super) async fn next(signals: &mut Option<Self>) -> Stop {
        match signals {
            Some(signals) => signals.caught().await,
            None => std::future::pending().await,
        }
    }
}
