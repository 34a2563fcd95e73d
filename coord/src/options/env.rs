//! Options from the environment: one table of names, each with the field that it sets.

use std::{ffi::OsString, time::Duration};

use super::{Mode, OffOptions, Options, Pem, Secret};
use crate::error::{Context, Error, Result};

type Set = fn(&mut Options, &str) -> Result<(), String>;

/// Every variable of [`Options`]. What a service's own attribute words read is in [`ELSEWHERE`].
const VARIABLES: &[(&str, Set)] = &[
    ("COORD_ENDPOINTS", |o, v| {
        o.endpoints = v
            .split(',')
            .map(str::trim)
            .filter(|e| !e.is_empty())
            .map(Into::into)
            .collect();
        Ok(())
    }),
    ("COORD_USER", |o, v| put(&mut o.user, Some(v.to_owned()))),
    ("COORD_PASSWORD", |o, v| {
        put(&mut o.password, Some(Secret::new(v)))
    }),
    ("COORD_MODE", |o, v| put(&mut o.mode, mode(v)?)),
    ("COORD_INSTANCE_ID", |o, v| {
        put(&mut o.off.instance_id, Some(number(v)?))
    }),
    ("COORD_PASSWORD_FILE", |o, v| {
        put(&mut o.password, Some(secret_file(v)?))
    }),
    ("COORD_TLS_CA", |o, v| {
        put(&mut o.tls.ca, Some(Pem::from(v)))
    }),
    ("COORD_TLS_CERT", |o, v| {
        put(&mut o.tls.cert, Some(Pem::from(v)))
    }),
    ("COORD_TLS_KEY", |o, v| {
        put(&mut o.tls.key, Some(Pem::from(v)))
    }),
    ("COORD_TLS_KEY_FILE", |o, v| {
        put(&mut o.tls.key, Some(Pem::Path(v.into())))
    }),
    ("COORD_TLS_SERVER_NAME", |o, v| {
        put(&mut o.tls.server_name, Some(v.to_owned()))
    }),
    ("COORD_CONNECT_TIMEOUT", |o, v| {
        put(&mut o.connect_timeout, duration(v)?)
    }),
    ("COORD_REQUEST_TIMEOUT", |o, v| {
        put(&mut o.request_timeout, duration(v)?)
    }),
    ("COORD_KEEP_ALIVE_INTERVAL", |o, v| {
        put(&mut o.keep_alive_interval, duration(v)?)
    }),
    ("COORD_KEEP_ALIVE_TIMEOUT", |o, v| {
        put(&mut o.keep_alive_timeout, duration(v)?)
    }),
    ("COORD_NAMESPACE", |o, v| {
        put(&mut o.namespace, v.to_owned())
    }),
    ("COORD_RETRY_MAX_ATTEMPTS", |o, v| {
        put(&mut o.retry.max_attempts, number(v)?)
    }),
    ("COORD_RETRY_INITIAL", |o, v| {
        put(&mut o.retry.initial, duration(v)?)
    }),
    ("COORD_RETRY_MAX", |o, v| {
        put(&mut o.retry.max, duration(v)?)
    }),
    ("COORD_RETRY_MULTIPLIER", |o, v| {
        put(&mut o.retry.multiplier, number(v)?)
    }),
    ("COORD_RETRY_JITTER", |o, v| {
        put(&mut o.retry.jitter, number(v)?)
    }),
    ("COORD_CONFIG_PREFIX", |o, v| {
        put(&mut o.config.prefix, v.to_owned())
    }),
    ("COORD_CONFIG_SYNC_INTERVAL", |o, v| {
        put(&mut o.config.sync_interval, duration(v)?)
    }),
    ("COORD_CONFIG_VERSIONING", |o, v| {
        put(&mut o.config.versioning, switch(v)?)
    }),
    ("COORD_CONFIG_HISTORY_LIMIT", |o, v| {
        put(&mut o.config.history_limit, number(v)?)
    }),
    ("COORD_CONFIG_CACHE_TTL", |o, v| {
        put(&mut o.config.cache_ttl, duration(v)?)
    }),
    ("COORD_LOCK_PREFIX", |o, v| {
        put(&mut o.lock.prefix, v.to_owned())
    }),
    ("COORD_LOCK_TTL", |o, v| put(&mut o.lock.ttl, duration(v)?)),
    ("COORD_LOCK_RENEW_INTERVAL", |o, v| {
        put(&mut o.lock.renew_interval, Some(duration(v)?))
    }),
    ("COORD_LOCK_WAIT", |o, v| {
        put(&mut o.lock.wait, duration(v)?)
    }),
    ("COORD_LOCK_REENTRANT", |o, v| {
        put(&mut o.lock.reentrant, switch(v)?)
    }),
    ("COORD_REGISTRY_PREFIX", |o, v| {
        put(&mut o.registry.prefix, v.to_owned())
    }),
    ("COORD_REGISTRY_TTL", |o, v| {
        put(&mut o.registry.ttl, duration(v)?)
    }),
    ("COORD_REGISTRY_HEALTH_CHECK", |o, v| {
        put(&mut o.registry.health_check, switch(v)?)
    }),
    ("COORD_REGISTRY_HEALTH_CHECK_INTERVAL", |o, v| {
        put(&mut o.registry.health_check_interval, duration(v)?)
    }),
];

