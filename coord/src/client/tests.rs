//! The channel against scripted members: what a call meets when one is dead, silent, or unwell.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    pin::pin,
    task::{Poll, Waker},
};

use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    member::{Answer, Member},
    *,
};
use crate::tasks::Thread;

/// Far beyond what anything here takes.
const HANG: Duration = Duration::from_secs(60);

/// Where coord's own tasks run.
struct Here {
    tasks: Tasks,
    clock: Clock,
    _thread: Thread,
}

impl Here {
    fn new() -> Self {
        let thread = Thread::start("client test").unwrap();
        Self {
            tasks: thread.tasks(&CancellationToken::new()),
            clock: Clock::real(thread.clone()),
            _thread: thread,
        }
    }

    async fn open(&self, options: &Options) -> Result<Client> {
        let opening = Client::open(Purpose::Calls, options, &self.clock, &self.tasks);
        self.clock.timeout(HANG, opening).await.expect("open hangs")
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                self.clock.sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(
            self.clock.timeout(HANG, waiting).await.is_ok(),
            "never {what}"
        );
    }
}

fn options<'a>(endpoints: impl IntoIterator<Item = &'a str>) -> Options {
    Options {
        endpoints: endpoints.into_iter().map(Into::into).collect(),
        ..Options::default()
    }
}

fn of(members: &[&Member]) -> Options {
    let urls: Vec<String> = members.iter().map(|member| member.url()).collect();
    options(urls.iter().map(String::as_str))
}

/// Nothing listens there: connections are refused.
fn refused() -> String {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", free.local_addr().unwrap())
}

/// Accepts, and never says a word.
struct Silent(TcpListener);

impl Silent {
    fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

/// Its queue of connections is full, so that the kernel drops every further packet.
struct BlackHole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queued: Vec<tokio::net::TcpStream>,
}

impl BlackHole {
    async fn new(here: &Here) -> Self {
        let filling = here.tasks.spawn({
            let clock = here.clock.clone();
            async move {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
                let listener = socket.listen(1).unwrap();
                let address = listener.local_addr().unwrap();
                let mut queued = Vec::new();
                // Full once a connection is neither made nor refused.
                while let Ok(Ok(stream)) = clock
                    .timeout(
                        Duration::from_millis(300),
                        tokio::net::TcpStream::connect(address),
                    )
                    .await
                {
                    queued.push(stream);
                }
                BlackHole {
                    address,
                    _listener: listener,
                    _queued: queued,
                }
            }
        });
        filling.await.unwrap()
    }
}

fn read() -> Range {
    Range::new(Span::Key(b"k".to_vec()))
}

/// Which member answers.
async fn asks(client: &Client) -> u64 {
    client.range(read()).await.unwrap().header.member_id
}

#[tokio::test]
async fn a_bad_endpoint_before_a_good_one_costs_no_call_and_not_the_connect_timeout() {
    let here = Here::new();
    let good = Member::start(7).await;
    let silent = Silent::new();
    let hole = BlackHole::new(&here).await;
    let learner = Member::start(8).await;
    learner.script(|script| script.learner = true);
    for bad in [
        refused(),
        silent.url(),
        format!("http://{}", hole.address),
        learner.url(),
        "http://no-such-host.invalid:2379".into(),
    ] {
        let options = Options {
            connect_timeout: HANG,
            ..options([bad.as_str(), &good.url()])
        };
        // `open` here gives up before the connect timeout.
        let client = here.open(&options).await.unwrap();
        assert_eq!(asks(&client).await, 7, "{bad}");
    }
    assert_eq!(learner.counts().2, 0);
}

#[tokio::test]
async fn a_member_without_a_leader_is_used_only_if_no_other_answers() {
    let here = Here::new();
    let [lonely, good] = [Member::start(1).await, Member::start(2).await];
    lonely.script(|script| script.leader = 0);
    let client = here.open(&of(&[&lonely, &good])).await.unwrap();
    assert_eq!(asks(&client).await, 2);
    let client = here
        .open(&options([&*lonely.url(), &refused()]))
        .await
        .unwrap();
    assert_eq!(asks(&client).await, 1);
}

