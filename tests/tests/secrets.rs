//! What is logged at the finest level, by coord and everything below it, holds no secret.

#![allow(
    clippy::unwrap_used,
    reason = "a test: the helpers are no `#[test]`s, so clippy does not see it"
)]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, OnceLock},
};

use coord::{CoordConfig, Coordinator, Options, Secret, embedded::Server};
use coord_tests::{Etcd, EtcdConfig, ROOT_PASSWORD, ROOT_USER, backend::patient};

#[derive(CoordConfig, Debug)]
#[coord(prefix = "app")]
struct App {
    #[coord(default = 1)]
    size: u32,
    #[coord(default = 1, secret)]
    pin: u32,
    #[coord(nested)]
    db: Option<Db>,
}

#[derive(CoordConfig, Debug)]
struct Db {
    #[coord(secret)]
    mode: Mode,
}

/// Who has a token is as secret as what it may do.
#[derive(CoordConfig, Debug)]
#[coord(prefix = "tokens", write)]
struct Tokens {
    #[coord(map, secret)]
    all: BTreeMap<String, u32>,
}

#[derive(serde::Deserialize, Debug)]
enum Mode {
    Fast,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Everything that is logged in this process: the coordinators' threads, and the embedded server's,
/// log to the global subscriber.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_user_on_a_real_etcd() {
    let Some(etcd) = Etcd::start_or_skip(EtcdConfig::new().auth()).await else {
        return;
    };
    let mut options = patient().endpoints([etcd.endpoint()]);
    options.user = Some(ROOT_USER.into());
    options.password = Some(Secret::new(ROOT_PASSWORD));
    nothing_that_is_told_holds_a_secret(options).await;
}

/// The server's own words are among what is logged then.
#[tokio::test(flavor = "multi_thread")]
async fn on_the_embedded_server() {
    let server = Server::start().await.unwrap();
    nothing_that_is_told_holds_a_secret(server.options()).await;
}

async fn nothing_that_is_told_holds_a_secret(options: Options) {
    const SECRET: &str = "hunter2";
    let log = log();
    let coordinator = Coordinator::connect(options.clone()).await.unwrap();
    let center = coordinator.config_center();
    let config = coordinator.config::<App>().start().await.unwrap();
    let mut told = vec![format!("{options:?} {coordinator:?} {center:?}")];
    let document = format!(r#"{{"mode":{{"{SECRET}":1}}}}"#);
    for (key, value) in [
        ("app/pin", SECRET),
        ("app/db/mode", SECRET),
        ("app/db", &document),
    ] {
        let revision = center.set(key, value).await.unwrap();
        config.wait_for_revision(revision).await.unwrap();
        let status = config.status();
        let refusal = status.refusal.clone().expect("a refusal");
        told.push(format!(
            "{status:?} {refusal} {config:?} {:?}",
            coordinator.health()
        ));
        let error = coordinator.config::<App>().start().await.unwrap_err();
        told.push(format!("{error} {error:?}"));
    }
    // Saved, and refused: too many at once, and one that is no key.
    let save = async |names: &[String]| {
        let all = names.iter().map(|name| (name.clone(), 1)).collect();
        coordinator.config().save(&Tokens { all }).await
    };
    save(&[SECRET.to_owned()]).await.unwrap();
    let many: Vec<_> = (0..50).map(|n| format!("{SECRET}{n}")).collect();
    for names in [&many[..], &[SECRET.repeat(200)]] {
        let error = save(names).await.unwrap_err();
        told.push(format!("{error} {error:?}"));
    }
    let mut changes = config.changes();
    for key in ["app/db", "app/db/mode"] {
        center.delete(key).await.unwrap();
    }
    center.set("app/pin", &771_177).await.unwrap();
    center.set("app/db/mode", "Fast").await.unwrap();
    let change = changes.next().await.unwrap();
    let now = config.load();
    assert!(
        now.size == 1
            && now
                .db
                .as_ref()
                .is_none_or(|db| matches!(db.mode, Mode::Fast))
    );
    let seen = config.subscribe();
    told.push(format!(
        "{change:?} {changes:?} {seen:?} {:?}",
        config.project(|app| &app.pin)
    ));
    coordinator.close().await;

    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    for expected in [
        "config written",
        "config change refused",
        "config changed",
        "TRACE",
    ] {
        assert!(log.contains(expected), "nothing is logged of {expected:?}");
    }
    let told = told.concat() + &log;
    for secret in [SECRET, "771177", ROOT_PASSWORD] {
        let line = told.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret:?} is told");
    }
}
