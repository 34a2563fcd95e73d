//! Keys: the only place where key strings are joined, encoded or taken apart.
//!
//! | part | key |
//! |---|---|
//! | config | `/<ns>config/<prefix>/…`, or any absolute key that starts with `/` |
//! | config history | `<ns>coord/history/<config key, encoded>/head`, `…/at/<revision>` |
//! | lock queue | `<ns>coord/lock/<name>!/<mode><lease hex>.<nonce>`; of a semaphore, and `.<take>of<permits>` |
//! | lock session | `<ns>coord/session/<lease hex>` |
//! | registry | `<ns>coord/svc/<service>/<zone or ->/<instance>`, `<ns>coord/inst/<service>/<instance>` |
//! | instance ids | `<ns>coord/id/<pool>/slot/<number>`, `…/own/<uuid>`, `…/hw/<number>` |
//!
//! Every prefix ends in `/`: a range over `a/b` would also return `a/bc`.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, Result};

/// The longest key of ours, in bytes.
pub(crate) const MAX_KEY: usize = 1024;

/// What is encoded in an argument: what separates segments, what ends a lock name, the escape
/// itself, and control characters. Bytes outside ASCII are always encoded.
const ARGUMENT: &AsciiSet = &CONTROLS.add(b'/').add(b'!').add(b'%');

/// The same of a map's key in config, where `!` means nothing.
const SEGMENT: &AsciiSet = &CONTROLS.add(b'/').add(b'%');

/// One key, complete. Ours are UTF-8; what others wrote below a watched prefix need not be, so the
/// engines carry keys as bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(String);

