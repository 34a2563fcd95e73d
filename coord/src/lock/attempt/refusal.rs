//! Why an acquire is refused, and by whom: for error messages alone, so no read here is repeated.

use std::time::Duration;

use super::{
    super::{
        entry,
        modes::{Kind, Mode, Permits},
        queue::Listed,
    },
    Acquire, Purpose, oldest,
};
use crate::{
    client::{KeyValue, Range, Span, Txn},
    error::{Error, Holder, Result},
};

impl Acquire<'_> {
    /// Who has been in the queues for longest, of those that it may conflict with: for an error
    /// message. `None` if etcd has not said it within `limit`.
    pub(in super::super) async fn holder(&self, limit: Duration) -> Result<Option<Holder>> {
        let engine = &self.shared.engine;
        let limit = limit.min(engine.options.request_timeout);
        let fronts = Txn {
            then: self.queues.iter().flat_map(|q| self.fronts(q)).collect(),
            ..Txn::default()
        };
        let look = async {
            // Its own entry may be there still, if the answer to its put has not come.
            engine.keeper.undo().cleared(self.queues).await;
            engine.calls.txn(fronts).await
        };
        match engine.clock.timeout(limit, look).await {
            Ok(Ok(reply)) => {
                let first = oldest(Listed::of(reply.replies).kvs);
                Ok(first.as_ref().map(|kv| self.who(kv)))
            }
            Ok(Err(error)) => Err(error.into_error(self.context())),
            Err(_) => Ok(None),
        }
    }

    fn who(&self, kv: &KeyValue) -> Holder {
        match self.purpose {
            Purpose::Lock => entry::holder(kv),
            Purpose::Election => entry::unnamed(kv),
        }
    }

    pub(super) fn busy(&self, holder: Option<&KeyValue>) -> Error {
        Error::Busy {
            context: self.context(),
            holder: holder.map(|kv| Box::new(self.who(kv))),
        }
    }

    /// A try for permits with these ahead.
    pub(super) async fn refused(&self, ahead: &[Listed]) -> Error {
        let ahead: Vec<_> = ahead.iter().flat_map(|listed| &listed.kvs).collect();
        let other = ahead
            .iter()
            .find(|kv| self.mode.contradicts(self.kind(&kv.key)));
        if let Some(kv) = other {
            return self.contradicted(&kv.key).await;
        }
        let oldest = ahead.iter().min_by_key(|kv| kv.create_revision);
        match oldest {
            Some(kv) => self.busy(Some(&self.with_value(kv).await)),
            None => self.busy(None),
        }
    }

    /// The entry with what it says, if it is still there: lists are made without.
    async fn with_value(&self, entry: &KeyValue) -> KeyValue {
        let engine = &self.shared.engine;
        let limit = engine.options.request_timeout.min(Duration::from_secs(1));
        let range = Range::new(Span::Key(entry.key.clone()));
        let read = engine.clock.timeout(limit, engine.calls.range(range));
        let found = read.await.ok().and_then(Result::ok);
        found
            .and_then(|reply| reply.kvs.into_iter().next())
            .unwrap_or_else(|| entry.clone())
    }

    fn kind(&self, key: &[u8]) -> Kind {
        let queue = self.queues.iter().find(|queue| queue.strip(key).is_some());
        queue.map_or(Kind::Exclusive, |queue| Kind::of(queue, key))
    }

    /// The entry `key` ahead is of a semaphore of another size.
    pub(super) async fn contradicted(&self, key: &[u8]) -> Error {
        let (Mode::Permits(Permits { of: here, .. }), Kind::Permits(Permits { of: there, .. })) =
            (self.mode, self.kind(key))
        else {
            return self.busy(None);
        };
        let entry = KeyValue {
            key: key.to_vec(),
            ..KeyValue::default()
        };
        let holder = self.who(&self.with_value(&entry).await);
        Error::Invalid {
            context: self.context(),
            faults: vec![format!(
                "it has {here} permits here and {there} permits for {holder}, entry `{}`: \
                 all who use a semaphore must say the same number",
                holder.entry
            )],
        }
    }

    pub(super) fn stuck(&self, key: &[u8]) -> Error {
        let key = String::from_utf8_lossy(key);
        Error::Invalid {
            context: self.context(),
            faults: vec![format!(
                "the queue entry `{key}` ahead has no lease, so nothing will ever remove it: \
                 no lock client leaves such a key; delete it by hand"
            )],
        }
    }
}
