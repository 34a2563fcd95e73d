//! [`Engine`]: what every part stands on: the connections, the two engines, the clock, the keys.

use std::sync::Arc;

use crate::{
    client::Client, clock::Clock, key::Layout, options::Options, session::Keeper, tasks::Tasks,
};

/// Shared by all parts and modules of one coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    /// For calls. A call's future is polled where its caller awaits it.
    pub(crate) calls: Client,
    /// For watches alone: unread watch streams block the calls that share their connection.
    pub(crate) watches: Client,
    pub(crate) keeper: Keeper,
    pub(crate) clock: Clock,
    /// Where background work of the parts lives; cancelled when the coordinator closes.
    pub(crate) tasks: Tasks,
    pub(crate) layout: Arc<Layout>,
    pub(crate) options: Arc<Options>,
    /// The module's or service's name, for records and spans; `None` for the root.
    pub(crate) module: Option<Arc<str>>,
}
