//! What wins, and what is a fault.

use super::*;

fn resolve(given: Given, env: &[(&str, &str)]) -> Result<Settings> {
    let read = |name: &str| {
        let found = env.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Settings::resolve(given, Ok(Options::default()), &read)
}

fn faults(given: Given, env: &[(&str, &str)]) -> Vec<String> {
    match resolve(given, env) {
        Err(Error::Invalid { faults, .. }) => faults,
        other => panic!("something is wrong: {other:?}"),
    }
}

/// Every word.
fn given() -> Given {
    let service = super::super::Service::new("given")
        .version("1")
        .namespace("given/")
        .endpoints(["http://given:1"])
        .listen_named("grpc", "0.0.0.0:1")
        .listen_named("http", "0.0.0.0:2")
        .advertise_named("grpc", "given")
        .zone("given")
        .weight(5)
        .tags(["given"])
        .metadata("team", "given")
        .metadata("tier", "given")
        .ttl(Duration::from_secs(5))
        .ready(Ready::Immediate)
        .drain(Duration::from_secs(3))
        .quiet(Duration::from_secs(3))
        .shutdown_timeout(Duration::from_secs(3))
        .watchdog(Duration::from_secs(3))
        .etcd_down(Duration::from_secs(3))
        .worker_threads(3)
        .instance_id(7)
        .id_pool("given")
        .id_hold(Duration::from_secs(3))
        .id_cool_down(Duration::from_secs(3))
        .id_window(Duration::from_secs(3))
        .id_dense()
        .id_sticky()
        .id_on_lost(OnIdLost::Degrade)
        .id_on_exhausted(OnExhausted::Fail);
    service.given
}

#[test]
fn the_words_win_over_the_defaults() {
    let settings = resolve(given(), &[]).expect("valid");
    assert_eq!(settings.name, "given");
    assert_eq!(settings.version.as_deref(), Some("1"));
    assert_eq!(settings.options.namespace, "given/");
    assert_eq!(settings.options.endpoints, ["http://given:1"]);
    let address = |at: usize| (settings.listen[at].0.as_str(), settings.listen[at].1.port());
    assert_eq!([address(0), address(1)], [("grpc", 1), ("http", 2)]);
    assert_eq!(settings.advertise[0].1, "given".parse().expect("a host"));
    assert_eq!(settings.zone.as_deref(), Some("given"));
    assert_eq!(settings.weight, Some(5));
    assert_eq!(settings.tags, ["given"]);
    assert_eq!(settings.metadata.len(), 2);
    assert_eq!(settings.ttl, Duration::from_secs(5));
    assert_eq!(settings.ready, Ready::Immediate);
    let three = Duration::from_secs(3);
    for time in [
        settings.drain,
        settings.shutdown_timeout,
        settings.etcd_down,
    ] {
        assert_eq!(time, three);
    }
    assert_eq!(settings.quiet, Some(three));
    assert_eq!(settings.watchdog, Some(three));
    assert_eq!(settings.runtime.worker_threads, Some(3));
    let id = settings.id.expect("it has one");
    assert_eq!((id.max, id.pool.as_str()), (7, "given"));
    assert_eq!((id.hold, id.cool_down), (Some(three), Some(three)));
    assert_eq!(id.window, Some(three));
    assert!(id.dense && id.sticky);
    assert_eq!(
        (id.on_lost, id.on_exhausted),
        (OnIdLost::Degrade, OnExhausted::Fail)
    );
    let won = settings.won.join("\n");
    assert!(won.contains("zone = \"given\" (the program)"), "{won}");
}

#[test]
fn the_environment_wins_over_the_words() {
    let over = [
        ("COORD_SERVICE_NAME", "env"),
        ("COORD_SERVICE_VERSION", "2"),
        ("COORD_LISTEN", "http=127.0.0.1:3"),
        ("COORD_ADVERTISE", "grpc=env"),
        ("COORD_ZONE", "env"),
        ("COORD_WEIGHT", "6"),
        ("COORD_TAGS", "a, b"),
        ("COORD_METADATA", "team=env,more=env"),
        ("COORD_TTL", "4s"),
        ("COORD_READY", "listening"),
        ("COORD_DRAIN", "1s"),
        ("COORD_QUIET", "1s"),
        ("COORD_SHUTDOWN_TIMEOUT", "1s"),
        ("COORD_WATCHDOG", "off"),
        ("COORD_ETCD_DOWN", "1s"),
        ("COORD_WORKER_THREADS", "1"),
        ("COORD_INSTANCE_ID_MAX", "9"),
        ("COORD_INSTANCE_ID_POOL", "env"),
        ("COORD_INSTANCE_ID_HOLD", "4s"),
        ("COORD_INSTANCE_ID_COOL_DOWN", "4s"),
        ("COORD_INSTANCE_ID_WINDOW", "4s"),
        ("COORD_INSTANCE_ID_ORDER", "any"),
        ("COORD_INSTANCE_ID_STICKY", "false"),
        ("COORD_INSTANCE_ID_ON_LOST", "exit"),
        ("COORD_INSTANCE_ID_ON_EXHAUSTED", "wait"),
    ];
    let settings = resolve(given(), &over).expect("valid");
    assert_eq!(settings.name, "env");
    assert_eq!(settings.version.as_deref(), Some("2"));
    assert_eq!(settings.options.vars["version"], "2");
    assert_eq!(settings.options.vars["zone"], "env");
    // One of the two; the other is the program's.
    let ports: Vec<_> = settings.listen.iter().map(|(_, it)| it.port()).collect();
    assert_eq!(ports, [1, 3]);
    assert_eq!(settings.advertise[0].1, "env".parse().expect("a host"));
    assert_eq!(settings.zone.as_deref(), Some("env"));
    assert_eq!(settings.weight, Some(6));
    assert_eq!(settings.tags, ["a", "b"]);
    let mut metadata = settings.metadata.clone();
    metadata.sort();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        metadata,
        [
            pair("more", "env"),
            pair("team", "env"),
            pair("tier", "given")
        ]
    );
    assert_eq!(settings.ttl, Duration::from_secs(4));
    assert_eq!(settings.ready, Ready::Listening);
    let one = Duration::from_secs(1);
    for time in [
        settings.drain,
        settings.shutdown_timeout,
        settings.etcd_down,
    ] {
        assert_eq!(time, one);
    }
    assert_eq!(settings.quiet, Some(one));
    assert_eq!(settings.watchdog, None);
    assert_eq!(settings.runtime.worker_threads, Some(1));
    let id = settings.id.expect("it has one");
    let four = Some(Duration::from_secs(4));
    assert_eq!((id.max, id.pool.as_str()), (9, "env"));
    assert_eq!((id.hold, id.cool_down), (four, four));
    assert_eq!(id.window, four);
    assert!(!id.dense && !id.sticky);
    assert_eq!(
        (id.on_lost, id.on_exhausted),
        (OnIdLost::Exit, OnExhausted::Wait)
    );
    let won = settings.won.join("\n");
    for (variable, _) in over {
        assert!(
            won.contains(&format!("({variable})")),
            "{variable} in {won}"
        );
    }
}

