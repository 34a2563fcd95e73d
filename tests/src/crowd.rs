//! Callers who call again as soon as they are answered.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    client::GrpcService,
    codegen::{Body as HttpBody, Bytes, StdError},
};

use crate::echo::{EchoClient, EchoRequest};

/// So many tasks, each of which makes one unary call after the other.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use coord_tests::{Crowd, echo::{EchoClient, EchoServer}};
///
/// let server = EchoServer::start("a").await;
/// let client = EchoClient::connect(server.uri()).await.unwrap();
/// let crowd = Crowd::gather(&client, 4);
/// crowd.made(100).await;
/// let calls = crowd.leave().await;
/// assert!(calls.len() >= 100 && calls.iter().all(|call| call.result.as_ref().is_ok_and(|by| by == "a")));
/// # });
/// ```
#[derive(Debug)]
pub struct Crowd {
    tasks: JoinSet<Vec<Made>>,
    leave: CancellationToken,
    made: Arc<AtomicUsize>,
}

/// A call that was made.
#[derive(Debug)]
pub struct Made {
    /// Before it.
    pub begun: Instant,
    /// After it.
    pub ended: Instant,
    /// The name of the server that answered.
    pub result: Result<String, Status>,
}

impl Made {
    /// How long it took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.ended - self.begun
    }
}

impl Crowd {
    /// They begin at once, on the runtime of who calls this.
    #[must_use]
    pub fn gather<T>(client: &EchoClient<T>, callers: usize) -> Self
    where
        T: GrpcService<Body> + Clone + Send + 'static,
        T::Future: Send,
        T::Error: Into<StdError>,
        T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
        <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
    {
        let (leave, made) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (mut client, leave, count) = (client.clone(), leave.clone(), made.clone());
            tasks.spawn(async move {
                let mut made = Vec::new();
                while !leave.is_cancelled() {
                    let begun = Instant::now();
                    let answer = client.echo(EchoRequest::default()).await;
                    let (ended, failed) = (Instant::now(), answer.is_err());
                    made.push(Made {
                        begun,
                        ended,
                        result: answer.map(|answer| answer.into_inner().server),
                    });
                    count.fetch_add(1, SeqCst);
                    if failed {
                        // Who is refused at once must not take all of a small machine.
                        tokio::task::yield_now().await;
                    }
                }
                made
            });
        }
        Self { tasks, leave, made }
    }

    /// Waits until they have made so many more calls.
    ///
    /// # Panics
    ///
    /// If they do not within two minutes.
    pub async fn made(&self, more: usize) {
        let until = self.made.load(SeqCst) + more;
        crate::eventually(&format!("{more} more calls"), async || {
            self.made.load(SeqCst) >= until
        })
        .await;
    }

    /// All they have made, once the last call has ended.
    ///
    /// # Panics
    ///
    /// If one of them has panicked.
    pub async fn leave(self) -> Vec<Made> {
        self.leave.cancel();
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

/// How many calls each server has answered.
#[must_use]
pub fn by_server(calls: &[Made]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for server in calls.iter().filter_map(|call| call.result.as_ref().ok()) {
        *counts.entry(&**server).or_default() += 1;
    }
    counts
}
