//! coord's own threads end: alone in its process, because threads are counted.
#![cfg(target_os = "linux")]

use std::{fs, net::TcpListener};

use coord::{Coordinator, InstanceSpec, Options};
use coord_tests::{Etcd, EtcdConfig, eventually};

/// How many threads of coord's this process has.
fn threads() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("this process's threads");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("coord-")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_leave_no_thread_behind() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let before = threads();
    for round in 0..100 {
        let options = Options::test().endpoints([etcd.endpoint()]);
        let coordinator = Coordinator::connect(options).await.unwrap();
        assert!(threads() > before);
        if round % 10 == 0 {
            let spec = InstanceSpec::new("s", "10.0.0.5:80");
            let registration = coordinator.registry().register(spec).await.unwrap();
            let id = coordinator.instance_ids("p", 0..=9).acquire().await;
            let events = coordinator.registry().watch("s").unwrap();
            let guard = coordinator.lock("l").acquire().await.unwrap();
            // Some before the coordinator, some after.
            drop((registration, guard));
            coordinator.close().await;
            drop((coordinator, id, events));
        } else if round % 2 == 0 {
            coordinator.close().await;
        }
    }
    // One that cannot connect, either.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    Coordinator::connect(Options::test().endpoints([silent]))
        .await
        .unwrap_err();
    eventually("every thread has ended", async || threads() == before).await;
}