#[test]
fn what_won_is_told_as_it_is_written() {
    let listen = |variables: &[(&str, &str)], words: Named<String>| {
        let mut given = super::super::Service::of_crate(None, Some("package"), None).given;
        given.listen = Some(words);
        let settings = resolve(given, variables).expect("valid");
        settings.won.last().cloned().expect("the listener")
    };
    let plain = vec![(String::new(), "0.0.0.0:1".to_owned())];
    assert_eq!(
        listen(&[], plain.clone()),
        "listen = \"0.0.0.0:1\" (the program)"
    );
    assert_eq!(
        listen(&[("COORD_LISTEN", "0.0.0.0:2")], plain),
        "listen = \"0.0.0.0:2\" (COORD_LISTEN)"
    );
    let http = vec![("http".to_owned(), "0.0.0.0:1".to_owned())];
    assert_eq!(
        listen(&[], http),
        "listen = [(\"http\", \"0.0.0.0:1\")] (the program)"
    );
}

#[test]
fn without_words_there_are_defaults_and_cargo_s_values() {
    let crate_s = super::super::Service::of_crate(None, Some("package"), Some("0.3.0"));
    let settings = resolve(crate_s.given, &[]).expect("valid");
    assert_eq!(settings.name, "package");
    assert_eq!(settings.version.as_deref(), Some("0.3.0"));
    assert!(settings.listen.is_empty() && settings.id.is_none());
    assert_eq!(settings.ready, Ready::Manual);
    assert_eq!(settings.ttl, Duration::from_secs(10));
    assert_eq!(settings.drain, Duration::from_secs(10));
    assert_eq!(settings.shutdown_timeout, Duration::from_secs(15));
    assert_eq!(settings.watchdog, Some(Duration::from_secs(15)));
    assert_eq!(settings.etcd_down, Duration::from_secs(60));
    let named = ["name = \"package\" (Cargo)", "version = \"0.3.0\" (Cargo)"];
    assert_eq!(settings.won, named);
}

#[test]
fn a_variable_that_is_set_wins_over_what_the_service_knows() {
    let mut options = Options::default();
    options.vars.insert("version".into(), "canary".into());
    let settings = Settings::resolve(given(), Ok(options), &|_| None).expect("valid");
    assert_eq!(settings.options.vars["version"], "canary");
    assert_eq!(settings.version.as_deref(), Some("1"));
}

