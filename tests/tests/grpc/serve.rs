//! `Context::serve_tonic` in a process of its own, seen from outside.

use std::{
    process::ExitCode,
    sync::{Arc, mpsc},
    time::Duration,
};

use coord::{Context, Coordinator, Error, Service, TlsOptions};
use coord_tests::{
    Backend, Worker,
    echo::{EchoClient, EchoHandler, EchoRequest},
    etcd::Tls,
    eventually, on_both,
};
use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, oneshot},
    time::timeout,
};
use tonic::{
    Code,
    service::Routes,
    transport::{Certificate, Channel, ClientTlsConfig, Server},
};
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving},
    health_client::HealthClient,
};

/// More than a test takes.
pub(crate) const WAIT: Duration = Duration::from_secs(120);
const RECORDS: &str = "coord/svc/echo/";

/// A service in a process of its own, and a client of each of its services.
pub(crate) struct Running {
    client: Client,
    pub(crate) worker: Worker,
    pub(crate) address: String,
    pub(crate) channel: Channel,
    pub(crate) echo: EchoClient<Channel>,
    pub(crate) health: HealthClient<Channel>,
}

impl Running {
    pub(crate) async fn start(server: &Backend, environment: &[(&str, &str)]) -> Self {
        let worker = spawn(server, &["a"], environment);
        let client = server.client().await;
        let address = address(&client).await;
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        // Its listener is bound: from here on it may take its time, and is waited for.
        let channel = channel.connect().await.unwrap();
        Self {
            client,
            worker,
            address,
            echo: EchoClient::new(channel.clone()),
            health: HealthClient::new(channel.clone()),
            channel,
        }
    }

