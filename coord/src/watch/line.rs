//! [`Line`]: carries out a machine's actions against a [`Source`] and brings back what happened.

use std::{future::poll_fn, sync::Arc, task::Poll};

use futures_util::future::BoxFuture;

use super::{
    Source,
    mutation::mutated,
    source::SourceStream,
    state::{Action, Input, Read},
};
use crate::{
    client::{CallError, RangeReply, Version},
    clock::{Clock, Instant},
};

/// The operations of one watch that are under way. They are kept here, not in the future that waits
/// for them, so that dropping that future loses nothing.
pub(super) struct Line<S: Source> {
    source: Arc<S>,
    clock: Clock,
    stream: Option<S::Stream>,
    ask_progress: bool,
    flights: Flights<S::Stream>,
}

type Flights<Stream> = Vec<(Operation, BoxFuture<'static, Landed<Stream>>)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read(Read),
    Open,
    Version,
    Token,
}

enum Landed<Stream> {
    Read(Read, Result<RangeReply, CallError>),
    Opened(Result<Stream, CallError>),
    Version(Option<Version>),
    Refreshed(Result<(), CallError>),
}

impl<S: Source> Line<S> {
    pub(super) fn new(source: S, clock: Clock) -> Self {
        Self {
            source: Arc::new(source),
            clock,
            stream: None,
            ask_progress: false,
            flights: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Starts what `action` asks for. What is not the line's business is given back.
    pub(super) fn perform(&mut self, action: Action) -> Option<Action> {
        let source = self.source.clone();
        match action {
            Action::Read(read, range) => self.start(Operation::Read(read), async move {
                Landed::Read(read, source.range(range).await)
            }),
            Action::Open(request) => self.start(Operation::Open, async move {
                Landed::Opened(source.watch(request).await)
            }),
            Action::AskVersion(member) => self.start(Operation::Version, async move {
                Landed::Version(source.version_of(member).await)
            }),
            Action::RefreshToken => self.start(Operation::Token, async move {
                Landed::Refreshed(source.refresh_token().await)
            }),
            Action::AskProgress => self.ask_progress = true,
            Action::LeaveEndpoint => self.source.leave_endpoint(),
            Action::Close => {
                self.stream = None;
                self.ask_progress = false;
                self.flights.retain(|(operation, _)| {
                    mutated!(AuditOutlivesStream) && *operation == Operation::Read(Read::Audit)
                });
            }
            other => return Some(other),
        }
        None
    }

    /// Replaces an operation of the same kind: nobody waits for the older one's answer.
    fn start(
        &mut self,
        operation: Operation,
        flight: impl Future<Output = Landed<S::Stream>> + Send + 'static,
    ) {
        self.flights.retain(|(other, _)| *other != operation);
        self.flights.push((operation, Box::pin(flight)));
    }

    /// What happens next; [`Input::Due`] once `due` has come. The stream is read only if
    /// `reads_stream`.
    ///
    /// # Cancel safety
    /// Safe: what is under way stays in `self`, and what was received is returned at once.
    pub(super) async fn wait(&mut self, due: Option<Instant>, reads_stream: bool) -> Input {
        if due.is_some_and(|due| due <= self.clock.now()) {
            return Input::Due;
        }
        let Self {
            clock,
            stream,
            ask_progress,
            flights,
            ..
        } = self;
        let timer = async {
            match due {
                Some(due) => clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        // In this order: time and answers are bounded, a busy stream is not and would starve them.
        tokio::select! {
            biased;
            () = timer => Input::Due,
            landed = next_landed(flights) => match landed {
                Landed::Read(read, reply) => Input::Read(read, reply),
                Landed::Version(version) => Input::Version(version),
                Landed::Refreshed(result) => Input::Refreshed(result),
                Landed::Opened(Ok(opened)) => {
                    *stream = Some(opened);
                    Input::Opened(Ok(()))
                }
                Landed::Opened(Err(error)) => Input::Opened(Err(error)),
            },
            input = follow(stream, ask_progress, reads_stream) => input,
        }
    }
}

/// The output of the first flight that lands; pending for ever if there is none.
async fn next_landed<Stream>(flights: &mut Flights<Stream>) -> Landed<Stream> {
    poll_fn(|cx| {
        for index in 0..flights.len() {
            if let Poll::Ready(landed) = flights[index].1.as_mut().poll(cx) {
                drop(flights.remove(index));
                return Poll::Ready(landed);
            }
        }
        Poll::Pending
    })
    .await
}

/// Sends a progress request that is wanted, then waits for the stream.
async fn follow<T: SourceStream>(
    stream: &mut Option<T>,
    ask_progress: &mut bool,
    reads_stream: bool,
) -> Input {
    let Some(stream) = stream.as_mut().filter(|_| reads_stream) else {
        return std::future::pending().await;
    };
    if *ask_progress {
        let asked = stream.request_progress().await;
        *ask_progress = false;
        if let Err(error) = asked {
            return Input::Ended(Some(error));
        }
    }
    match stream.next().await {
        Ok(Some(message)) => Input::Message(message),
        Ok(None) => Input::Ended(None),
        Err(error) => Input::Ended(Some(error)),
    }
}
