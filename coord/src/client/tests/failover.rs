//! What a call meets when its member is dead, silent, or unwell.

use std::pin::pin;

use tonic::Code;

use super::*;

/// What a member that is silent is given: far beyond what one takes that is not.
const SHORT: Duration = Duration::from_secs(4);

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
        request_timeout: SHORT,
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
        keep_alive_interval: Duration::from_millis(500),
        keep_alive_timeout: SHORT,
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
        request_timeout: SHORT,
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
        request_timeout: SHORT,
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
        request_timeout: SHORT,
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
    // Of ten some were refused and sent again, with one sign-in between; whoever came later had the
    // new token.
    let refused = member.counts().2 - 2 - 10 - 1;
    assert!((1..=10).contains(&refused), "{refused}");
    assert_eq!(member.signed_in(), 2);
    assert!(!format!("{client:?}").contains("sec"));
}
