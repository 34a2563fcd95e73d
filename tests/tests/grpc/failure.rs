//! What cannot be connected to is told in words and tried again; what fails is left alone for a while.

use std::time::Duration;

use coord::{
    Coordinator, Error, InstanceSpec, Registration, TlsOptions,
    embedded::Server,
    grpc::{Channel, ChannelBuilder, Strategy},
};
use coord_tests::{
    Flow, Proxy,
    backend::patient,
    echo::{EchoClient, EchoHandler, EchoRequest, EchoServer},
    etcd::Tls,
    eventually,
};
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::{
    Code, Status,
    transport::{Certificate, Identity, Server as Tonic, ServerTlsConfig},
};

const SERVICE: &str = "echo";

/// An etcd with these instances, and a channel to them.
struct World {
    channel: Channel,
    registrations: Vec<Registration>,
    coordinator: Coordinator,
    _etcd: Server,
}

impl World {
    async fn of(addresses: &[&str], with: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> Self {
        let etcd = Server::start().await.unwrap();
        let options = patient().endpoints([etcd.endpoint()]);
        let coordinator = Coordinator::connect(options).await.unwrap();
        let mut registrations = Vec::new();
        for address in addresses {
            let spec = InstanceSpec::new(SERVICE, *address);
            registrations.push(coordinator.registry().register(spec).await.unwrap());
        }
        let channel = coordinator.channel(SERVICE).strategy(Strategy::RoundRobin);
        Self {
            channel: with(channel.wait(Duration::ZERO)).await.unwrap(),
            registrations,
            coordinator,
            _etcd: etcd,
        }
    }

    async fn call(&self) -> Result<String, Status> {
        let mut client = EchoClient::new(self.channel.clone());
        let reply = client.echo(EchoRequest::default()).await?;
        Ok(reply.into_inner().server)
    }

    /// Waits until a call says why the connection to `address` failed.
    async fn says(&self, address: &str, reason: &str) {
        let failure = format!("last failure: {address}: ");
        eventually(&format!("a failure with {reason:?}"), async || {
            let error = self.call().await.expect_err("nobody serves");
            let told = error.message().contains(&failure) && error.message().contains(reason);
            if told && error.code() == Code::Unavailable {
                Ok(())
            } else {
                Err(error)
            }
        })
        .await;
    }
}

fn plain(channel: ChannelBuilder) -> ChannelBuilder {
    channel
}

/// Says `word` to everybody, and then nothing.
async fn saying(word: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut preface = [0; 24];
                if stream.read_exact(&mut preface).await.is_ok() {
                    stream.write_all(word).await.unwrap();
                    // Until the other side closes it.
                    while stream.read(&mut preface).await.is_ok_and(|read| read > 0) {}
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn who_refuses_is_tried_again_until_it_serves() {
    // Nobody listens there any more.
    let gone = EchoServer::start("gone").await;
    let address = gone.address();
    gone.kill().await;
    let world = World::of(&[&address], plain).await;
    world.says(&address, "refused").await;
    let back = EchoServer::start_on("back", &address).await;
    eventually("it is connected to", async || world.call().await).await;
    assert_eq!(back.connections().accepted(), 1);
    back.kill().await;
    world.says(&address, "refused").await;
}

#[tokio::test]
async fn what_is_not_http2_takes_no_calls_and_is_told() {
    for (word, reason) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"[..],
            "the server speaks HTTP/1",
        ),
        (
            b"\x15\x03\x03\x00\x02\x02\x46 and more",
            "the server speaks TLS",
        ),
        (
            b"220 mail.example.org ESMTP",
            "the server does not speak HTTP/2",
        ),
        (b"", "no HTTP/2 within 200ms"),
    ] {
        let address = saying(word).await;
        let limit = Duration::from_millis(200);
        let world = World::of(&[&address], |channel| channel.connect_timeout(limit)).await;
        world.says(&address, reason).await;
    }
    // The kernel accepts, and nobody takes it from there.
    let unread = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unread.local_addr().unwrap().to_string();
    let limit = Duration::from_millis(200);
    let world = World::of(&[&address], |channel| channel.connect_timeout(limit)).await;
    world.says(&address, "no HTTP/2 within 200ms").await;
}

#[tokio::test]
async fn who_closes_at_once_is_not_dialled_without_a_pause() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let world = World::of(&[&address], plain).await;
    let accepted = tokio::spawn(async move {
        let mut accepted = 0;
        loop {
            drop(listener.accept().await.unwrap());
            accepted += 1;
            if accepted == 5 {
                return listener;
            }
        }
    });
    // It is tried again and again; how often in a time is the state machine's.
    let _listener = accepted.await.unwrap();
    world.says(&address, "").await;
}