#[tokio::test]
async fn open_fails_with_every_endpoint_and_its_error() {
    let here = Here::new();
    let silent = Silent::new();
    let dead = refused();
    let options = Options {
        connect_timeout: Duration::from_millis(600),
        ..options([dead.as_str(), &silent.url()])
    };
    let error = here.open(&options).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(!error.maybe_applied());
    let text = error.to_string();
    for part in [
        dead.as_str(),
        "refused",
        &silent.url(),
        "no answer within 600ms",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn options_that_can_never_work_are_named_all_at_once() {
    let here = Here::new();
    let error = here.open(&Options::default()).await.unwrap_err();
    assert!(matches!(error, Error::NotConfigured { .. }), "{error}");

    let bad = [
        "",
        "host",
        "ftp://h:1",
        "http://u:p@h:1",
        "http://h:1/path",
        "h:99999",
    ];
    let mut options = options(bad);
    let Error::Invalid { faults, .. } = here.open(&options).await.unwrap_err() else {
        panic!("not invalid")
    };
    assert_eq!(faults.len(), bad.len(), "{faults:#?}");

    options.endpoints = vec!["http://h:1".into()];
    options.tls.cert = Some("/no/such/file".into());
    let Error::Invalid { faults, .. } = here.open(&options).await.unwrap_err() else {
        panic!("not invalid")
    };
    // No file, no key, and a plain-text endpoint although TLS is meant.
    assert_eq!(faults.len(), 3, "{faults:#?}");
}

#[tokio::test]
async fn while_no_endpoint_answers_calls_fail_at_once_and_were_not_sent() {
    let here = Here::new();
    let member = Member::start(1).await;
    let url = member.url();
    let client = here.open(&options([&*url])).await.unwrap();
    drop(member);
    here.until("down", || {
        matches!(client.connection(), ConnectionState::Down { .. })
    })
    .await;
    let error = client.range(read()).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::NotSent, Reason::Unavailable)
    );
    assert!(error.message.contains(&url), "{error}");
    let error = error.into_error(Context::new("read"));
    assert!(error.is_retryable() && !error.maybe_applied());
}

#[tokio::test]
async fn a_closed_connection_is_replaced_before_the_next_call() {
    let here = Here::new();
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let client = here.open(&of(&[&one, &two])).await.unwrap();
    assert_eq!(asks(&client).await, 1);
    one.close_connections();
    here.until("left", || {
        matches!(client.connection(), ConnectionState::Connected { endpoint, .. } if endpoint == two.url())
    })
    .await;
    assert_eq!(asks(&client).await, 2);
}

#[tokio::test]
async fn only_the_calls_that_a_dying_member_had_are_lost() {
    let here = Here::new();
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let client = here.open(&of(&[&one, &two])).await.unwrap();
    one.script(|script| script.calls = Answer::Silence);
    let mut sent: Vec<_> = (0..20).map(|_| Box::pin(client.range(read()))).collect();
    for call in &mut sent {
        assert!(futures_util::poll!(call.as_mut()).is_pending());
    }
    here.until("arrived", || one.counts().2 == 20).await;
    drop(one);
    for call in sent {
        let error = call.await.unwrap_err();
        assert_eq!(
            (error.certainty, error.reason),
            (Certainty::Unknown, Reason::Unavailable)
        );
    }
    for _ in 0..100 {
        assert_eq!(asks(&client).await, 2);
    }
}

#[tokio::test]
async fn a_stopped_member_holds_calls_until_their_deadline_and_is_left() {
    let here = Here::new();
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let options = Options {
        request_timeout: Duration::from_secs(1),
        ..of(&[&one, &two])
    };
    let client = here.open(&options).await.unwrap();
    let go_on = one.stop();
    let error = client.range(read()).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Unknown, Reason::Timeout)
    );
    let error = error.into_error(Context::new("read"));
    assert!(error.maybe_applied());
    assert!(matches!(error, Error::Timeout { limit, .. } if limit == options.request_timeout));
    for _ in 0..20 {
        assert_eq!(asks(&client).await, 2);
    }
    drop(go_on);
}

#[tokio::test]
async fn http2_pings_break_the_connection_to_a_stopped_member() {
    let here = Here::new();
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let options = Options {
        request_timeout: HANG,
        keep_alive_interval: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_millis(100),
        ..of(&[&one, &two])
    };
    let client = here.open(&options).await.unwrap();
    let _stopped = one.stop();
    let error = client.range(read()).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Unknown, Reason::Unavailable)
    );
    assert_eq!(asks(&client).await, 2);
}