#[test]
fn the_zone_can_be_in_a_variable_of_the_platform_s() {
    let given = || Given {
        zone: Some("env:ZONE".into()),
        ..given()
    };
    let settings = resolve(given(), &[("ZONE", "eu-1a")]).expect("valid");
    assert_eq!(settings.zone.as_deref(), Some("eu-1a"));
    assert_eq!(resolve(given(), &[]).expect("valid").zone, None);
}

#[test]
fn all_faults_come_at_once() {
    let bad = [
        ("COORD_SERVICE_NAME", "a/b"),
        ("COORD_LISTEN", "grpc=here"),
        ("COORD_ADVERTISE", "grpc=http://a"),
        ("COORD_ZONE", "a/c"),
        ("COORD_WEIGHT", "0"),
        ("COORD_METADATA", "team"),
        ("COORD_TTL", "1500ms"),
        ("COORD_READY", "soon"),
        ("COORD_DRAIN", "soon"),
        ("COORD_QUIET", "1"),
        ("COORD_WATCHDOG", "0s"),
        ("COORD_ETCD_DOWN", "1"),
        ("COORD_WORKER_THREADS", "0"),
        ("COORD_INSTANCE_ID_MAX", "-1"),
        ("COORD_INSTANCE_ID_POOL", "a/d"),
        ("COORD_INSTANCE_ID_ON_LOST", "panic"),
    ];
    let told = faults(given(), &bad);
    assert_eq!(told.len(), bad.len(), "{told:#?}");
    let told = faults(Given::default(), &[]);
    assert!(told[0].contains("COORD_SERVICE_NAME"), "{told:?}");
}

/// Not when the id has been claimed already, which costs the pool one for a while.
#[test]
fn what_cannot_be_registered_or_claimed_is_told_before_it_begins() {
    let bad = [
        ("COORD_ZONE", "-"),
        ("COORD_METADATA", "version=2"),
        ("COORD_TAGS", "a\u{7}b"),
        ("COORD_INSTANCE_ID_MAX", "4294967295"),
    ];
    let told = faults(given(), &bad);
    assert_eq!(told.len(), bad.len(), "{told:#?}");
    let bad = [
        ("COORD_TTL", "9000000001s"),
        ("COORD_INSTANCE_ID_HOLD", "1s"),
        ("COORD_INSTANCE_ID_COOL_DOWN", "1500ms"),
        ("COORD_INSTANCE_ID_WINDOW", "2h"),
    ];
    let told = faults(given(), &bad);
    assert_eq!(told.len(), bad.len(), "{told:#?}");
}

#[test]
fn a_variable_for_listeners_must_fit_those_of_the_program() {
    for (listen, named) in [("127.0.0.1:3", "`grpc`"), ("admin=127.0.0.1:3", "`admin`")] {
        let told = faults(given(), &[("COORD_LISTEN", listen)]).join("\n");
        assert!(told.contains(named), "{told}");
    }
    let told = faults(given(), &[("COORD_ADVERTISE", "admin=a:1")]).join("\n");
    assert!(told.contains("`admin`"), "{told}");
    let one = || Given {
        name: Some("one".into()),
        listen: Some(vec![("grpc".into(), "0.0.0.0:1".into())]),
        ..Given::default()
    };
    let settings = resolve(one(), &[("COORD_LISTEN", "0.0.0.0:7")]).expect("which is clear");
    assert_eq!(settings.listen[0].1.port(), 7);
    let two = Given {
        advertise: Some(vec![(String::new(), "a:1".into())]),
        ..given()
    };
    let told = faults(two, &[]).join("\n");
    assert!(told.contains("several"), "{told}");
    let nowhere = Given {
        listen: None,
        advertise: None,
        ready: Some(Ready::Listening),
        ..given()
    };
    let told = faults(nowhere, &[]).join("\n");
    assert!(told.contains("`listen`"), "{told}");
}

#[test]
fn the_options_faults_are_among_them() {
    let read = |name: &str| (name == "COORD_DRAIN").then(|| "soon".to_owned());
    let faults = |options| match Settings::resolve(given(), options, &read) {
        Err(Error::Invalid { faults, .. }) => faults.join("\n"),
        other => panic!("the drain is wrong: {other:?}"),
    };
    let unread = Err(Error::invalid("read", "COORD_LOCK_TTL: no"));
    let mut unusable = Options::default();
    unusable.lock.ttl = Duration::from_millis(1500);
    for (options, named) in [(unread, "COORD_LOCK_TTL"), (Ok(unusable), "lock.ttl")] {
        let faults = faults(options);
        assert!(faults.contains(named), "{faults}");
        assert!(faults.contains("COORD_DRAIN"), "{faults}");
    }
}

/// Without the word in the attribute nothing could receive an id.
#[test]
fn the_environment_alone_claims_no_id() {
    let without = Given {
        id: None,
        ..given()
    };
    let settings = resolve(without, &[("COORD_INSTANCE_ID_MAX", "9")]).expect("valid");
    assert!(settings.id.is_none());
}
