//! Other processes that run a part of a test.
//!
//! A worker is the binary `coord-worker` with one of its commands; each command is a file beside
//! `tests/src/bin/coord-worker/main.rs` and one line in its table. Test and worker talk in lines,
//! over the worker's standard input and output; what it writes to standard error is in the message
//! of a panic.
//!
//! ```no_run
//! # use coord_tests::Worker;
//! # async fn test() {
//! let mut worker = Worker::spawn("echo", &["loudly"]);
//! worker.say("hello");
//! assert_eq!(worker.line().await, "HELLO");
//! worker.stop();
//! worker.cont();
//! worker.kill();
//! # }
//! ```

pub mod wire;

use std::{
    env, fs,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{ChildStdin, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{eventually, guardian, process::Process};

/// How long a line is waited for.
const BOUND: Duration = Duration::from_secs(120);

/// A running worker; dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    command: String,
    process: Process,
    input: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
    /// Holds what it writes to standard error.
    dir: TempDir,
}

impl Worker {
    /// Starts `coord-worker` with a command and its arguments.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn spawn(command: &str, arguments: &[&str]) -> Self {
        Self::spawn_with(command, arguments, &[])
    }

    /// Starts `coord-worker` with variables added to its environment.
    ///
    /// # Panics
    ///
    /// If it does not start.
    #[must_use]
    pub fn spawn_with(command: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut program = Command::new(binary());
        program
            .arg(command)
            .args(arguments)
            .envs(environment.iter().copied());
        Self::start(command, program)
    }

    /// Starts another program as one.
    pub(crate) fn start(command: &str, mut program: Command) -> Self {
        let dir = guardian::scratch("worker-");
        let errors = File::create(dir.path().join("stderr")).expect("a file for its errors");
        program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let process = Process::spawn(command, &mut program)
            .unwrap_or_else(|error| panic!("cannot start {program:?}: {error}"));

        let (input, output) = {
            let mut child = process.child();
            (
                child.stdin.take(),
                child.stdout.take().expect("its output is piped"),
            )
        };
        let (line_read, lines) = mpsc::unbounded_channel();
        // Ends with the worker's output.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line_read.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            command: command.to_owned(),
            process,
            input,
            lines,
            dir,
        }
    }

    /// Sends it one line.
    ///
    /// # Panics
    ///
    /// If it no longer reads.
    pub fn say(&mut self, line: &str) {
        let errors = self.errors();
        let input = self.input.as_mut().expect("its input has not been closed");
        let sent = writeln!(input, "{line}").and_then(|()| input.flush());
        sent.unwrap_or_else(|error| panic!("{} does not read: {error}; {errors}", self.command));
    }

    /// The next line it says.
    ///
    /// # Panics
    ///
    /// If it ends, or says nothing for two minutes; the message has its standard error.
    pub async fn line(&mut self) -> String {
        let why = match tokio::time::timeout(BOUND, self.lines.recv()).await {
            Ok(Some(line)) => return line,
            Ok(None) => "has ended",
            Err(_) => "says nothing",
        };
        panic!(
            "worker {} {why}; its standard error:\n{}",
            self.command,
            self.errors()
        )
    }

    /// Waits for the next line, which must be `word` or start with it, and returns what follows.
    ///
    /// # Panics
    ///
    /// As [`line`](Self::line), and if the line starts with another word.
    pub async fn expect(&mut self, word: &str) -> String {
        let line = self.line().await;
        let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
        assert_eq!(
            first,
            word,
            "worker {} said {line:?}; {}",
            self.command,
            self.errors()
        );
        rest.to_owned()
    }

    /// The next line if it has said one already.
    pub fn try_line(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Closes its input, which asks it to end, and waits until it has.
    ///
    /// # Panics
    ///
    /// If it does not end within two minutes.
    pub async fn finish(mut self) -> ExitStatus {
        self.input = None;
        self.ended().await
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    ///
    /// If it does not end within two minutes.
    pub async fn ended(&self) -> ExitStatus {
        let what = format!("worker {} ends", self.command);
        eventually(&what, async || self.process.exited()).await
    }

    /// Sends it a signal again and again until it has ended.
    ///
    /// # Panics
    ///
    /// If it does not end within two minutes.
    pub async fn ended_by(&self, signal: Signal) -> ExitStatus {
        let what = format!("worker {} ends by {signal:?}", self.command);
        eventually(&what, async || self.process.exited_or_sent(signal)).await
    }

    /// SIGKILL; returns when it is gone.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// SIGTERM, as a service manager asks a process to end.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// SIGSTOP; returns when it has stopped.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn stop(&self) {
        self.process.stop();
    }

    /// SIGCONT, after [`stop`](Self::stop).
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub fn cont(&self) {
        self.process.cont();
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn errors(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}

/// `coord-worker`, which cargo builds beside the tests that are in `deps/`.
fn binary() -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    let deps = test.parent().expect("a file lies in a folder");
    let dir = if deps.ends_with("deps") {
        deps.parent().unwrap_or(deps)
    } else {
        deps
    };
    dir.join(format!("coord-worker{}", env::consts::EXE_SUFFIX))
}