/// Variables that other parts, or the project's own tests, read.
const ELSEWHERE: &[&str] = &[
    "COORD_PRESET",
    "COORD_SERVICE_NAME",
    "COORD_SERVICE_VERSION",
    "COORD_LISTEN",
    "COORD_ADVERTISE",
    "COORD_ZONE",
    "COORD_WEIGHT",
    "COORD_TAGS",
    "COORD_METADATA",
    "COORD_TTL",
    "COORD_READY",
    "COORD_WATCHDOG",
    "COORD_WORKER_THREADS",
    "COORD_DRAIN",
    "COORD_QUIET",
    "COORD_SHUTDOWN_TIMEOUT",
    "COORD_ETCD_DOWN",
    "COORD_INSTANCE_ID_MAX",
    "COORD_INSTANCE_ID_POOL",
    "COORD_INSTANCE_ID_HOLD",
    "COORD_INSTANCE_ID_COOL_DOWN",
    "COORD_INSTANCE_ID_WINDOW",
    "COORD_INSTANCE_ID_ORDER",
    "COORD_INSTANCE_ID_STICKY",
    "COORD_INSTANCE_ID_ON_LOST",
    "COORD_INSTANCE_ID_ON_EXHAUSTED",
    "COORD_ETCD_BIN",
    "COORD_REQUIRE_ETCD",
];

const VAR: &str = "COORD_VAR_";
const STATIC: &str = "COORD_STATIC_";

/// Reads `variables`. They are an argument, so that tests need not touch the process's own.
pub(super) fn read(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Options> {
    let mut given: Vec<(String, String)> = Vec::new();
    let mut faults = Vec::new();
    for (name, value) in variables {
        // A name that is not UTF-8 is none of ours.
        let Some(name) = name.to_str().filter(|name| name.starts_with("COORD_")) else {
            continue;
        };
        match value.into_string() {
            Ok(value) => given.push((name.to_owned(), value)),
            Err(_) => faults.push(format!("{name} is not UTF-8")),
        }
    }
    let preset = given.iter().find(|(name, _)| name == "COORD_PRESET");
    let mut options = match preset.map(|(_, name)| Options::preset(name)) {
        None => Options::default(),
        Some(Ok(options)) => options,
        Some(Err(error)) => {
            faults.push(format!("COORD_PRESET: {error}"));
            Options::default()
        }
    };
    for (name, value) in &given {
        if let Some((_, set)) = VARIABLES.iter().find(|(known, _)| known == name) {
            if let Err(fault) = set(&mut options, value) {
                faults.push(format!("{name}: {fault}"));
            }
        } else if let Some(var) = name.strip_prefix(VAR).filter(|var| !var.is_empty()) {
            options.vars.insert(var.to_ascii_lowercase(), value.clone());
        } else if let Some(service) = name.strip_prefix(STATIC).filter(|it| !it.is_empty()) {
            put_static(&mut options.off, service, value);
        } else if !ELSEWHERE.contains(&name.as_str()) {
            tracing::warn!(target: "coord::options", variable = %name, nearest = nearest(name),
                "an environment variable begins with COORD_ and is none of coord's");
        }
    }
    if options.mode != Mode::Off && options.off != OffOptions::default() {
        tracing::warn!(target: "coord::options",
            "COORD_INSTANCE_ID and COORD_STATIC_… mean something with COORD_MODE=off alone");
    }
    if faults.is_empty() {
        Ok(options)
    } else {
        Err(Error::Invalid {
            context: Context::new("read options from the environment"),
            faults,
        })
    }
}

/// The known name that differs least from `name`.
pub(super) fn nearest(name: &str) -> &'static str {
    VARIABLES
        .iter()
        .map(|(known, _)| *known)
        .chain(ELSEWHERE.iter().copied())
        .min_by_key(|known| strsim::damerau_levenshtein(known, name))
        .unwrap_or(VAR)
}

fn put<T>(field: &mut T, value: T) -> Result<(), String> {
    *field = value;
    Ok(())
}

fn mode(text: &str) -> Result<Mode, String> {
    const MODES: [(&str, Mode); 2] = [("etcd", Mode::Etcd), ("off", Mode::Off)];
    let named = MODES.iter().find(|(name, _)| *name == text);
    let distance = |(name, _): &&(&str, Mode)| strsim::damerau_levenshtein(name, text);
    match (named, MODES.iter().min_by_key(distance)) {
        (Some((_, mode)), _) => Ok(*mode),
        (None, nearest) => {
            let nearest = nearest.map_or("off", |(name, _)| name);
            Err(format!(
                "no mode is called {text:?}; did you mean `{nearest}`? There are `etcd` and `off`"
            ))
        }
    }
}

