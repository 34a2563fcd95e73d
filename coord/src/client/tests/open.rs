//! Opening: which endpoint is taken, and what becomes of the others.

use std::net::{SocketAddr, TcpListener};

use super::*;

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
        connect_timeout: Duration::from_secs(2),
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
        "no answer within 2s",
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
