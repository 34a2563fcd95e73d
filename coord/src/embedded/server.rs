//! [`Server`]: the handle.

use std::{fmt, io, sync::Arc, time::Duration};

use etcd_client::proto::PbCompactionRequest;
use tokio::{
    io::DuplexStream,
    net::TcpListener,
    sync::mpsc::{self, UnboundedSender},
};

use super::{
    core::Refusal,
    faults::Rpc,
    serve::{Serving, Source},
    state::State,
};
use crate::error::{Context, Error, Result};

/// An etcd in memory, as long as this handle lives.
///
/// It has a thread of its own, so it serves any number of runtimes, and goes on while they are busy
/// or gone. Dropping the handle ends it: the connections are closed, the port is free a moment
/// later, and what was stored is gone. [`shutdown`](Self::shutdown) waits for that.
///
/// The methods that change something take effect before they return, unless they say otherwise, and
/// can be called from anywhere. What they are for is in the [module's documentation](super).
pub struct Server {
    state: Arc<State>,
    serving: Serving,
}

impl Server {
    /// Starts a server on a free port of this machine's loopback interface.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) if the machine has no port or no thread to give.
    ///
    /// # Cancel safety
    /// Safe: what was started ends.
    pub async fn start() -> Result<Self> {
        Self::bind("127.0.0.1:0").await
    }

    /// Starts a server that listens at `host:port`. Whoever can reach that address can use it: there
    /// is no authentication and no TLS.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) if the address is in use, or is not this machine's;
    /// [`Invalid`](Error::Invalid) if it is no address.
    ///
    /// # Cancel safety
    /// Safe: what was started ends.
    pub async fn bind(address: &str) -> Result<Self> {
        let listen = {
            let address = address.to_owned();
            async move { TcpListener::bind(address).await.map(Source::Tcp) }
        };
        let context = Context::new("listen on").key(address);
        Self::launch(context, listen).await
    }