#[tokio::test]
async fn a_member_that_says_it_is_unwell_is_left() {
    let here = Here::new();
    for (code, words, certainty) in [
        (
            Code::Unavailable,
            "etcdserver: no leader",
            Certainty::Refused,
        ),
        (
            Code::Unavailable,
            "etcdserver: request timed out",
            Certainty::Unknown,
        ),
        (
            Code::Unknown,
            "context deadline exceeded",
            Certainty::Unknown,
        ),
    ] {
        let [one, two] = [Member::start(1).await, Member::start(2).await];
        let client = here.open(&of(&[&one, &two])).await.unwrap();
        one.script(|script| script.calls = Answer::Refusal(code, words));
        let error = client.range(read()).await.unwrap_err();
        assert_eq!(
            (error.certainty, error.reason),
            (certainty, Reason::Unavailable)
        );
        assert_eq!(asks(&client).await, 2, "{words}");
    }
    // This one has no use in going elsewhere.
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let client = here.open(&of(&[&one, &two])).await.unwrap();
    let words = "etcdserver: too many requests";
    one.script(|script| script.calls = Answer::Refusal(Code::ResourceExhausted, words));
    client.range(read()).await.unwrap_err();
    one.script(|script| script.calls = Answer::Well);
    assert_eq!(asks(&client).await, 1);
}

#[tokio::test]
async fn a_slow_call_to_the_only_endpoint_does_not_connect_anew() {
    let here = Here::new();
    let member = Member::start(1).await;
    let options = Options {
        request_timeout: Duration::from_secs(1),
        ..of(&[&member])
    };
    let client = here.open(&options).await.unwrap();
    let (connections, statuses, _) = member.counts();
    member.script(|script| script.calls = Answer::Silence);
    let calls = (0..20).map(|_| client.range(read()));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap_err().reason, Reason::Timeout);
    }
    member.script(|script| script.calls = Answer::Well);
    assert_eq!(asks(&client).await, 1);
    // All of them left one generation: one probe, on the connection there was.
    assert_eq!(member.counts().0, connections);
    assert_eq!(member.counts().1, statuses + 1);
}

#[tokio::test]
async fn an_old_calls_late_failure_leaves_nothing() {
    let here = Here::new();
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let options = Options {
        request_timeout: Duration::from_secs(1),
        ..of(&[&one, &two])
    };
    let client = here.open(&options).await.unwrap();
    one.script(|script| script.calls = Answer::Silence);
    let mut late = pin!(client.range(read()));
    assert!(futures_util::poll!(late.as_mut()).is_pending());
    here.until("arrived", || one.counts().2 == 1).await;
    client.leave_endpoint();
    assert_eq!(asks(&client).await, 2);
    assert_eq!(late.await.unwrap_err().reason, Reason::Timeout);
    assert!(matches!(
        client.connection(),
        ConnectionState::Connected { endpoint, .. } if endpoint == two.url()
    ));
    assert_eq!(two.counts().0, 1);
}

#[tokio::test]
async fn leaving_the_only_endpoint_asks_it_again() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    let (connections, statuses, _) = member.counts();
    client.leave_endpoint();
    assert_eq!(asks(&client).await, 1);
    // It answers, so the connection is as good as a new one.
    assert_eq!(member.counts().0, connections);
    assert_eq!(member.counts().1, statuses + 1);
}

#[tokio::test]
async fn streams_demand_a_leader_and_calls_do_not() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    asks(&client).await;
    let mut stream = client.keep_alives().await.unwrap();
    for lease in [1, 2, 1] {
        stream.send(lease).await.unwrap();
    }
    for lease in [1, 2, 1] {
        let ttl = Some(Duration::from_secs(30));
        assert_eq!(stream.next().await.unwrap(), Some(KeepAlive { lease, ttl }));
    }
    assert_eq!(member.with_leader(), ["/etcdserverpb.Lease/LeaseKeepAlive"]);
}

#[tokio::test]
async fn a_keep_alive_without_an_answer_fails_the_stream_and_leaves_the_endpoint() {
    let here = Here::new();
    let [one, two] = [Member::start(1).await, Member::start(2).await];
    let options = Options {
        request_timeout: Duration::from_secs(1),
        ..of(&[&one, &two])
    };
    let client = here.open(&options).await.unwrap();
    let mut stream = client.keep_alives().await.unwrap();
    let _stopped = one.stop();
    stream.send(1).await.unwrap();
    let error = stream.next().await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::Unknown, Reason::Timeout)
    );
    assert_eq!(stream.next().await.unwrap(), None);
    let mut stream = client.keep_alives().await.unwrap();
    stream.send(1).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    assert_eq!(two.counts().2, 1);
}