    pub(crate) async fn routable(&self) {
        let found = async || !found(&self.client, RECORDS).await.is_empty();
        eventually("it is routable", found).await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.worker.pid()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn health(&mut self, service: &str) -> ServingStatus {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = self.health.check(request).await.unwrap().into_inner();
        ServingStatus::try_from(answer.status).unwrap()
    }

    /// What it tells of its health from now on; `None` at the end.
    pub(crate) async fn health_watch(
        &mut self,
    ) -> impl AsyncFnMut() -> Option<ServingStatus> + use<> {
        let answers = self.health.watch(HealthCheckRequest::default()).await;
        let mut answers = answers.unwrap().into_inner();
        async move || {
            let answer = answers.message().await.unwrap()?;
            Some(ServingStatus::try_from(answer.status).unwrap())
        }
    }
}

fn spawn(server: &Backend, arguments: &[&str], environment: &[(&str, &str)]) -> Worker {
    let endpoint = server.endpoint();
    let mut all = vec![("COORD_ENDPOINTS", endpoint.as_str())];
    all.extend(environment);
    Worker::spawn_with("service-grpc", arguments, &all)
}

/// Of the listener that is for gRPC.
async fn address(client: &Client) -> String {
    eventually("it is known", async || {
        let [record] = &found(client, "coord/inst/echo/").await[..] else {
            return None;
        };
        Some(record["Coord"]["endpoints"]["grpc"].as_str()?.to_owned())
    })
    .await
}

async fn found(client: &Client, prefix: &str) -> Vec<Value> {
    let options = Some(GetOptions::new().with_prefix());
    let found = client.clone().get(prefix, options).await.unwrap();
    let read = |kv: &etcd_client::KeyValue| serde_json::from_slice(kv.value()).unwrap();
    found.kvs().iter().map(read).collect()
}

pub(crate) fn say(text: &str, delay_ms: u32) -> EchoRequest {
    EchoRequest {
        text: text.into(),
        delay_ms,
        ..EchoRequest::default()
    }
}

on_both! {
    its_health_is_what_others_are_to_find,
    it_leaves_in_order_and_finishes_what_has_begun,
    a_stream_without_end_is_cut_in_time_for_main_to_return,
    a_second_signal_ends_it_whatever_is_in_flight,
    a_connection_without_a_word_does_not_hold_it_up,
    it_serves_with_tls_and_leaves_in_order_too,
    a_channel_calls_it_with_tls,
}

async fn its_health_is_what_others_are_to_find(server: Backend) {
    let mut running = Running::start(&server, &[("COORD_READY", "manual")]).await;
    let mut told = running.health_watch().await;
    assert_eq!(told().await, Some(NotServing));
    assert_eq!(running.health("").await, NotServing);
    assert!(found(&running.client, RECORDS).await.is_empty());
    // Those who know its address are served all the same.
    running.echo.echo(say("early", 0)).await.unwrap();

    running.worker.say("ready");
    assert_eq!(told().await, Some(Serving));
    for name in ["", "coord.tests.Echo"] {
        assert_eq!(running.health(name).await, Serving);
    }
    running.routable().await;

    running.worker.say("unhealthy");
    assert_eq!(told().await, Some(NotServing));
    let gone = async || found(&running.client, RECORDS).await.is_empty();
    eventually("it is not routable", gone).await;
    running.worker.say("healthy");
    assert_eq!(told().await, Some(Serving));
    running.routable().await;
}

async fn it_leaves_in_order_and_finishes_what_has_begun(server: Backend) {
    let mut running = Running::start(&server, &[("COORD_DRAIN", "10s")]).await;
    running.routable().await;
    let mut told = running.health_watch().await;
    assert_eq!(told().await, Some(Serving));
    let options = Some(WatchOptions::new().with_prefix());
    let mut records = running
        .client
        .clone()
        .watch(RECORDS, options)
        .await
        .unwrap();
    // Longer than the drain.
    let mut echo = running.echo.clone();
    let long = tokio::spawn(async move { echo.echo(say("long", 12_000)).await });
    // In flight before the signal: its connection answers in order of arrival.
    running.echo.echo(say("before", 0)).await.unwrap();

    running.signal(Signal::TERM);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = records.next().await.unwrap().unwrap();
        for event in message.events() {
            let kv = event.kv().unwrap();
            let value: Value = match event.event_type() {
                EventType::Put => serde_json::from_slice(kv.value()).unwrap(),
                EventType::Delete => Value::Null,
            };
            seen.push(
                value["Coord"]["status"]
                    .as_str()
                    .unwrap_or("gone")
                    .to_owned(),
            );
        }
        // It was so before the first of them. (The watch's first message has no events.)
        if seen.is_empty() {
            continue;
        }
        assert_eq!(running.health("").await, NotServing);
    }
    assert_eq!(seen, ["draining", "gone"]);
    assert_eq!(told().await, Some(NotServing));
    // Others may not have heard of it: both on a connection that is there and on a new one.
    running.echo.echo(say("late", 0)).await.unwrap();
    let uri = format!("http://{}", running.address);
    let mut newcomer = EchoClient::connect(uri).await.unwrap();
    newcomer.echo(say("later", 0)).await.unwrap();

    // The end of the drain: the watch ends, the listener closes.
    assert_eq!(told().await, None);
    let refused = async || TcpStream::connect(&running.address).await.is_err();
    eventually("the listener is closed", refused).await;
    assert_eq!(long.await.unwrap().unwrap().get_ref().text, "long");
    running.worker.expect("ended").await;
    assert_eq!(running.worker.ended().await.code(), Some(0));
}

async fn a_stream_without_end_is_cut_in_time_for_main_to_return(server: Backend) {
    // A tenth of it is left for `main` to return: more than a busy machine stands still.
    let limits = [("COORD_DRAIN", "0s"), ("COORD_SHUTDOWN_TIMEOUT", "40s")];
    let mut running = Running::start(&server, &limits).await;
    running.routable().await;
    let endless = running
        .echo
        .server_stream(say("on and on", 10))
        .await
        .unwrap();
    let mut endless = endless.into_inner();
    endless.next().await.unwrap().unwrap();
    running.signal(Signal::TERM);
    let broken = loop {
        match endless.message().await {
            Ok(said) => assert!(said.is_some(), "it does not end by itself"),
            Err(broken) => break broken,
        }
    };
    assert_ne!(broken.code(), Code::Ok);
    running.worker.expect("ended").await;
    // It has returned: one that is dropped has failed.
    assert_eq!(running.worker.ended().await.code(), Some(0));
    assert!(running.worker.errors().contains("cutting them off"));
}

