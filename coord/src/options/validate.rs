//! What is wrong with a set of options: everything at once.

use std::time::Duration;

use super::Options;

/// etcd closes a connection that is pinged more often than this.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// etcd's own limit of a TTL.
const MAX_TTL: Duration = Duration::from_secs(9_000_000_000);

pub(super) fn faults(options: &Options) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |is: bool, text: String| {
        if is {
            faults.push(text);
        }
    };

    for endpoint in &options.endpoints {
        if let Err(reason) = endpoint_uri(endpoint) {
            fault(true, format!("endpoints: `{endpoint}` {reason}"));
        }
    }
    fault(
        options.user.is_some() != options.password.is_some(),
        "user and password: one is set without the other".into(),
    );
    fault(
        options.tls.cert.is_some() != options.tls.key.is_some(),
        "tls.cert and tls.key: one is set without the other".into(),
    );
    for (name, duration) in [
        ("connect_timeout", options.connect_timeout),
        ("request_timeout", options.request_timeout),
        ("keep_alive_timeout", options.keep_alive_timeout),
        ("retry.max", options.retry.max),
        (
            "registry.health_check_interval",
            options.registry.health_check_interval,
        ),
    ] {
        fault(
            duration.is_zero(),
            format!("{name}: must be more than zero"),
        );
    }
    fault(
        options.keep_alive_interval < MIN_KEEP_ALIVE,
        "keep_alive_interval: etcd closes connections that are pinged more often than every 5s"
            .into(),
    );
    fault(
        options.retry.max_attempts == 0,
        "retry.max_attempts: must be at least 1".into(),
    );
    fault(
        options.retry.multiplier.is_nan() || options.retry.multiplier < 1.0,
        "retry.multiplier: must be at least 1".into(),
    );
    fault(
        options.retry.initial > options.retry.max,
        "retry.initial: must not be longer than retry.max".into(),
    );
    for (name, prefix) in [
        ("namespace", &options.namespace),
        ("config.prefix", &options.config.prefix),
        ("lock.prefix", &options.lock.prefix),
        ("registry.prefix", &options.registry.prefix),
    ] {
        if let Err(reason) = prefix_shape(prefix) {
            fault(true, format!("{name}: `{prefix}` {reason}"));
        }
    }
    fault(
        options.config.history_limit == 0,
        "config.history_limit: must be at least 1; to keep nothing turn config.versioning off"
            .into(),
    );
    for (name, ttl) in [
        ("lock.ttl", options.lock.ttl),
        ("registry.ttl", options.registry.ttl),
    ] {
        if let Some(why) = ttl_fault(name, ttl) {
            fault(true, why);
        }
    }
    if let Some(renew) = options.lock.renew_interval {
        fault(
            renew.is_zero() || renew * 2 > options.lock.ttl,
            "lock.renew_interval: must be more than zero and at most half of lock.ttl".into(),
        );
    }
    for (name, value) in &options.vars {
        fault(
            value.is_empty() || value.contains('/') || value.chars().any(char::is_control),
            format!("vars.{name}: must be one non-empty key segment, without `/`"),
        );
    }
    faults
}

/// Why `ttl` is no TTL of a lease.
pub(crate) fn ttl_fault(name: &str, ttl: Duration) -> Option<String> {
    if ttl > MAX_TTL {
        let most = MAX_TTL.as_secs();
        return Some(format!("{name}: etcd takes no more than {most}s"));
    }
    (ttl.is_zero() || ttl.subsec_nanos() != 0)
        .then(|| format!("{name}: must be whole seconds, at least 1s"))
}

/// Why `text` is no endpoint.
pub(crate) fn endpoint_uri(text: &str) -> Result<http::Uri, String> {
    let full = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: http::Uri = full
        .parse()
        .map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("must begin with `http://` or `https://`, or be `host:port`".into());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("has no host".into());
    }
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) {
        return Err("has a user in it: set `user` and `password`".into());
    }
    if uri.port_u16().is_none() {
        return Err("has no valid port: etcd's is usually 2379".into());
    }
    if !matches!(
        uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        None | Some("" | "/")
    ) {
        return Err("must end after the port".into());
    }
    Ok(uri)
}

fn prefix_shape(prefix: &str) -> Result<(), String> {
    let inner = prefix.strip_suffix('/').unwrap_or(prefix);
    if inner.starts_with('/') || prefix == "/" {
        return Err("must not begin with `/`".into());
    }
    if !inner.is_empty() && inner.split('/').any(str::is_empty) {
        return Err("has an empty segment".into());
    }
    if inner.chars().any(|c| c.is_control() || c == '!') {
        return Err("has a control character or `!`".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Error, options::Secret};

    #[test]
    fn presets_and_defaults_are_valid() {
        for options in [
            Options::default(),
            Options::development(),
            Options::production(),
            Options::test(),
        ] {
            assert_eq!(faults(&options), Vec::<String>::new());
        }
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let mut options =
            Options::default().endpoints(["ftp://a:1", "a", "http://a:1/x", "b:2379"]);
        options.password = Some(Secret::new("hunter2"));
        options.request_timeout = Duration::ZERO;
        options.keep_alive_interval = Duration::from_secs(1);
        options.namespace = "/prod".into();
        options.lock.ttl = Duration::from_millis(1500);
        options.retry.max_attempts = 0;
        options.config.history_limit = 0;
        let error = options.validate().unwrap_err();
        let Error::Invalid { faults, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(faults.len(), 10, "{faults:#?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        for good in [
            "localhost:2379",
            "http://10.0.0.1:2379/",
            "https://[::1]:2379",
        ] {
            assert!(endpoint_uri(good).is_ok(), "{good}");
        }
        for bad in ["localhost", "http://:2379", "http://a:1/path", "", "a b:1"] {
            assert!(endpoint_uri(bad).is_err(), "{bad}");
        }
    }
}
