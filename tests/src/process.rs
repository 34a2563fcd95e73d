//! A child process that can be paused and killed, and that dies with this process.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::guardian;

#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    pid: Pid,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command`; `name` is for messages.
    pub(crate) fn spawn(name: &str, command: &mut Command) -> io::Result<Self> {
        let child = command.spawn()?;
        guardian::watch(child.id());
        let pid = Pid::from_child(&child);
        Ok(Self {
            name: name.to_owned(),
            pid,
            child: Mutex::new(child),
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    pub(crate) fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child can be waited for")
    }

    /// SIGKILL; returns when the process is gone. A stopped process is killed too.
    pub(crate) fn kill(&self) {
        let mut child = self.child();
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
    }

    /// SIGSTOP; returns when every thread of the process has stopped.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
        let started = Instant::now();
        // The signal is taken by one thread first. Not waiting for the exit: that is `Child`'s.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            let status = waitid(WaitId::Pid(self.pid), options).expect("a child can be waited for");
            if status.is_some_and(|status| status.stopped()) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{} does not stop",
                self.name
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub(crate) fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// How it ended, if it has; else it is sent this.
    pub(crate) fn exited_or_sent(&self, signal: Signal) -> Option<ExitStatus> {
        let mut child = self.child();
        let exited = child.try_wait().expect("a child can be waited for");
        if exited.is_none() {
            kill_process(self.pid, signal).expect("a child takes signals");
        }
        exited
    }

    fn signal(&self, signal: Signal) {
        // Held, and not ended: until it is waited for, its number is not another's.
        let mut child = self.child();
        let ended = child.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "{} has ended: {ended:?}", self.name);
        kill_process(self.pid, signal).expect("a child takes signals");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child();
        // Fails only if it has been waited for.
        let _ = child.kill();
        let _ = child.wait();
        guardian::release(child.id());
    }
}