async fn a_second_signal_ends_it_whatever_is_in_flight(server: Backend) {
    let limits = [("COORD_DRAIN", "1h"), ("COORD_SHUTDOWN_TIMEOUT", "1h")];
    let mut running = Running::start(&server, &limits).await;
    running.routable().await;
    let mut told = running.health_watch().await;
    assert_eq!(told().await, Some(Serving));
    let mut echo = running.echo.clone();
    let call = tokio::spawn(async move { echo.echo(say("for ever", u32::MAX)).await });
    running.signal(Signal::TERM);
    assert_eq!(told().await, Some(NotServing));
    let ended = running.worker.ended_by(Signal::TERM).await;
    assert_eq!(ended.code(), Some(128 + 15));
    call.await.unwrap().unwrap_err();
    assert!(found(&running.client, RECORDS).await.is_empty());
}

/// As a check of the port leaves it, or a client whose machine is gone.
async fn a_connection_without_a_word_does_not_hold_it_up(server: Backend) {
    let limits = [("COORD_DRAIN", "0s"), ("COORD_SHUTDOWN_TIMEOUT", "1h")];
    let mut running = Running::start(&server, &limits).await;
    let silent = TcpStream::connect(&running.address).await.unwrap();
    // Accepted after it: it has been, too.
    let uri = format!("http://{}", running.address);
    let mut after = EchoClient::connect(uri).await.unwrap();
    after.echo(say("after it", 0)).await.unwrap();
    running.signal(Signal::TERM);
    running.worker.expect("ended").await;
    assert_eq!(running.worker.ended().await.code(), Some(0));
    drop(silent);
}

/// A service that speaks TLS, and what its callers need.
fn secured(server: &Backend) -> (Tls, Worker) {
    let tls = Tls::generate().unwrap();
    let (certificate, key) = (tls.server_cert_path(), tls.server_key_path());
    let files = [&certificate, &key].map(|path| path.to_str().unwrap());
    let arguments = ["a", files[0], files[1]];
    let worker = spawn(server, &arguments, &[("COORD_DRAIN", "0s")]);
    (tls, worker)
}

async fn it_serves_with_tls_and_leaves_in_order_too(server: Backend) {
    let (tls, worker) = secured(&server);
    let address = address(&server.client().await).await;
    let authority = Certificate::from_pem(tls.ca());
    let config = ClientTlsConfig::new()
        .ca_certificate(authority)
        .domain_name("localhost");
    let channel = Channel::from_shared(format!("https://{address}")).unwrap();
    let channel = channel.tls_config(config).unwrap().connect().await.unwrap();
    let mut echo = EchoClient::new(channel);
    // Whoever speaks no TLS is not served, and holds nobody up.
    let plain = TcpStream::connect(&address).await.unwrap();
    echo.echo(say("secret", 0)).await.unwrap();
    let mut caller = echo.clone();
    let long = tokio::spawn(async move { caller.echo(say("long", 1_000)).await });
    echo.echo(say("after it", 0)).await.unwrap();
    worker.terminate();
    assert_eq!(long.await.unwrap().unwrap().get_ref().text, "long");
    assert_eq!(worker.ended().await.code(), Some(0));
    drop(plain);
}

/// What a channel takes for TLS to the instances is what a coordinator takes for TLS to etcd.
async fn a_channel_calls_it_with_tls(server: Backend) {
    let (tls, worker) = secured(&server);
    let coordinator = server.coordinator().await;
    let mut options = TlsOptions::default();
    options.ca = Some(tls.ca().into());
    let channel = coordinator.channel("echo").tls(options).wait(WAIT);
    let mut echo = EchoClient::new(channel.await.unwrap());
    let reply = echo.echo(say("secret", 0)).await.unwrap().into_inner();
    assert_eq!((&*reply.server, &*reply.text), ("a", "secret"));
    worker.terminate();
    assert_eq!(worker.ended().await.code(), Some(0));
}

