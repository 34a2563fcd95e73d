//! Listing: all keys below a prefix, as they were at one revision.

use serde::de::DeserializeOwned;

use super::{
    center::ConfigCenter,
    history::{MAX_OPS, Place, Seen},
    value::ConfigValue,
};
use crate::{
    client::{CallError, KeyValue, Op, OpReply, Range, Reason, Span},
    error::{Context, Error, Result},
    key::{Key, Prefix},
    retry::Backoff,
};

const LIST: &str = "list config";

/// How many keys one page has.
const PAGE: i64 = 1_000;

/// One listing.
struct Listing<'c> {
    center: &'c ConfigCenter,
    operation: &'static str,
    prefix: Prefix,
    depth: Depth,
}

/// How much of each key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Key,
    Value,
    /// With what is known of its write, which stands elsewhere.
    Story,
}

/// All keys below `prefix`, and the revision at which they were so.
///
/// # Cancel safety
/// Safe.
pub(super) async fn stored(
    center: &ConfigCenter,
    operation: &'static str,
    prefix: Prefix,
) -> Result<(i64, Vec<KeyValue>)> {
    let listing = Listing {
        center,
        operation,
        prefix,
        depth: Depth::Value,
    };
    let (revision, all) = listing.run().await?;
    Ok((
        revision,
        all.into_iter().filter_map(|it| it.value).collect(),
    ))
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
        let listing = Listing::new(self, prefix, depth)?;
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
        let (_, all) = Listing::new(self, prefix, Depth::Key)?.run().await?;
        let keys = all.into_iter().filter_map(|seen| seen.value);
        Ok(keys
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect())
    }
}

impl<'c> Listing<'c> {
    fn new(center: &'c ConfigCenter, prefix: &str, depth: Depth) -> Result<Self> {
        let prefix = center.engine().layout.config_below(LIST, prefix)?;
        Ok(Self {
            center,
            operation: LIST,
            prefix,
            depth,
        })
    }

    fn context(&self) -> Context {
        Context::new(self.operation).key(self.prefix.as_str())
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
        let (mut revision, mut from) = (0, self.prefix.as_bytes().to_vec());
        let mut all = Vec::new();
        loop {
            let page = Range {
                revision,
                limit: PAGE,
                keys_only: self.depth == Depth::Key,
                ..Range::new(Span::Interval(from.clone(), self.prefix.end()))
            };
            let page = self.center.engine().read(page).await?;
            if revision == 0 {
                revision = page.header.revision;
            }
            if let Some(last) = page.kvs.last() {
                from = [last.key.as_slice(), &[0]].concat();
            }
            if self.depth == Depth::Story {
                for values in page.kvs.chunks(MAX_OPS) {
                    all.extend(self.described(values, revision).await?);
                }
            } else {
                all.extend(page.kvs.into_iter().map(|kv| Seen::listed(kv, None)));
            }
            if !page.more {
                return Ok((revision, all));
            }
        }
    }

    /// `values` with what is known of their writes.
    async fn described(&self, values: &[KeyValue], revision: i64) -> Result<Vec<Seen>, CallError> {
        let engine = self.center.engine();
        let reads = values.iter().map(|kv| {
            // What is no UTF-8 has never been written here: this finds nothing.
            let key = Key::found(&kv.key);
            Op::Get(Place::head_of(&engine.layout, key, revision))
        });
        let reply = engine.read_all(reads.collect()).await?;
        let heads = reply.replies.into_iter().map(|reply| match reply {
            OpReply::Get(mut range) => range.kvs.pop(),
            _ => None,
        });
        let pairs = values.iter().zip(heads);
        Ok(pairs
            .map(|(kv, head)| Seen::listed(kv.clone(), head))
            .collect())
    }
}