impl Key {
    /// A key as it was found; bytes that are no UTF-8 are replaced.
    pub(crate) fn found(key: &[u8]) -> Self {
        Self(String::from_utf8_lossy(key).into_owned())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The first key after this one.
    pub(crate) fn after(&self) -> Vec<u8> {
        let mut after = self.0.clone().into_bytes();
        after.push(0);
        after
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A prefix that ends in `/`: the range of all keys below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Prefix(String);

impl Prefix {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The first key after the range: the prefix with its last byte, a `/`, replaced by the next.
    pub(crate) fn end(&self) -> Vec<u8> {
        let mut end = self.0.clone().into_bytes();
        end.pop();
        end.push(b'/' + 1);
        end
    }

    /// The key `segments` below this prefix.
    pub(crate) fn key(&self, segments: &str) -> Key {
        Key(format!("{}{segments}", self.0))
    }

    /// The interval of the keys below this prefix that begin with `start` and a dash: `a-1`, and not
    /// `ab`.
    pub(crate) fn family(&self, start: &str) -> (Vec<u8>, Vec<u8>) {
        let from = format!("{}{start}-", self.0).into_bytes();
        let mut end = from.clone();
        end.pop();
        end.push(b'-' + 1);
        (from, end)
    }

    /// From the key `path` to the last one below it; the few that sort between the two (`a-b` between
    /// `a` and `a/b`) are in it too.
    pub(crate) fn branch(&self, path: &str) -> (Vec<u8>, Vec<u8>) {
        let key = self.key(path).0;
        let below = Self(format!("{key}/"));
        (key.into_bytes(), below.end())
    }

    /// The one key that the prefix names: where a whole document stands.
    pub(crate) fn itself(&self) -> Key {
        Key(self.0.strip_suffix('/').unwrap_or(&self.0).to_owned())
    }

    /// The key of `revision` below this prefix: in the order of revisions.
    pub(crate) fn revision(&self, revision: i64) -> Key {
        self.key(&format!("{revision:020}"))
    }

    /// The revision that [`revision`](Self::revision) made `key` of.
    pub(crate) fn revision_of(&self, key: &[u8]) -> Option<i64> {
        let digits = self.strip(key).filter(|digits| digits.len() == 20)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The queue `name` below this prefix. The `!` ends the name.
    fn queue(&self, operation: &'static str, name: &str) -> Result<Self> {
        check(operation, name)?;
        if name.contains('!') {
            let fault = format!("`!` ends a lock's name and may not stand in `{name}`");
            return Err(Error::invalid(operation, fault));
        }
        Ok(Self(format!("{self}{name}!/")))
    }

    /// The part of `key` after this prefix, if it is below it.
    pub(crate) fn strip<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        key.strip_prefix(self.0.as_bytes())
    }
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a coordinator's keys stand: the namespace and the prefixes of the parts.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    namespace: String,
    config: String,
    lock: String,
    registry: String,
}

impl Layout {
    /// `namespace` and the part prefixes as options give them, already validated: no leading slash,
    /// a trailing one unless empty.
    pub(crate) fn new(namespace: &str, config: &str, lock: &str, registry: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            config: config.to_owned(),
            lock: lock.to_owned(),
            registry: registry.to_owned(),
        }
    }

    /// A struct's or a value's place. A leading `/` makes it absolute: it then ignores the namespace
    /// and the config prefix, so that keys which other programs own can be bound too.
    pub(crate) fn config(&self, operation: &'static str, path: &str) -> Result<Prefix> {
        let path = path.strip_suffix('/').unwrap_or(path);
        Ok(Prefix(self.config_path(operation, path)? + "/"))
    }

    /// One config key, absolute or not as for [`config`](Self::config).
    pub(crate) fn config_key(&self, operation: &'static str, key: &str) -> Result<Key> {
        self.config_path(operation, key).map(Key)
    }

    /// All config keys below `path`; all of the coordinator's if it is empty.
    pub(crate) fn config_below(&self, operation: &'static str, path: &str) -> Result<Prefix> {
        if path.is_empty() {
            return Ok(Prefix(format!("/{}{}", self.namespace, self.config)));
        }
        self.config(operation, path)
    }

    /// Describes the current value of a config key.
    pub(crate) fn history_head(&self, key: &Key) -> Key {
        Key(self.history(key) + "/head")
    }

    /// What a config key was at older revisions.
    pub(crate) fn history_past(&self, key: &Key) -> Prefix {
        Prefix(self.history(key) + "/at/")
    }

    /// The whole config key is one segment here, so that no key's history is below another's; and
    /// nothing here is below a prefix that a struct is bound to, which would wake it once more.
    fn history(&self, key: &Key) -> String {
        let key = utf8_percent_encode(key.as_str(), ARGUMENT);
        format!("{}coord/history/{key}", self.namespace)
    }

    /// The interval of what is known of all config keys below `prefix`.
    pub(crate) fn histories(&self, prefix: &Prefix) -> (Vec<u8>, Vec<u8>) {
        let from = self.history(&Key(prefix.0.clone())).into_bytes();
        let mut end = from.clone();
        // The prefix's slash, encoded: `%2F`.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (from, end)
    }

    /// The config key of which `key` tells, and the revision if it is an older one of its steps.
    pub(crate) fn history_of(&self, key: &[u8]) -> Option<(Key, Option<i64>)> {
        let path = std::str::from_utf8(key).ok()?;
        let path = path.strip_prefix(self.namespace.as_str())?;
        let (of, rest) = path.strip_prefix("coord/history/")?.split_once('/')?;
        let of = Key(percent_decode_str(of).decode_utf8().ok()?.into_owned());
        let revision = match rest {
            "head" => None,
            _ => Some(self.history_past(&of).revision_of(key)?),
        };
        Some((of, revision))
    }

    fn config_path(&self, operation: &'static str, path: &str) -> Result<String> {
        check(operation, path)?;
        match path.strip_prefix('/') {
            Some("") => Err(Error::invalid(operation, "the key is empty")),
            Some(_) => Ok(path.to_owned()),
            None => Ok(format!("/{}{}{path}", self.namespace, self.config)),
        }
    }

    /// The queue of the lock `name`. The `!` ends the name, so that `jobs` and `jobs/1` are two
    /// queues, neither of them below the other.
    pub(crate) fn lock_queue(&self, name: &str) -> Result<Prefix> {
        self.locks().queue("acquire lock", name)
    }

    /// The queue of the candidates of the election `name`: as a lock's, elsewhere.
    pub(crate) fn election_queue(&self, name: &str) -> Result<Prefix> {
        self.elections().queue("campaign", name)
    }

    /// The intervals of the queues of the lock `path` and of all locks below it; of every lock if it is
    /// empty.
    pub(crate) fn lock_queues(
        &self,
        operation: &'static str,
        path: &str,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let interval = |prefix: Prefix| (prefix.as_bytes().to_vec(), prefix.end());
        let locks = self.locks();
        if path.is_empty() {
            return Ok(vec![interval(locks)]);
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let own = locks.queue(operation, path)?;
        let below = Prefix(format!("{locks}{path}/"));
        Ok(vec![interval(own), interval(below)])
    }

    /// The lock in whose queue `key` stands, and that queue. Not of a raw one.
    pub(crate) fn lock_of(&self, key: &[u8]) -> Option<(String, Prefix)> {
        let locks = self.locks();
        let path = locks.strip(key)?;
        let end = path.windows(2).position(|two| two == b"!/")?;
        let name = std::str::from_utf8(&path[..end]).ok()?.to_owned();
        let queue = Prefix(format!("{locks}{name}!/"));
        Some((name, queue))
    }

    fn elections(&self) -> Prefix {
        Prefix(format!("{}{}election/", self.namespace, self.lock))
    }

    fn locks(&self) -> Prefix {
        Prefix(format!("{}{}lock/", self.namespace, self.lock))
    }

    /// The queue of the lock that other clients call `name`: as it stands, with neither namespace nor
    /// end mark.
    pub(crate) fn raw_lock_queue(&self, name: &str) -> Result<Prefix> {
        text("acquire lock", name)?;
        let queue = Prefix(format!("{name}/"));
        if self.is_ours(&queue) {
            let fault = format!(
                "the raw name `{name}` is among the keys that coord keeps for itself: \
                 whatever stands below it would hold the lock"
            );
            return Err(Error::invalid("acquire lock", fault));
        }
        Ok(queue)
    }

    /// Whether a queue of another client's there would hold keys of ours that are not of one queue, or
    /// would be held among them.
    fn is_ours(&self, queue: &Prefix) -> bool {
        let Self {
            namespace,
            lock,
            registry,
            ..
        } = self;
        // One lock or election of ours is what other clients can call by its whole name.
        let of_one = |room: &Prefix| {
            let name = room.strip(queue.as_bytes());
            name.and_then(|name| {
                name.windows(2)
                    .position(|two| two == b"!/")
                    .map(|at| at + 2 == name.len())
            }) == Some(true)
        };
        if of_one(&self.locks()) || of_one(&self.elections()) {
            return false;
        }
        let rooms = [
            format!("{namespace}coord/"),
            format!("{namespace}{lock}lock/"),
            format!("{namespace}{lock}election/"),
            format!("{namespace}{lock}session/"),
            format!("{namespace}{registry}svc/"),
            format!("{namespace}{registry}inst/"),
            format!("{namespace}{registry}id/"),
        ];
        let queue = queue.as_str();
        let mut rooms = rooms.iter();
        rooms.any(|room| room.starts_with(queue) || queue.starts_with(room.as_str()))
    }

    /// The session key of the lock session with `lease`.
    pub(crate) fn lock_session(&self, lease: i64) -> Key {
        Key(format!(
            "{}{}session/{lease:016x}",
            self.namespace, self.lock
        ))
    }

    /// All routable instances of `service`.
    pub(crate) fn instances(&self, service: &str) -> Result<Prefix> {
        segment("use the registry", "service name", service)?;
        Ok(Prefix(format!(
            "{}{}svc/{service}/",
            self.namespace, self.registry
        )))
    }

    /// The routable instances of `service` in one zone; the empty one is that of those without.
    pub(crate) fn instances_in(&self, service: &str, zone: &str) -> Result<Prefix> {
        let zone = if zone.is_empty() { "-" } else { zone };
        segment("use the registry", "zone", zone)?;
        Ok(Prefix(format!("{}{zone}/", self.instances(service)?)))
    }

    /// The record of one routable instance; exists exactly while it is routable.
    pub(crate) fn instance(&self, service: &str, zone: &str, instance: &str) -> Result<Key> {
        Ok(self.instances_in(service, zone)?.key(instance))
    }

    /// The life-cycle records of all instances of `service`.
    pub(crate) fn life_cycles(&self, service: &str) -> Result<Prefix> {
        segment("use the registry", "service name", service)?;
        Ok(Prefix(format!(
            "{}{}inst/{service}/",
            self.namespace, self.registry
        )))
    }

    /// The slots of an id pool.
    pub(crate) fn id_slots(&self, pool: &str) -> Result<Prefix> {
        self.ids(pool, "slot")
    }

    /// The keys that tell a repeated claim which id it has.
    pub(crate) fn id_owners(&self, pool: &str) -> Result<Prefix> {
        self.ids(pool, "own")
    }

    /// Up to when each id of the pool may have been stamped on something.
    pub(crate) fn id_marks(&self, pool: &str) -> Result<Prefix> {
        self.ids(pool, "hw")
    }

    fn ids(&self, pool: &str, what: &str) -> Result<Prefix> {
        segment("claim an instance id", "pool name", pool)?;
        Ok(Prefix(format!(
            "{}{}id/{pool}/{what}/",
            self.namespace, self.registry
        )))
    }
}

/// A map's key as one segment: what [`decode_segment`] reads back.
pub(crate) fn encode_segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// One segment as the map key that it stands for; `None` if that is no text.
pub(crate) fn decode_segment(segment: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(segment).decode_utf8().ok()
}

fn check(operation: &'static str, key: &str) -> Result<()> {
    text(operation, key)?;
    if key
        .split('/')
        .skip(usize::from(key.starts_with('/')))
        .any(str::is_empty)
    {
        return Err(Error::invalid(
            operation,
            format!("`{key}` has an empty segment"),
        ));
    }
    Ok(())
}

/// What is asked of every key, also of one that others chose.
fn text(operation: &'static str, key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::invalid(operation, "the key is empty"));
    }
    if key.len() > MAX_KEY {
        let fault = format!(
            "the key has {} bytes; at most {MAX_KEY} are allowed",
            key.len()
        );
        return Err(Error::invalid(operation, fault));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::invalid(
            operation,
            format!("{key:?} has a control character"),
        ));
    }
    Ok(())
}

/// A name that is one segment of a key.
fn segment(operation: &'static str, what: &str, name: &str) -> Result<()> {
    if name.is_empty()
        || name.len() > 255
        || name.contains('/')
        || name.chars().any(char::is_control)
    {
        return Err(Error::invalid(
            operation,
            format!("the {what} {name:?} must be 1 to 255 bytes without `/` or control characters"),
        ));
    }
    Ok(())
}

/// A part of a key template, as the macros write it: fixed text, or an argument.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// Text of the template, as it stands.
    Lit(&'a str),
    /// An argument: formatted, then percent-encoded, so that it stays within its segment.
    Hole(std::fmt::Arguments<'a>),
}

/// Joins a template. An empty argument, an empty key and one that is too long are refused.
pub(crate) fn join(operation: &'static str, parts: &[Part<'_>]) -> Result<String> {
    let mut key = String::new();
    for part in parts {
        match part {
            Part::Lit(text) => key.push_str(text),
            Part::Hole(argument) => {
                let raw = argument.to_string();
                if raw.is_empty() {
                    let fault = match key.as_str() {
                        "" => "the key's first argument is empty".to_owned(),
                        _ => format!("the key's argument after `{key}` is empty"),
                    };
                    return Err(Error::invalid(operation, fault));
                }
                key.extend(utf8_percent_encode(&raw, ARGUMENT));
            }
        }
    }
    check(operation, &key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout() -> Layout {
        Layout::new("prod/", "config/", "coord/", "coord/")
    }

    #[test]
    fn keys_stand_where_the_table_says() {
        let keys = layout();
        assert_eq!(
            keys.config("test", "app").expect("valid").as_str(),
            "/prod/config/app/"
        );
        assert_eq!(
            keys.config("test", "/config/app/").expect("valid").as_str(),
            "/config/app/"
        );
        assert_eq!(
            keys.lock_queue("jobs/1").expect("valid").as_str(),
            "prod/coord/lock/jobs/1!/"
        );
        assert_eq!(
            keys.election_queue("jobs/1").expect("valid").as_str(),
            "prod/coord/election/jobs/1!/"
        );
        assert_eq!(
            keys.lock_session(255).as_str(),
            "prod/coord/session/00000000000000ff"
        );
        assert_eq!(
            keys.instance("s", "", "u").expect("valid").as_str(),
            "prod/coord/svc/s/-/u"
        );
        assert_eq!(
            keys.lock_queue("a").expect("valid").end(),
            b"prod/coord/lock/a!0"
        );
    }

    #[test]
    fn a_config_key_has_its_history_in_one_segment() {
        let keys = layout();
        let key = keys.config_key("test", "app/a b%").expect("valid");
        assert_eq!(
            keys.history_head(&key).as_str(),
            "prod/coord/history/%2Fprod%2Fconfig%2Fapp%2Fa b%25/head"
        );
        let past = keys.history_past(&key);
        let old = past.revision(42);
        assert!(old.as_str().ends_with("/at/00000000000000000042"), "{old}");
        assert_eq!(past.revision_of(old.as_bytes()), Some(42));
        assert_eq!(past.revision_of(past.key("42").as_bytes()), None);

        let head = keys.history_head(&key);
        let of = |of: &Key| keys.history_of(of.as_bytes());
        assert_eq!(of(&head), Some((key.clone(), None)));
        assert_eq!(of(&old), Some((key.clone(), Some(42))));
        assert_eq!((of(&key), of(&past.key("42"))), (None, None));
        let (from, end) = keys.histories(&keys.config("test", "app").expect("valid"));
        let other = keys.config_key("test", "app2/a").expect("valid");
        for (key, within) in [
            (head, true),
            (old, true),
            (keys.history_head(&other), false),
        ] {
            let key = key.as_bytes();
            assert_eq!(from.as_slice() <= key && key < end.as_slice(), within);
        }
    }

    #[test]
    fn no_queue_is_below_another() {
        let keys = layout();
        let outer = keys.lock_queue("jobs").expect("valid");
        let inner = keys.lock_queue("jobs/1").expect("valid");
        assert!(outer.strip(inner.as_bytes()).is_none());
    }

    #[test]
    fn a_lock_and_those_below_it_are_found_without_its_neighbours() {
        let keys = layout();
        let entry = |name| keys.lock_queue(name).expect("valid").key("x1.1");
        let within = |path, name| {
            let intervals = keys.lock_queues("test", path).expect("valid");
            let key = entry(name);
            let is_in = |(from, end): &(Vec<u8>, Vec<u8>)| {
                from.as_slice() <= key.as_bytes() && key.as_bytes() < end.as_slice()
            };
            intervals.iter().any(is_in)
        };
        for path in ["jobs", "jobs/"] {
            assert!(within(path, "jobs"));
            assert!(within(path, "jobs/1/a"));
            assert!(!within(path, "jobs2"));
            assert!(!within(path, "job"));
            assert!(!within(path, "jobs-a"));
        }
        assert!(within("", "a"));
        assert!(keys.lock_queues("test", "a!").is_err());

        let (name, queue) = keys.lock_of(entry("jobs/1").as_bytes()).expect("an entry");
        assert_eq!(name, "jobs/1");
        assert_eq!(queue, keys.lock_queue("jobs/1").expect("valid"));
        assert!(keys.lock_of(b"prod/coord/lock/junk").is_none());
        assert!(keys.lock_of(keys.lock_session(1).as_bytes()).is_none());
    }

    #[test]
    fn bad_keys_are_refused() {
        let keys = layout();
        for bad in ["", "a//b", "a\n", "/", "//a", &"x".repeat(MAX_KEY + 1)] {
            assert!(
                matches!(keys.config("test", bad), Err(Error::Invalid { .. })),
                "config {bad:?}"
            );
            assert!(
                matches!(keys.lock_queue(bad), Err(Error::Invalid { .. })),
                "lock {bad:?}"
            );
        }
        assert!(matches!(keys.lock_queue("a!"), Err(Error::Invalid { .. })));
        for ours in [
            "prod",
            "prod/coord",
            "prod/coord/lock",
            "prod/coord/lock/jobs",
            "prod/coord/lock/jobs!/1",
            "prod/coord/session",
            "prod/coord/history/x",
        ] {
            assert!(keys.raw_lock_queue(ours).is_err(), "raw {ours}");
        }
        for others in [
            "coord",
            "pro",
            "prod/jobs",
            "prod/coordinated",
            "prod/coord/lock/jobs/1!",
            "prod/coord/election/jobs!",
        ] {
            assert!(keys.raw_lock_queue(others).is_ok(), "raw {others}");
        }
        assert!(matches!(keys.instances("a/b"), Err(Error::Invalid { .. })));
        assert!(join("t", &[Part::Lit("a/"), Part::Hole(format_args!(""))]).is_err());
    }

    proptest! {
        /// Two different arguments never make one key, and an argument never makes a segment.
        #[test]
        fn arguments_stay_apart(a in "\\PC{1,20}", b in "\\PC{1,20}") {
            let of = |x: &str| join("t", &[Part::Lit("orders/"), Part::Hole(format_args!("{x}"))]);
            let (ka, kb) = (of(&a).expect("valid"), of(&b).expect("valid"));
            prop_assert_eq!(a == b, ka == kb);
            prop_assert_eq!(ka.matches('/').count(), 1);
            prop_assert!(!ka.contains('!'));
            prop_assert_eq!(percent_decode_str(&ka["orders/".len()..]).decode_utf8().ok(), Some(a.into()));
        }
    }
}