#[tokio::test]
async fn a_refused_token_is_fetched_anew_once_for_all_calls() {
    let here = Here::new();
    let member = Member::start(1).await;
    member.script(|script| script.token = Some("first"));
    let options = Options {
        user: Some("root".into()),
        password: Some(crate::options::Secret::new("secret")),
        ..of(&[&member])
    };
    let client = here.open(&options).await.unwrap();
    asks(&client).await;
    assert_eq!(member.counts().2, 2, "sign-in and range");
    member.script(|script| script.token = Some("second"));
    let calls = (0..10).map(|_| asks(&client));
    futures_util::future::join_all(calls).await;
    // Ten were refused and sent again, with one sign-in between.
    assert_eq!(member.counts().2, 2 + 10 + 1 + 10);
    assert!(!format!("{client:?}").contains("sec"));
}

#[tokio::test]
async fn after_the_tasks_were_closed_calls_say_so() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    here.tasks.close().await;
    let error = client.range(read()).await.unwrap_err();
    assert_eq!(
        (error.certainty, error.reason),
        (Certainty::NotSent, Reason::Closed)
    );
    let error = here.open(&of(&[&member])).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn the_last_clone_closes_the_connection() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    drop(client.clone());
    assert_eq!(asks(&client).await, 1);
    assert_eq!(member.open(), 1);
    drop(client);
    here.until("closed", || member.open() == 0).await;
}

/// Polls `make()`'s future to its n-th await and drops it there, for every n until it is done.
async fn drop_at_every_await<F: Future>(mut make: impl FnMut() -> F) {
    for polls in 1.. {
        assert!(polls < 10_000, "never done");
        let mut future = pin!(make());
        let mut left = polls;
        let done = std::future::poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(false);
            }
            left -= 1;
            future.as_mut().poll(cx).map(|_| true)
        });
        if done.await {
            return;
        }
    }
}

#[tokio::test]
async fn open_and_calls_can_be_dropped_at_every_await() {
    let here = Here::new();
    let member = Member::start(1).await;
    let options = of(&[&member]);
    drop_at_every_await(|| here.open(&options)).await;
    let client = here.open(&options).await.unwrap();
    drop_at_every_await(|| client.range(read())).await;
    drop_at_every_await(|| client.keep_alives()).await;
    assert_eq!(asks(&client).await, 1);
    // Nothing is left of what was dropped: one connection is open, and then none.
    here.until("closed", || member.open() == 1).await;
    drop(client);
    here.until("closed", || member.open() == 0).await;
}

#[tokio::test]
async fn an_answer_survives_a_dropped_wait_for_it() {
    let here = Here::new();
    let member = Member::start(1).await;
    let client = here.open(&of(&[&member])).await.unwrap();
    let mut stream = client.keep_alives().await.unwrap();
    let mut answered = BTreeSet::new();
    for lease in 0..50 {
        stream.send(lease).await.unwrap();
    }
    while answered.len() < 50 {
        let mut next = pin!(stream.next());
        if let Poll::Ready(answer) = futures_util::poll!(next.as_mut()) {
            answered.insert(answer.unwrap().unwrap().lease);
        } else {
            here.clock.sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(answered.len(), 50);
}

#[test]
fn a_client_outlives_the_runtime_that_opened_it_and_works_on_any_executor() {
    let here = Here::new();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };
    let first = runtime();
    let (member, client) = first.block_on(async {
        let member = Member::start(1).await;
        let client = here.open(&of(&[&member])).await.unwrap();
        assert_eq!(asks(&client).await, 1);
        (member, client)
    });
    drop(first);
    assert_eq!(runtime().block_on(asks(&client)), 1);
    // A failover too is made without the caller's runtime.
    member.close_connections();
    bare(here.until("dialled", || member.counts().0 == 2));
    assert_eq!(bare(asks(&client)), 1);
}

/// The least executor there is.
fn bare<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future
            .as_mut()
            .poll(&mut std::task::Context::from_waker(&waker))
        {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn calls_can_be_spawned() {
    fn is_send<T: Send>(_: impl Fn(Client) -> T) {}
    is_send(|client| async move {
        let _ = client.range(read()).await;
        let _ = client.txn(Txn::default()).await;
        let mut stream = client.keep_alives().await.unwrap();
        let _ = stream.next().await;
        let _ = client.refresh_token().await;
    });
}
