//! Trial.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use coord::{Coordinator, InstanceSpec, Options, embedded::Server, grpc::Strategy};
use coord_tests::{
    echo::{EchoClient, EchoHandler, EchoRequest, EchoServer},
    eventually,
};
use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::{Code, Request};

use crate::{
    load::Load,
    scripted::{Act, CANCEL, Scripted},
    world::World,
};

fn p2c(c: coord::grpc::ChannelBuilder) -> coord::grpc::ChannelBuilder {
    c.strategy(Strategy::P2c)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn extremes() {
    let a = EchoServer::start("a").await;
    for what in ["wait", "connect", "slow", "timeout", "keep"] {
        let mut world = World::with([a.address()], |c| match what {
            "wait" => c.wait(Duration::MAX),
            "connect" => c.connect_timeout(Duration::MAX),
            "slow" => c.slow_start(Duration::MAX),
            "timeout" => c.timeout(Duration::MAX),
            _ => c.keep_alive(Duration::MAX),
        })
        .await;
        for _ in 0..3 {
            let r = tokio::time::timeout(Duration::from_secs(10), world.call()).await;
            println!("{what}: {r:?}");
        }
    }
    let mut world = World::of([a.address()]).await;
    for t in ["99999999H", "0n", "1n", "0H"] {
        let mut request = Request::new(EchoRequest::default());
        request.metadata_mut().insert("grpc-timeout", t.parse().unwrap());
        println!("{t}: {:?}", world.client.echo(request).await.map(|a| a.into_inner().server));
    }
    println!("served {}", a.handler().calls());
}

/// Acts at headers; the window is zero.
async fn narrow(frames: fn(u32) -> (Vec<u8>, bool)) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut preface = [0; 24];
                stream.read_exact(&mut preface).await?;
                stream
                    .write_all(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])
                    .await?;
                loop {
                    let mut head = [0; 9];
                    stream.read_exact(&mut head).await?;
                    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                    let mut payload = vec![0; length as usize];
                    stream.read_exact(&mut payload).await?;
                    if head[3] == 4 && head[4] & 1 == 0 {
                        stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
                    }
                    if head[3] == 1 {
                        count.fetch_add(1, SeqCst);
                        let (frames, goes_on) = frames(id);
                        stream.write_all(&frames).await?;
                        if !goes_on {
                            return Ok::<_, std::io::Error>(());
                        }
                    }
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn headers_seen_is_begun() {
    for act in ["cut", "cancel"] {
        let mut worst = 0;
        for _ in 0..20 {
            let (address, seen) = narrow(match act {
                "cut" => |_| (vec![], false),
                _ => |id| {
                    let id = id.to_be_bytes();
                    (
                        [&[0, 0, 4, 3, 0][..], &id, &[0, 0, 0, 8]].concat(),
                        true,
                    )
                },
            })
            .await;
            let mut world = World::of([&address]).await;
            let mut request = Request::new(EchoRequest::default());
            request.set_timeout(Duration::from_secs(1));
            let r = world.client.echo(request).await.map(drop);
            worst = worst.max(seen.load(SeqCst));
            if worst > 1 {
                println!("{act}: {r:?}");
                break;
            }
        }
        println!("{act}: headers seen at most {worst}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn storm() {
    for strategy in [Strategy::P2c, Strategy::RoundRobin] {
        let mut servers = vec![
            EchoServer::start("a").await,
            EchoServer::start("b").await,
            EchoServer::start("c").await,
        ];
        let addresses: Vec<_> = servers.iter().map(EchoServer::address).collect();
        let world = World::with(addresses, |c| c.strategy(strategy)).await;
        let load = Load::start(&(world.coordinator.channel(crate::world::SERVICE).strategy(strategy).await.unwrap()));
        load.reaches(&["a", "b", "c"]).await;
        let begin = Instant::now();
        let mut rounds = 0;
        let mut late = 0;
        let mut fails = 0;
        while begin.elapsed() < Duration::from_secs(15) {
            let i = rounds % 3;
            let name = ["a", "b", "c"][i];
            let before = load.tally().failed.len();
            let address = servers[i].address();
            if rounds % 2 == 0 {
                servers[i].cut();
            } else {
                servers[i].kill().await;
                servers[i] = EchoServer::start_on(name, &address).await;
            }
            load.reaches(&[name]).await;
            let failed = load.tally().failed.split_off(before);
            let closed = failed.iter().map(|f| f.ended).min();
            for f in &failed {
                if Some(f.began) > closed {
                    late += 1;
                    println!("late by {:?}: {}", f.began - closed.unwrap(), f.status);
                }
            }
            fails += failed.len();
            rounds += 1;
        }
        let tally = load.end().await;
        println!("{strategy:?}: rounds {rounds} answered {} failed {fails} late {late}", tally.total());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn narrow_servers() {
    for strategy in [Strategy::P2c, Strategy::RoundRobin] {
        let handler = EchoHandler::new("narrow");
        let router = tonic::transport::Server::builder()
            .max_concurrent_streams(1)
            .add_service(handler.service());
        let narrow = EchoServer::serve(
            handler,
            router,
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        );
        let wide = EchoServer::start("wide").await;
        let world = World::with([narrow.address(), wide.address()], |c| c.strategy(strategy)).await;
        let load = Load::start(&(world.coordinator.channel(crate::world::SERVICE).strategy(strategy).await.unwrap()));
        load.reaches(&["narrow", "wide"]).await;
        load.goes_on(1000).await;
        let before = load.tally();
        println!("{strategy:?} {:?}", before.answered);
        for _ in 0..10 {
            narrow.cut();
            load.reaches(&["narrow", "wide"]).await;
        }
        let t = load.end().await;
        println!("{strategy:?}: {:?} failed {} calls of narrow {}", t.answered, t.failed.len(), narrow.handler().calls());
        for f in t.failed.iter().take(3) {
            println!("   {}", f.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ages() {
    for age in [50, 300] {
        let mut servers = Vec::new();
        for name in ["a", "b", "c"] {
            let handler = EchoHandler::new(name);
            let router = tonic::transport::Server::builder()
                .max_connection_age(Duration::from_millis(age))
                .add_service(handler.service());
            servers.push(EchoServer::serve(
                handler,
                router,
                TcpListener::bind("127.0.0.1:0").await.unwrap(),
            ));
        }
        let world = World::with(servers.iter().map(EchoServer::address), p2c).await;
        let load = Load::start(&(world.coordinator.channel(crate::world::SERVICE).await.unwrap()));
        load.reaches(&["a", "b", "c"]).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let t = load.end().await;
        println!(
            "age {age}: {:?} failed {} connections {:?}",
            t.answered,
            t.failed.len(),
            servers.iter().map(|s| s.connections().accepted()).collect::<Vec<_>>()
        );
        for f in t.failed.iter().take(3) {
            println!("   {}", f.status);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bad_neighbours() {
    // Accepts and closes; SETTINGS and closes; refuses all streams.
    let closes = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closing = closes.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            drop(closes.accept().await);
        }
    });
    let hello = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let helloing = hello.local_addr().unwrap().to_string();
    let hellos = Arc::new(AtomicUsize::new(0));
    let count = hellos.clone();
    tokio::spawn(async move {
        loop {
            let (mut s, _) = hello.accept().await.unwrap();
            count.fetch_add(1, SeqCst);
            let mut preface = [0; 24];
            let _ = s.read_exact(&mut preface).await;
            let _ = s.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        }
    });
    let refuses = Scripted::start("refuses", std::iter::repeat_n(Act::Reset(7), 10_000_000)).await;
    let good = EchoServer::start("good").await;
    let world = World::with(
        [&closing, &helloing, &refuses.address, &good.address()],
        p2c,
    )
    .await;
    let load = Load::start(&(world.coordinator.channel(crate::world::SERVICE).await.unwrap()));
    load.reaches(&["good"]).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let t = load.end().await;
    println!(
        "{:?} failed {} refused {} hellos {}",
        t.answered,
        t.failed.len(),
        refuses.seen(),
        hellos.load(SeqCst)
    );
    for f in t.failed.iter().take(5) {
        println!("   {}", f.status);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn own_body_errors() {
    let a = EchoServer::start("a").await;
    let b = EchoServer::start("b").await;
    let mut world = World::of([a.address(), b.address()]).await;
    for s in [&a, &b] {
        eventually("conn", async || {
            let mut c = world.client.clone();
            let _ = c.echo(EchoRequest::default()).await;
            s.handler().calls() > 0
        })
        .await;
    }
    let mut client = world.client.clone().max_encoding_message_size(100);
    for _ in 0..10 {
        let requests = futures_util::stream::iter([1, 1, 1, 1000]).then(async |n: usize| {
            tokio::task::yield_now().await;
            EchoRequest {
                text: "x".repeat(n),
                ..EchoRequest::default()
            }
        });
        let e = client.client_stream(requests).await.unwrap_err();
        println!("{e:?}");
    }
    let mut by = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..20 {
        *by.entry(world.call().await.unwrap()).or_default() += 1;
    }
    println!("{by:?}");
}

#[test]
fn runtimes() {
    let one = tokio::runtime::Runtime::new().unwrap();
    let (a, mut world) = one.block_on(async {
        let a = EchoServer::start("a").await;
        let w = World::of([a.address()]).await;
        (a, w)
    });
    let two = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{:?}", two.block_on(world.call()));
    let mut client = world.client.clone();
    let call = two.spawn(async move {
        client
            .echo(EchoRequest { delay_ms: 100_000, ..Default::default() })
            .await
    });
    two.block_on(async {
        eventually("in flight", async || a.handler().in_flight() == 1).await;
    });
    let w2 = world.client.clone();
    std::mem::forget(a);
    one.shutdown_background();
    println!("in flight: {:?}", two.block_on(call));
    let began = Instant::now();
    println!("{:?} after {:?}", two.block_on(world.call()), began.elapsed());
    drop(w2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reregistered_elsewhere() {
    let a = EchoServer::start("a").await;
    let b = EchoServer::start("b").await;
    let mut world = World::with([a.address(), b.address()], p2c).await;
    let load = Load::start(&(world.coordinator.channel(crate::world::SERVICE).await.unwrap()));
    load.reaches(&["a", "b"]).await;
    let begin = Instant::now();
    let mut n = 0;
    while begin.elapsed() < Duration::from_secs(8) {
        let olds = std::mem::take(&mut world.registrations);
        if n % 2 == 0 {
            world.register(a.address()).await;
            world.register(b.address()).await;
        }
        for r in olds {
            if n % 3 == 0 { drop(r); } else { r.deregister().await.unwrap(); }
        }
        if n % 2 == 1 {
            world.register(a.address()).await;
            world.register(b.address()).await;
        }
        n += 1;
    }
    let t = load.end().await;
    println!(
        "changes {n} {:?} failed {} conns {} {} open {} {}",
        t.answered, t.failed.len(),
        a.connections().accepted(), b.connections().accepted(), a.connections().open(), b.connections().open()
    );
    for f in t.failed.iter().take(3) { println!("   {}", f.status); }
    eventually("few connections", async || {
        let o = a.connections().open();
        if o <= 3 { Ok(()) } else { Err(o) }
    }).await;
}

fn rss() -> usize {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leaks() {
    let a = EchoServer::start("a").await;
    let b = EchoServer::start("b").await;
    let mut world = World::with([a.address(), b.address()], p2c).await;
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for _ in 0..1000 { world.call().await.unwrap(); }
    println!("start rss {} fds {} tasks {}", rss(), fds(), tasks());
    for _ in 0..2 {
        let mut set = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let mut c = world.client.clone();
            set.spawn(async move {
                for i in 0..2000_u32 {
                    let mut r = Request::new(EchoRequest { delay_ms: u32::from(i % 50 == 0), ..Default::default() });
                    r.set_timeout(Duration::from_secs(30));
                    let call = c.echo(r);
                    if i % 10 == 0 { drop(coord_tests::dropped_after((i % 7) as usize, call).await); } else { call.await.unwrap(); }
                }
            });
        }
        set.join_all().await;
        println!("after calls rss {} fds {} tasks {} inflight {} {}", rss(), fds(), tasks(), a.handler().in_flight(), b.handler().in_flight());
    }
    for i in 0..500 {
        let spec = InstanceSpec::new(crate::world::SERVICE, a.address());
        let r = world.coordinator.registry().register(spec).await.unwrap();
        if i % 5 == 0 { world.call().await.unwrap(); }
        r.deregister().await.unwrap();
        if i % 100 == 0 { println!("changes {i} rss {} fds {} tasks {}", rss(), fds(), tasks()); }
    }
    println!("changes rss {} fds {} tasks {} open {}", rss(), fds(), tasks(), a.connections().open());
    // Channels dropped during calls.
    for _ in 0..100 {
        let ch = world.coordinator.channel(crate::world::SERVICE).await.unwrap();
        let mut c = EchoClient::new(ch);
        let r = c.echo(EchoRequest { delay_ms: 20, ..Default::default() });
        drop(coord_tests::dropped_after(50, r).await);
        drop(c);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("channels rss {} fds {} tasks {} open {}", rss(), fds(), tasks(), a.connections().open());
    drop(world);
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("end rss {} fds {} tasks {} open {}", rss(), fds(), tasks(), a.connections().open());
}
