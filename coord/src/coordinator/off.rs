//! Without etcd: [`Mode::Off`](crate::Mode::Off).
//!
//! The embedded server takes etcd's place, behind connections that stay in the process; what else
//! etcd would say is written into it. So everything above runs the code that it runs in production,
//! and only this module knows that there is no etcd.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Weak},
};

use tokio::sync::Mutex;

use crate::{
    client::Dialer,
    coordinator::Coordinator,
    embedded::{Inlet, Server},
    error::Result,
    options::{Mode, Options, TlsOptions},
    registry::InstanceSpec,
};

/// One for all coordinators of the process: what they do, they do among each other.
static STORE: Mutex<Weak<Store>> = Mutex::const_new(Weak::new());

/// What stands in etcd's place, while anybody has it.
#[derive(Debug)]
struct Store {
    inlet: Inlet,
    _server: Server,
}

impl Store {
    /// The process's store; a fresh one, if no coordinator has it.
    async fn open() -> Result<Arc<Self>> {
        let mut shared = STORE.lock().await;
        if let Some(store) = shared.upgrade() {
            return Ok(store);
        }
        let (server, inlet) = Server::start_inside().await?;
        tracing::warn!(
            target: "coord::coordinator",
            "the mode is `off`: there is no etcd. Locks, ids, configs and registrations are this \
             process's alone: NOTHING IS COORDINATED WITH ANY OTHER PROCESS, and nothing is kept",
        );
        let store = Arc::new(Self {
            inlet,
            _server: server,
        });
        *shared = Arc::downgrade(&store);
        Ok(store)
    }
}

/// # Cancel safety
/// Safe: what was opened is closed.
pub(super) async fn connect(mut options: Options) -> Result<Coordinator> {
    options.validate()?;
    // A service asks for the route to these, to know what address to tell others: that of this machine.
    options.endpoints = vec!["http://localhost:0".into()];
    // There is nobody to prove anything to.
    (options.user, options.password) = (None, None);
    options.tls = TlsOptions::default();
    let store = Store::open().await?;
    // It lives for as long as anybody can connect to it.
    let dialer = Dialer::new(move || store.inlet.connect());
    let coordinator = Coordinator::open(options, Some(dialer)).await?;
    let registry = coordinator.registry();
    for (service, addresses) in &coordinator.options().off.endpoints {
        for address in addresses {
            registry
                .put_fixed(InstanceSpec::new(service, address))
                .await?;
        }
    }
    Ok(coordinator)
}

/// The id that is taken first.
pub(super) fn first_id(options: &Options, range: &RangeInclusive<u32>) -> Option<u32> {
    let number = options.off.instance_id.unwrap_or(*range.start());
    (options.mode == Mode::Off).then_some(number)
}
