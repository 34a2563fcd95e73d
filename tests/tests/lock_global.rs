//! `#[locked]` without `via`: alone in its process, because the global coordinator is the process's.

use coord::{Coordinator, Error, locked, set_global};
use coord_tests::{Etcd, EtcdConfig, backend::patient};

#[locked("global", guard = held)]
async fn key() -> coord::Result<String> {
    Ok(held.key().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_function_uses_the_global_coordinator() {
    let error = key().await.unwrap_err();
    assert!(matches!(error, Error::NotConfigured { .. }), "{error:?}");
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new()).await else {
        return;
    };
    let options = patient().endpoints([etcd.endpoint()]);
    set_global(Coordinator::connect(options).await.unwrap());
    assert_eq!(key().await.unwrap(), "global");
}
