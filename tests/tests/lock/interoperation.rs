//! Locks among clients of other kinds.

use std::{sync::Arc, time::Duration};

use coord::Error;
use coord_tests::{Backend, etcd::installed, eventually, on_both};

use super::{connect, queue, queue_is};

on_both! {
    etcdctl_lock_and_coord_exclude_each_other,
    etcdctl_lock_waits_behind_a_reader_and_in_front_of_one,
    keys_that_no_client_of_ours_would_write_are_waited_for_like_others,
    a_stray_key_in_the_queue_is_named_and_not_waited_for,
}

async fn etcdctl_lock_and_coord_exclude_each_other(server: Backend) {
    if installed().is_none() {
        return;
    }
    let server = Arc::new(server);
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("go-on");
    let command = format!("until [ -e {} ]; do sleep 0.02; done", file.display());
    let ctl = tokio::spawn({
        let server = server.clone();
        async move {
            let lock = ["lock", "coord/lock/both!", "--", "sh", "-c", &command];
            server.etcdctl(&lock).await
        }
    });
    queue_is(&store, "both", 1).await;
    let theirs = queue(&mut store, "both").await.remove(0);
    let busy = coordinator.lock("both").try_acquire().await;
    let Err(Error::Busy { holder, .. }) = busy else {
        panic!("{busy:?}")
    };
    assert_eq!(holder.unwrap().entry, theirs.key_str().unwrap());
    let waiting = tokio::spawn(coordinator.lock("both").acquire());
    queue_is(&store, "both", 2).await;
    assert!(!waiting.is_finished());
    std::fs::write(&file, "").unwrap();
    ctl.await.unwrap();
    let guard = waiting.await.unwrap().unwrap();

    let ctl = tokio::spawn({
        let server = server.clone();
        async move {
            server
                .etcdctl(&["lock", "coord/lock/both!", "--", "echo", "theirs"])
                .await
        }
    });
    queue_is(&store, "both", 2).await;
    assert!(!ctl.is_finished());
    assert!(guard.unlock().await.unwrap().confirmed);
    assert!(ctl.await.unwrap().contains("theirs"));
}

/// It knows no readers, and is none.
async fn etcdctl_lock_waits_behind_a_reader_and_in_front_of_one(server: Backend) {
    if installed().is_none() {
        return;
    }
    let server = Arc::new(server);
    let (one, two) = (connect(&server).await, connect(&server).await);
    let mut store = server.client().await;
    let reader = one.lock("both").read().acquire().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (began, go_on) = (dir.path().join("began"), dir.path().join("go-on"));
    let command = format!(
        "touch {}; until [ -e {} ]; do sleep 0.02; done",
        began.display(),
        go_on.display()
    );
    let ctl = tokio::spawn({
        let server = server.clone();
        async move {
            let lock = ["lock", "coord/lock/both!", "--", "sh", "-c", &command];
            server.etcdctl(&lock).await
        }
    });
    queue_is(&store, "both", 2).await;
    let theirs = queue(&mut store, "both").await.remove(1);
    let behind = tokio::spawn(two.lock("both").read().acquire());
    queue_is(&store, "both", 3).await;
    let busy = two.lock("both").read().try_acquire().await;
    let Err(Error::Busy { holder, .. }) = busy else {
        panic!("{busy:?}")
    };
    assert_eq!(holder.unwrap().entry, theirs.key_str().unwrap());
    reader.verify().await.unwrap();
    assert!(!began.exists() && !behind.is_finished());
    assert!(reader.unlock().await.unwrap().confirmed);
    eventually("etcdctl has it", async || began.exists()).await;
    assert_eq!(queue(&mut store, "both").await.len(), 2);
    assert!(!behind.is_finished());
    std::fs::write(&go_on, "").unwrap();
    ctl.await.unwrap();
    let behind = behind.await.unwrap().unwrap();
    assert!(behind.fencing_token().get() > theirs.create_revision());
}

async fn keys_that_no_client_of_ours_would_write_are_waited_for_like_others(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    let values: [&[u8]; 4] = [
        b"",
        b"\xff\xfe",
        br#"{"v":-1,"host":{},"pid":-7,"since_ms":1e400}"#,
        &[b'['; 10_000],
    ];
    for value in values {
        let lease = store.lease_grant(60, None).await.unwrap().id();
        let key = [b"coord/lock/odd!/\xff\xfe\x00".as_slice(), b"!/"].concat();
        let put = etcd_client::PutOptions::new().with_lease(lease);
        store.put(key.clone(), value, Some(put)).await.unwrap();
        let busy = coordinator.lock("odd").try_acquire().await;
        assert!(
            matches!(
                busy,
                Err(Error::Busy {
                    holder: Some(_),
                    ..
                })
            ),
            "{busy:?}"
        );
        let late = coordinator.lock("odd").wait(Duration::from_secs(2));
        let late = late.acquire().await.unwrap_err();
        assert!(
            matches!(
                late,
                Error::Timeout {
                    holder: Some(_),
                    position: Some(1),
                    ..
                }
            ),
            "{late:?}"
        );
        let waiting = tokio::spawn(coordinator.lock("odd").acquire());
        queue_is(&store, "odd", 2).await;
        store.delete(key, None).await.unwrap();
        drop(waiting.await.unwrap().unwrap());
        queue_is(&store, "odd", 0).await;
    }
}

async fn a_stray_key_in_the_queue_is_named_and_not_waited_for(server: Backend) {
    let coordinator = connect(&server).await;
    let mut store = server.client().await;
    store.put("coord/lock/stray!/x", "", None).await.unwrap();
    let error = coordinator.lock("stray").acquire().await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    assert!(error.to_string().contains("coord/lock/stray!/x"), "{error}");
    queue_is(&store, "stray", 1).await;
}