/// Its runtime stands still while they connect and call, and while it is told to stop.
#[coord::test]
async fn who_has_connected_before_its_listener_closes_is_served(coordinator: Coordinator) {
    let (ask, asked) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let (go_on, stand_still) = mpsc::channel::<()>();
    let service = tokio::task::spawn_blocking(move || {
        let service = Service::new("echo").listen("127.0.0.1:0").current_thread();
        service
            .drain(Duration::ZERO)
            .run(async move |ctx: Context| {
                let here = ctx.clone();
                tokio::spawn(async move {
                    asked.await.unwrap();
                    tell.send(here).unwrap();
                    stand_still.recv().unwrap_err();
                });
                let routes = Routes::new(EchoHandler::new("a").service());
                ctx.serve_tonic(Server::builder(), routes).await
            })
    });
    let registry = coordinator.registry();
    let address = eventually("it is found", async || {
        let found = registry.discover("echo").await.unwrap();
        found.first().map(|instance| instance.address.clone())
    });
    let address = address.await;
    ask.send(()).unwrap();
    let ctx = told.await.unwrap();
    let mut callers = Vec::new();
    for _ in 0..20 {
        let mut caller = TcpStream::connect(&address).await.unwrap();
        caller.write_all(CALL).await.unwrap();
        callers.push(caller);
    }
    ctx.stop();
    ctx.shutdown().await;
    drop(go_on);
    for mut caller in callers {
        timeout(WAIT, answered(&mut caller)).await.unwrap().unwrap();
    }
    assert_eq!(service.await.unwrap(), ExitCode::SUCCESS);
}

/// A client's first words in HTTP/2, with empty settings, and `POST /` on its first stream.
const CALL: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x03\x01\x05\x00\x00\x00\x01\x83\x86\x84";

/// Waits for the headers of the answer.
async fn answered(caller: &mut TcpStream) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    loop {
        let mut frame = [0; 9];
        caller.read_exact(&mut frame).await?;
        if frame[3] == HEADERS {
            return Ok(());
        }
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        caller.read_exact(&mut vec![0; length as usize]).await?;
    }
}

/// In this process: what is left of it when `main` does not wait for its end.
#[coord::test]
async fn dropped_it_cuts_its_connections_and_closes_its_listener(coordinator: Coordinator) {
    let handler = EchoHandler::new("a");
    let routes = Routes::new(handler.service());
    let drop_it = Arc::new(Notify::new());
    let told = drop_it.clone();
    let service = tokio::task::spawn_blocking(move || {
        let service = Service::new("echo").listen("127.0.0.1:0");
        service.run(async move |ctx: Context| {
            tokio::select! {
                served = ctx.serve_tonic(Server::builder(), routes) => panic!("it has ended: {served:?}"),
                () = told.notified() => {}
            }
            // It took it, and does not give it back.
            let routes = Routes::new(EchoHandler::new("b").service());
            let again = ctx.serve_tonic(Server::builder(), routes).await;
            assert!(matches!(again, Err(Error::Invalid { .. })), "{again:?}");
            ctx.stop();
            ctx.shutdown().await;
        })
    });
    let channel = coordinator.channel("echo").wait(WAIT).await.unwrap();
    let mut echo = EchoClient::new(channel);
    let endless = echo.server_stream(say("on and on", 1)).await.unwrap();
    let mut endless = endless.into_inner();
    endless.next().await.unwrap().unwrap();
    drop_it.notify_one();
    while endless.next().await.unwrap().is_ok() {}
    eventually("the handler's end", async || handler.in_flight() == 0).await;
    assert_eq!(service.await.unwrap(), ExitCode::SUCCESS);
}

#[coord::test]
async fn without_a_listener_it_says_what_to_write(_coordinator: Coordinator) {
    let two = Service::new("echo")
        .listen_named("a", "127.0.0.1:0")
        .listen_named("b", "127.0.0.1:0");
    for (service, mend) in [
        (Service::new("echo"), "listen = "),
        (two, "call the one for gRPC `grpc`"),
    ] {
        let service = tokio::task::spawn_blocking(move || {
            service.run(async move |ctx: Context| {
                let routes = Routes::new(EchoHandler::new("a").service());
                let error = ctx.serve_tonic(Server::builder(), routes).await;
                let error = error.unwrap_err().to_string();
                assert!(error.contains(mend), "{error}");
            })
        });
        assert_eq!(service.await.unwrap(), ExitCode::SUCCESS);
    }
}
