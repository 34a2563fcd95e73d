//! Listing: all keys below a prefix, as they were at one revision.

use serde::de::DeserializeOwned;

use super::{
    center::ConfigCenter,
    history::{MAX_OPS, Place, Seen},
    value::ConfigValue,
};
use crate::{
    client::{CallError, KeyValue, Op, OpReply, Range, Reason, Span},
    engine::Engine,
    error::{Context, Error, Result},
    key::{Key, Prefix},
    retry::Backoff,
};

const LIST: &str = "list config";

/// How many keys one page has, unless their values make that too much for one reply.
const PAGE: usize = 1_000;

/// One listing.
pub(super) struct Listing<'c> {
    center: &'c ConfigCenter,
    operation: &'static str,
    /// For errors.
    subject: String,
    span: (Vec<u8>, Vec<u8>),
    depth: Depth,
}

/// How much of each key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    Key,
    Value,
    /// With what is known of its write, which stands elsewhere.
    Story,
}

impl ConfigCenter {
    /// All values below `prefix` at one revision, in the order of their keys. A prefix ends at a
    /// slash: `shop` does not mean `shop2/limit`. The empty one means all of the coordinator's config.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) for a bad prefix, and with every value that is no `T`; else as for
    /// [`get`](Self::get).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<ConfigValue<T>>> {
        let depth = if self.versioned() {
            Depth::Story
        } else {
            Depth::Value
        };
        let prefix = self.engine().layout.config_below(LIST, prefix)?;
        let listing = Listing::below(self, LIST, &prefix, depth);
        let (_, all) = listing.run().await?;
        let mut values = Vec::with_capacity(all.len());
        let mut wrong = Vec::new();
        for seen in &all {
            match ConfigValue::read(LIST, seen) {
                Ok(value) => values.extend(value),
                Err(Error::Invalid { context, faults }) => {
                    let key = context.subject().unwrap_or_default();
                    wrong.extend(faults.iter().map(|fault| format!("`{key}`: {fault}")));
                }
                Err(other) => return Err(other),
            }
        }
        if wrong.is_empty() {
            return Ok(values);
        }
        Err(Error::Invalid {
            context: listing.context(),
            faults: wrong,
        })
    }

    /// The keys below `prefix`, whole and in order. A prefix as for [`list`](Self::list).
    ///
    /// # Errors
    /// As for [`list`](Self::list).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn list_keys(&self, prefix: &str) -> Result<Vec<String>> {
        let prefix = self.engine().layout.config_below(LIST, prefix)?;
        let listing = Listing::below(self, LIST, &prefix, Depth::Key);
        let (_, all) = listing.stored().await?;
        let keys = all.into_iter();
        Ok(keys
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect())
    }
}

impl<'c> Listing<'c> {
    pub(super) fn below(
        center: &'c ConfigCenter,
        operation: &'static str,
        prefix: &Prefix,
        depth: Depth,
    ) -> Self {
        Self {
            center,
            operation,
            subject: prefix.as_str().to_owned(),
            span: (prefix.as_bytes().to_vec(), prefix.end()),
            depth,
        }
    }

    /// What is known of the keys below `prefix`, instead of the keys themselves.
    pub(super) fn histories(self, prefix: &Prefix) -> Self {
        let span = self.center.engine().layout.histories(prefix);
        Self { span, ..self }
    }

    fn context(&self) -> Context {
        Context::new(self.operation).key(self.subject.as_str())
    }

    /// All keys, and the revision at which they were so.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn stored(&self) -> Result<(i64, Vec<KeyValue>)> {
        let (revision, all) = self.run().await?;
        let all = all.into_iter().filter_map(|it| it.value);
        Ok((revision, all.collect()))
    }

    /// Begins again if the revision of the first page is compacted away before the last.
    async fn run(&self) -> Result<(i64, Vec<Seen>)> {
        let engine = self.center.engine();
        engine.check_open(self.operation)?;
        let mut backoff = Backoff::for_call(&engine.options.retry);
        loop {
            let error = match self.once().await {
                Ok(all) => return Ok(all),
                Err(error) => error,
            };
            let moved = matches!(error.reason, Reason::Compacted | Reason::FutureRevision);
            match backoff.next_try() {
                Some(delay) if moved => engine.clock.sleep(delay).await,
                _ => return Err(error.into_error(self.context())),
            }
        }
    }

    async fn once(&self) -> Result<(i64, Vec<Seen>), CallError> {
        let (mut from, end) = self.span.clone();
        let (mut revision, mut limit) = (0, PAGE);
        let mut all = Vec::new();
        loop {
            let page = Range {
                revision,
                limit: limit as i64,
                keys_only: self.depth == Depth::Key,
                ..Range::new(Span::Interval(from.clone(), end.clone()))
            };
            let page = match self.center.engine().read(page).await {
                Err(error) if smaller(&error, &mut limit) => continue,
                page => page?,
            };
            if revision == 0 {
                revision = page.header.revision;
            }
            if let Some(last) = page.kvs.last() {
                from = [last.key.as_slice(), &[0]].concat();
            }
            if self.depth == Depth::Story {
                all.extend(self.described(page.kvs, revision).await?);
            } else {
                all.extend(page.kvs.into_iter().map(|kv| Seen::listed(kv, None)));
            }
            if !page.more {
                return Ok((revision, all));
            }
        }
    }

    /// `values` with what is known of their writes.
    async fn described(
        &self,
        values: Vec<KeyValue>,
        revision: i64,
    ) -> Result<Vec<Seen>, CallError> {
        let engine = self.center.engine();
        let reads = values.iter().map(|kv| {
            // What is no UTF-8 has never been written here: this finds nothing.
            let key = Key::found(&kv.key);
            Place::head_of(&engine.layout, key, revision)
        });
        let heads = each(engine, &reads.collect::<Vec<_>>()).await?;
        let pairs = values.into_iter().zip(heads);
        Ok(pairs
            .map(|(kv, mut head)| Seen::listed(kv, head.pop()))
            .collect())
    }
}

/// The keys of each of `ranges`, in as few requests as they fit into.
pub(super) async fn each(
    engine: &Engine,
    ranges: &[Range],
) -> Result<Vec<Vec<KeyValue>>, CallError> {
    let (mut found, mut limit) = (Vec::with_capacity(ranges.len()), MAX_OPS);
    while found.len() < ranges.len() {
        let some = ranges[found.len()..].iter().take(limit);
        let reads = some.map(|range| Op::Get(range.clone())).collect();
        let reply = match engine.read_all(reads).await {
            Err(error) if smaller(&error, &mut limit) => continue,
            reply => reply?,
        };
        found.extend(reply.replies.into_iter().map(|reply| match reply {
            OpReply::Get(range) => range.kvs,
            _ => Vec::new(),
        }));
    }
    Ok(found)
}

/// A reply was too large: the next is to have less in it, down to one.
pub(super) fn smaller(error: &CallError, limit: &mut usize) -> bool {
    let can = error.reason == Reason::TooLarge && *limit > 1;
    if can {
        *limit = (*limit / 4).max(1);
    }
    can
}
