//! `service-grpc NAME [CERTIFICATE KEY]`: an annotated main that serves the tests' gRPC service as
//! `NAME`, with TLS if it has a certificate. Told `ready`, `unhealthy` or `healthy` it is; it says
//! `ended` once it has served.

use coord::{Context, InstanceHealth, InstanceUpdate};
use coord_tests::{echo::EchoHandler, worker::wire};
use tonic::{
    service::Routes,
    transport::{Identity, Server, ServerTlsConfig},
};

#[coord::service(
    name = "echo",
    listen(http = "127.0.0.1:0", grpc = "127.0.0.1:0"),
    ttl = "60s",
    drain = "1s",
    shutdown_timeout = "60s",
    runtime(worker_threads = 2),
    before = super::service_words::log
)]
pub(crate) async fn main(ctx: Context) -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(2);
    let handler = EchoHandler::new(&arguments.next().unwrap_or_default());
    let mut server = Server::builder();
    if let (Some(certificate), Some(key)) = (arguments.next(), arguments.next()) {
        let identity = Identity::from_pem(std::fs::read(certificate)?, std::fs::read(key)?);
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    tokio::spawn(obey(ctx.clone()));
    ctx.serve_tonic(server, Routes::new(handler.service()))
        .await?;
    wire::say("ended");
    Ok(())
}

async fn obey(ctx: Context) -> anyhow::Result<()> {
    let mut told = wire::Lines::open();
    while let Some(line) = told.next().await {
        let health = match line.as_str() {
            "ready" => {
                ctx.ready();
                continue;
            }
            "healthy" => InstanceHealth::Healthy,
            _ => InstanceHealth::Unhealthy,
        };
        let update = InstanceUpdate::new().health(health);
        ctx.registration()?.update(update).await?;
    }
    Ok(())
}