/// A variable cannot say whether the service has `-` or `_` in its name: it is found by both.
fn put_static(off: &mut OffOptions, service: &str, addresses: &str) {
    let addresses = addresses.split(',').map(str::trim);
    let addresses: Vec<String> = addresses
        .filter(|address| !address.is_empty())
        .map(str::to_owned)
        .collect();
    let service = service.to_ascii_lowercase();
    for name in [service.replace('_', "-"), service] {
        off.endpoints.insert(name, addresses.clone());
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is no duration like `5s`: {error}"))
}

fn switch(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{text:?} is neither `true` nor `false`")),
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|error| format!("{text:?}: {error}"))
}

/// A secret's file; one trailing newline is not part of it.
fn secret_file(path: &str) -> Result<Secret, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(Secret::new(text.strip_suffix('\n').unwrap_or(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<Options> {
        read(
            variables
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn variables_lie_over_the_preset() {
        let options = from(&[
            ("COORD_PRESET", "test"),
            ("COORD_ENDPOINTS", "a:2379, b:2379,"),
            ("COORD_LOCK_TTL", "7s"),
            ("COORD_LOCK_REENTRANT", "true"),
            ("COORD_CONFIG_VERSIONING", "false"),
            ("COORD_CONFIG_HISTORY_LIMIT", "7"),
            ("COORD_CONFIG_CACHE_TTL", "2s"),
            ("COORD_VAR_ENV", "prod"),
            ("UNRELATED", "x"),
        ])
        .unwrap();
        assert_eq!(options.endpoints, ["a:2379", "b:2379"]);
        assert_eq!(options.lock.ttl, Duration::from_secs(7));
        assert!(options.lock.reentrant);
        assert_eq!(options.registry.ttl, Options::test().registry.ttl);
        let config = &options.config;
        assert_eq!((config.versioning, config.history_limit), (false, 7));
        assert_eq!(config.cache_ttl, Duration::from_secs(2));
        assert_eq!(options.vars["env"], "prod");
    }

    #[test]
    fn all_faults_come_in_one_error_and_no_secret_is_in_it() {
        let error = from(&[
            ("COORD_LOCK_TTL", "7"),
            ("COORD_RETRY_MAX_ATTEMPTS", "many"),
            ("COORD_PRESET", "prod"),
            ("COORD_CONFIG_VERSIONING", "maybe"),
            ("COORD_PASSWORD", "hunter2"),
        ])
        .unwrap_err();
        let Error::Invalid { faults, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(faults.len(), 4, "{faults:?}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn without_etcd_the_id_and_the_other_services_are_given() {
        let options = from(&[
            ("COORD_MODE", "off"),
            ("COORD_INSTANCE_ID", "7"),
            ("COORD_STATIC_MAIL", "127.0.0.1:1, 127.0.0.1:2,"),
            ("COORD_STATIC_USER_SERVICE", "10.0.0.5:50051"),
        ])
        .unwrap();
        assert_eq!(options.mode, Mode::Off);
        assert_eq!(options.off.instance_id, Some(7));
        let found: Vec<_> = options.off.endpoints.iter().collect();
        let (mail, users) = (
            vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()],
            vec!["10.0.0.5:50051".to_owned()],
        );
        let (dashed, plain) = ("user-service".to_owned(), "user_service".to_owned());
        let expected = [
            (&"mail".to_owned(), &mail),
            (&dashed, &users),
            (&plain, &users),
        ];
        assert_eq!(found, expected);
        assert_eq!(from(&[("COORD_MODE", "etcd")]).unwrap().mode, Mode::Etcd);
    }

    #[test]
    fn an_unknown_mode_is_told_the_nearest() {
        for (given, nearest) in [("of", "`off`"), ("OFF", "`off`"), ("etdc", "`etcd`")] {
            let error = from(&[("COORD_MODE", given)]).unwrap_err().to_string();
            assert!(error.contains(&format!("mean {nearest}")), "{error}");
        }
    }

    #[test]
    fn a_secret_can_be_in_a_file() {
        let file = std::env::temp_dir().join(format!("coord-secret-{}", std::process::id()));
        std::fs::write(&file, "hunter2\n").unwrap();
        let options = from(&[("COORD_PASSWORD_FILE", file.to_str().unwrap())]).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(options.password.as_ref().unwrap().expose(), "hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn a_misspelt_variable_has_a_nearest_name() {
        assert_eq!(nearest("COORD_ENDPOINT"), "COORD_ENDPOINTS");
        assert_eq!(nearest("COORD_LOCK_TLL"), "COORD_LOCK_TTL");
    }
}
