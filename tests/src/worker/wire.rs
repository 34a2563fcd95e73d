//! The worker's side of the conversation.

use std::{
    fmt::Display,
    io::{self, BufRead as _, Write as _},
    thread,
};

use tokio::sync::mpsc;

/// Says one line to the test.
///
/// # Panics
///
/// If the test no longer reads; it has ended, and this process is to end too.
pub fn say(line: impl Display) {
    let mut output = io::stdout().lock();
    let said = writeln!(output, "{line}").and_then(|()| output.flush());
    said.expect("the test reads what its workers say");
}

/// What the test says, line by line.
#[derive(Debug)]
pub struct Lines(mpsc::UnboundedReceiver<String>);

impl Lines {
    /// Starts to read standard input, on a thread of its own: reading must not hold up a runtime
    /// that is to end.
    #[must_use]
    pub fn open() -> Self {
        let (line_read, lines) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if line_read.send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next line; `None` once the test has closed the input: the worker is to end.
    pub async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }

    /// The next line, for a worker without a runtime.
    pub fn blocking_next(&mut self) -> Option<String> {
        self.0.blocking_recv()
    }
}