#[tokio::test]
async fn dead_addresses_do_not_hold_up_the_living() {
    let a = EchoServer::start("a").await;
    let silent = saying(b"").await;
    let address = a.address();
    // More than are dialled at once, and none of them answers.
    let mut all: Vec<String> = Vec::new();
    for last in 1..60 {
        all.push(silent.replace("127.0.0.1", &format!("127.0.0.{last}")));
    }
    all.push(address);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let limit = Duration::from_millis(200);
    let world = World::of(&all, |channel| channel.connect_timeout(limit)).await;
    for _ in 0..20 {
        let answered = eventually("it is connected to", async || world.call().await).await;
        assert_eq!(answered, "a");
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_told() {
    let etcd = Server::start().await.unwrap();
    let mut client = etcd_client::Client::connect([etcd.endpoint()], None)
        .await
        .unwrap();
    let record = r#"{"Op":0,"Addr":"somewhere"}"#;
    client
        .put("coord/svc/echo/-/x", record, None)
        .await
        .unwrap();
    let options = patient().endpoints([etcd.endpoint()]);
    let coordinator = Coordinator::connect(options).await.unwrap();
    let channel = coordinator
        .channel(SERVICE)
        .wait(Duration::ZERO)
        .await
        .unwrap();
    let error = EchoClient::new(channel)
        .echo(EchoRequest::default())
        .await
        .unwrap_err();
    assert!(
        error.message().contains("somewhere: it is not host:port"),
        "{error}"
    );
}

/// A name with several addresses, of which not all answer, is one endpoint.
#[tokio::test]
async fn a_name_is_looked_up() {
    let a = EchoServer::start("a").await;
    let address = a.address().replace("127.0.0.1", "localhost");
    let world = World::of(&[&address], plain).await;
    eventually("it is connected to", async || world.call().await).await;
    let world = World::of(&["nowhere.invalid:1"], plain).await;
    world.says("nowhere.invalid:1", "").await;
}

#[tokio::test]
async fn a_server_that_fails_is_left_alone_and_the_others_are_not() {
    let servers = [
        EchoServer::start("a").await,
        EchoServer::start("b").await,
        EchoServer::start("c").await,
    ];
    let addresses: Vec<_> = servers.iter().map(EchoServer::address).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let world = World::of(&addresses, plain).await;
    for server in &servers {
        eventually("it is connected to", async || {
            drop(world.call().await);
            server.handler().calls() > 0
        })
        .await;
    }
    servers[0]
        .handler()
        .set_status(Code::Unavailable, "out of order");
    let mut failed = 0;
    let ejected = eventually("it takes no calls", async || {
        let before = servers[0].handler().calls();
        for _ in 0..12 {
            failed += usize::from(world.call().await.is_err());
        }
        servers[0].handler().calls() == before
    });
    ejected.await;
    // Five in a row, and what was on its way.
    assert!((5..12).contains(&failed), "{failed}");
    // Of three no second one: it fails, and goes on being asked.
    servers[1]
        .handler()
        .set_status(Code::Unavailable, "out of order");
    for _ in 0..30 {
        drop(world.call().await);
    }
    let before = servers[1].handler().calls();
    for _ in 0..10 {
        drop(world.call().await);
    }
    assert!(servers[1].handler().calls() > before);
    // An application's error is an answer.
    servers[1]
        .handler()
        .set_status(Code::NotFound, "no such user");
    servers[2]
        .handler()
        .set_status(Code::NotFound, "no such user");
    for _ in 0..30 {
        assert_eq!(world.call().await.unwrap_err().code(), Code::NotFound);
    }
    for server in &servers {
        assert_eq!(server.connections().accepted(), 1);
    }
}

#[tokio::test]
async fn the_only_server_is_never_left_alone() {
    let a = EchoServer::start("a").await;
    let world = World::of(&[&a.address()], plain).await;
    eventually("it is connected to", async || world.call().await).await;
    a.handler().set_status(Code::Unavailable, "out of order");
    for _ in 0..20 {
        let error = world.call().await.unwrap_err();
        assert!(error.message().contains("out of order"), "{error}");
    }
    a.handler().set_status(Code::Ok, "");
    assert_eq!(world.call().await.unwrap(), "a");
}

/// The machine is gone, and nobody says so.
#[tokio::test]
async fn keep_alive_finds_a_server_that_went_without_a_word() {
    let a = EchoServer::start("a").await;
    let proxy = Proxy::start(&a.uri()).await;
    let address = proxy.address().to_string();
    let often = Duration::from_millis(200);
    let world = World::of(&[&address], |channel| channel.keep_alive(often)).await;
    eventually("it is connected to", async || world.call().await).await;
    a.handler().set_latency(Duration::from_millis(1));
    let mut client = EchoClient::new(world.channel.clone());
    let endless = client.server_stream(EchoRequest::default()).await.unwrap();
    let mut endless = endless.into_inner();
    endless.next().await.unwrap().unwrap();
    proxy.flow(Flow::Discard);
    let error = loop {
        match endless.next().await.expect("it does not end well") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    proxy.heal().await;
    eventually("it is connected to again", async || world.call().await).await;
}

/// A server with this certificate, that asks for the client's if it is to be `mutual`.
async fn secured(name: &str, certificates: &Tls, mutual: bool) -> EchoServer {
    let read = |path| std::fs::read(path).unwrap();
    let cert = read(certificates.server_cert_path());
    let identity = Identity::from_pem(cert, read(certificates.server_key_path()));
    let mut tls = ServerTlsConfig::new().identity(identity);
    if mutual {
        tls = tls.client_ca_root(Certificate::from_pem(certificates.ca()));
    }
    let handler = EchoHandler::new(name);
    let router = Tonic::builder()
        .tls_config(tls)
        .unwrap()
        .add_service(handler.service());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    EchoServer::serve(handler, router, listener)
}

fn trusting(certificates: &Tls) -> TlsOptions {
    let mut tls = TlsOptions::default();
    tls.ca = Some(certificates.ca().into());
    tls
}

#[tokio::test]
async fn tls_reaches_who_has_a_certificate_of_ours() {
    let certificates = Tls::generate().unwrap();
    let a = secured("a", &certificates, false).await;
    let by_name = a.address().replace("127.0.0.1", "localhost");
    for address in [a.address(), by_name] {
        let world = World::of(&[&address], |it| it.tls(trusting(&certificates))).await;
        eventually("it is connected to", async || world.call().await).await;
    }

    let untrusted = World::of(&[&a.address()], |it| it.tls(TlsOptions::default())).await;
    untrusted.says(&a.address(), "UnknownIssuer").await;
    let mut elsewhere = trusting(&certificates);
    elsewhere.server_name = Some("elsewhere.example.org".into());
    let misnamed = World::of(&[&a.address()], |it| it.tls(elsewhere)).await;
    misnamed.says(&a.address(), "not valid for name").await;
    let bare = World::of(&[&a.address()], plain).await;
    bare.says(&a.address(), "the server speaks TLS").await;
    let without = EchoServer::start("without").await;
    let secure = World::of(&[&without.address()], |it| it.tls(trusting(&certificates))).await;
    secure.says(&without.address(), "the server does not").await;
}

#[tokio::test]
async fn mutual_tls_shows_the_callers_certificate() {
    let certificates = Tls::generate().unwrap();
    let a = secured("a", &certificates, true).await;
    let mut named = trusting(&certificates);
    named.cert = Some(certificates.client_cert_path().to_str().unwrap().into());
    named.key = Some(certificates.client_key().into());
    // The server's certificate is good for this name too.
    named.server_name = Some("localhost".into());
    let world = World::of(&[&a.address()], |it| it.tls(named)).await;
    eventually("it is connected to", async || world.call().await).await;
    let unnamed = World::of(&[&a.address()], |it| it.tls(trusting(&certificates))).await;
    unnamed.says(&a.address(), "").await;
}

#[tokio::test]
async fn bad_certificates_are_told_before_anything_is_dialled() {
    let certificates = Tls::generate().unwrap();
    let world = World::of(&[], plain).await;
    let faults = async |tls: TlsOptions| {
        let made = world.coordinator.channel(SERVICE).tls(tls).await;
        match made.unwrap_err() {
            Error::Invalid { faults, .. } => faults,
            other => panic!("{other}"),
        }
    };
    let mut tls = TlsOptions::default();
    tls.ca = Some("/nowhere/ca.pem".into());
    tls.cert = Some(certificates.client_cert().into());
    let told = faults(tls).await;
    assert!(
        told.iter().any(|fault| fault.contains("/nowhere/ca.pem")),
        "{told:?}"
    );
    assert!(
        told.iter().any(|fault| fault.contains("`tls.key` is not")),
        "{told:?}"
    );

    let mut tls = trusting(&certificates);
    tls.cert = Some(certificates.client_cert().into());
    let key = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0c2VjcmV0\n-----END PRIVATE KEY-----\n";
    tls.key = Some(key.into());
    let told = faults(tls).await;
    assert!(
        !told.is_empty() && !format!("{told:?}").contains("c2VjcmV0"),
        "{told:?}"
    );
    assert!(world.registrations.is_empty());
}
