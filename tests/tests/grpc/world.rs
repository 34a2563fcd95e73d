//! A channel, and what is needed for one.

use std::time::Duration;

use coord::{
    Coordinator, InstanceSpec, Registration,
    embedded::Server,
    grpc::{Channel, ChannelBuilder, Strategy},
};
use coord_tests::{
    backend::patient,
    echo::{EchoClient, EchoRequest},
};
use tonic::Status;

pub(crate) const SERVICE: &str = "user-service";

/// A server on a runtime of its own: it can die while the one that calls it does nothing.
#[cfg(target_os = "linux")]
pub(crate) struct Elsewhere {
    pub(crate) server: coord_tests::echo::EchoServer,
    _runtime: tokio::runtime::Runtime,
}

#[cfg(target_os = "linux")]
impl Elsewhere {
    pub(crate) async fn start(name: &'static str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime
            .spawn(coord_tests::echo::EchoServer::start(name))
            .await
            .unwrap();
        Self {
            server,
            _runtime: runtime,
        }
    }

    /// Its sockets are closed when this returns; the caller's thread has stood still until then.
    pub(crate) fn die(self) {
        std::thread::spawn(|| drop(self)).join().unwrap();
    }
}

/// A channel to some servers: round robin, so that a test knows where its calls go, and patient.
pub(crate) struct World {
    pub(crate) client: EchoClient<Channel>,
    pub(crate) coordinator: Coordinator,
    pub(crate) registrations: Vec<Registration>,
    service: &'static str,
    _etcd: Server,
}

impl World {
    pub(crate) async fn of(addresses: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::with(addresses, |channel| channel).await
    }

    /// With a channel that is made otherwise.
    pub(crate) async fn with(
        addresses: impl IntoIterator<Item = impl AsRef<str>>,
        otherwise: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    ) -> Self {
        Self::named(SERVICE, addresses, otherwise).await
    }

    /// Of a service with another name.
    pub(crate) async fn named(
        service: &'static str,
        addresses: impl IntoIterator<Item = impl AsRef<str>>,
        otherwise: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
    ) -> Self {
        let etcd = Server::start().await.unwrap();
        let options = patient().endpoints([etcd.endpoint()]);
        let coordinator = Coordinator::connect(options).await.unwrap();
        let channel = coordinator.channel(service).strategy(Strategy::RoundRobin);
        let channel = otherwise(channel.wait(Duration::from_secs(120)));
        let mut world = Self {
            client: EchoClient::new(channel.await.unwrap()),
            coordinator,
            registrations: Vec::new(),
            service,
            _etcd: etcd,
        };
        for address in addresses {
            world.register(address).await;
        }
        world
    }

    pub(crate) async fn register(&mut self, address: impl AsRef<str>) {
        let spec = InstanceSpec::new(self.service, address.as_ref());
        let registered = self.coordinator.registry().register(spec).await;
        self.registrations.push(registered.unwrap());
    }

    /// A unary call; the name of the server that answers.
    pub(crate) async fn call(&mut self) -> Result<String, Status> {
        let answer = self.client.echo(EchoRequest::default()).await?;
        Ok(answer.into_inner().server)
    }
}