    /// Starts a server on a socket that listens already.
    ///
    /// # Errors
    /// [`Unavailable`](Error::Unavailable) if the socket cannot be used, or the machine has no thread
    /// to give.
    ///
    /// # Cancel safety
    /// Safe: what was started ends, and the socket is closed.
    pub async fn start_on(listener: std::net::TcpListener) -> Result<Self> {
        Self::launch(Context::new("listen on the given socket"), async move {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener).map(Source::Tcp)
        })
        .await
    }

    /// Starts a server that listens nowhere: this process alone reaches it, through the [`Inlet`].
    ///
    /// # Cancel safety
    /// Safe: what was started ends.
    pub(crate) async fn start_inside() -> Result<(Self, Inlet)> {
        let (inlet, given) = mpsc::unbounded_channel();
        let context = Context::new("start the embedded server");
        let server = Self::launch(context, async { Ok(Source::Inside(given)) }).await?;
        Ok((server, Inlet(inlet)))
    }

    async fn launch(
        context: Context,
        listen: impl Future<Output = io::Result<Source>> + Send + 'static,
    ) -> Result<Self> {
        match Serving::start(listen).await {
            Ok((serving, state)) => Ok(Self { state, serving }),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(Error::Invalid {
                faults: vec![error.to_string()],
                context,
            }),
            Err(error) => Err(Error::Unavailable {
                maybe_applied: false,
                detail: match error.kind() {
                    io::ErrorKind::AddrInUse => "the address is in use".into(),
                    _ => error.to_string(),
                },
                context,
            }),
        }
    }

    /// What clients connect to: `http://127.0.0.1:41234`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.state.endpoint
    }

    /// Ends the server, as dropping it does, and waits until its port is free.
    ///
    /// # Cancel safety
    /// Safe: it ends all the same.
    pub async fn shutdown(self) {
        self.serving.stop().await;
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.state.call(|core| core.revision())
    }

    /// About how many bytes of memory the history may take, for reads and watches of the past; what
    /// is older is compacted away, some at a time. Default: 32 MiB.
    pub fn set_retention(&self, bytes: u64) {
        self.state.call(|core| core.set_retention(bytes));
    }

    /// Forgets what was before a revision, as `etcdctl compact` does.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) with etcd's own words: it was compacted already, or is in the
    /// future.
    pub fn compact(&self, revision: i64) -> Result<()> {
        let request = PbCompactionRequest {
            revision,
            physical: false,
        };
        let compacted = self.state.call(|core| core.compact(request));
        compacted
            .map(drop)
            .map_err(|refusal| invalid("compact the history", &refusal))
    }

    /// Goes back to an older revision, as an etcd does that is restored from a backup: what came
    /// later never was, and every connection is closed. The leases of that time are there again, each
    /// with its full time to live.
    ///
    /// # Errors
    /// [`Invalid`](Error::Invalid) with etcd's own words: it was compacted, or is in the future.
    pub fn restore(&self, revision: i64) -> Result<()> {
        let restored = self.state.lease_call(|core, now| {
            core.restore(now, revision)?;
            // Before anybody calls again: what is still on its way was meant for the other store.
            self.state.door.hang_up();
            Ok(())
        });
        restored.map_err(|refusal| invalid("restore a revision", &refusal))
    }

    /// Moves the server's clock on. Leases that are then due are over.
    pub fn advance(&self, by: Duration) {
        self.state.change_time(|time| time.advance(by));
    }

    /// Stops the server's clock: no lease runs out, until [`thaw`](Self::thaw) or
    /// [`advance`](Self::advance). Everything else goes on.
    pub fn freeze(&self) {
        self.state.change_time(super::time::Time::freeze);
    }

    /// Lets a frozen clock go on from where it stopped.
    pub fn thaw(&self) {
        self.state.change_time(super::time::Time::thaw);
    }

    /// Ends a lease, as if nobody had renewed it. False if there is none with this id.
    pub fn expire_lease(&self, id: i64) -> bool {
        self.state.call(|core| core.end_lease(id))
    }

    /// The next event of this key is shown to no watch.
    pub fn swallow_event(&self, key: impl AsRef<[u8]>) {
        self.state.call(|core| core.swallow(key.as_ref()));
    }

    /// Closes every connection. Clients may connect again at once.
    pub fn drop_connections(&self) {
        self.state.door.hang_up();
    }

    /// Closes every connection and every new one, until
    /// [`accept_connections`](Self::accept_connections).
    pub fn refuse_connections(&self) {
        self.state.door.close();
    }

    /// Ends [`refuse_connections`](Self::refuse_connections).
    pub fn accept_connections(&self) {
        self.state.door.open();
    }

    /// Stops the server where it is, as SIGSTOP does with a process: connections stay open and new ones
    /// are not refused, and nothing is read, answered or carried out, until
    /// [`resume`](Self::resume).
    pub fn stall(&self) {
        self.serving.stall();
    }

    /// Ends [`stall`](Self::stall): what has come meanwhile is answered, and the leases that have run
    /// out are over.
    pub fn resume(&self) {
        self.serving.resume();
    }

    /// The next such call is carried out, and its connection is closed instead of an answer. Twice:
    /// the next two.
    pub fn lose_reply(&self, rpc: Rpc) {
        self.state.faults.lose_reply(rpc);
    }

    /// Refuses such calls, with what an etcd without a leader says, until [`accept`](Self::accept).
    /// They are not carried out. A stream on which such a message comes ends.
    pub fn refuse(&self, rpc: Rpc) {
        self.state.faults.refuse(rpc);
    }

    /// Ends [`refuse`](Self::refuse).
    pub fn accept(&self, rpc: Rpc) {
        self.state.faults.accept(rpc);
    }
}

/// Connections to a server that listens nowhere. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Inlet(UnboundedSender<DuplexStream>);

/// As much as a connection holds that is written and not yet read: as a socket does.
const PIPE_BYTES: usize = 256 * 1024;

impl Inlet {
    /// A connection. An error: the server has ended.
    pub(crate) fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, its) = tokio::io::duplex(PIPE_BYTES);
        let sent = self.0.send(its);
        sent.map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}

fn invalid(operation: &'static str, refusal: &Refusal) -> Error {
    Error::Invalid {
        context: Context::new(operation),
        faults: vec![refusal.message.into()],
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (revision, (streams, watches)) = self
            .state
            .call(|core| (core.revision(), core.watch_count()));
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint())
            .field("revision", &revision)
            .field("watch_streams", &streams)
            .field("watches", &watches)
            .finish_non_exhaustive()
    }
}
