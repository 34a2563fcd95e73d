#![deny(warnings, clippy::pedantic)]
#![no_implicit_prelude]
//! Every shape that an annotated main may have. None is run.

use ::coord::{Config, Context, Coordinator, FromContext, InstanceId, Listeners, Shutdown};
use ::std::{
    boxed::Box, convert::{From, Infallible}, error::Error, option::Option, process::ExitCode, rc::Rc,
    result::Result, result::Result::Ok, string::String, time::Duration,
};

#[derive(::coord::CoordConfig)]
#[coord(prefix = "{service}")]
struct App {
    #[coord(default = 1)]
    port: u16,
}

struct Mine(String);

impl<S> FromContext<S> for Mine {
    type Error = ::std::env::VarError;

    async fn from_context(context: &Context) -> Result<Self, Self::Error> {
        ::std::env::var(context.service()).map(Self)
    }
}

/// Not `Send`, and neither is the body.
struct Local(Rc<u8>);

impl<S> FromContext<S> for Local {
    type Error = Infallible;

    async fn from_context(_: &Context) -> Result<Self, Infallible> {
        Ok(Self(Rc::new(7)))
    }
}

#[::coord::service]
async fn plain() {}

#[::coord::service()]
async fn code() -> ExitCode {
    ExitCode::from(7)
}

#[::coord::service(name = "a")]
async fn never(context: Context) -> ! {
    loop {
        context.shutdown().await;
    }
}

#[::coord::service(name = "a")]
async fn code_or_error() -> Result<ExitCode, Box<dyn Error>> {
    Ok(ExitCode::SUCCESS)
}

type Aliased<T> = Result<T, ::std::fmt::Error>;

const NAME: &str = "named";

const HOUR: Duration = Duration::from_secs(3_600);

fn before() {}

#[::coord::service(
    name = ::core::concat!("a", "b"),
    version = "1",
    namespace = "prod/",
    endpoints = ["http://a:1", "http://b:2"],
    listen = "[::]:0",
    advertise = "if:eth1",
    zone = "env:ZONE",
    weight = 5,
    tags = ["blue"],
    metadata(team = "payments", "build-id" = NAME, r#type = ::core::concat!("a", "b")),
    ttl = "1m",
    instance_id(
        max = 1_023,
        pool = NAME,
        hold = HOUR,
        cool_down = "40s",
        window = "30s",
        order = any,
        sticky = true,
        on_lost = exit,
        on_exhausted = wait,
    ),
    ready = immediate,
    drain = HOUR,
    quiet = "500ms",
    shutdown_timeout = "1s 500ms",
    watchdog = HOUR,
    etcd_down = "2m",
    before = before,
    crate = ::coord,
    runtime(flavor = multi_thread, worker_threads = 2),
)]
async fn all(
    context: Context,
    coordinator: Coordinator,
    Mine(mine): Mine,
    config: Config<App>,
    id: InstanceId,
    mut shutdown: Shutdown,
    local: Local,
    _: Context,
) -> Aliased<()> {
    let _ = (context.listener(), coordinator.module_name(), mine, config.load().port, id.get());
    (&mut shutdown).await;
    ::core::assert_eq!(*local.0, 7);
    Ok(())
}

#[::coord::service(name = "a", endpoints = endpoints(), runtime(flavor = current_thread))]
async fn computed() -> Result<(), ::coord::Error> {
    Ok(())
}

fn endpoints() -> Option<String> {
    Option::None
}

#[::coord::service(
    name = "a",
    listen(grpc = "[::]:0", r#type = "127.0.0.1:0", "the-third" = "0.0.0.0:0"),
    advertise(grpc = "svc:1", "the-third" = "env:IP"),
    ready = listening,
    watchdog = off,
    instance_id(max = 7, order = dense, sticky = false, on_lost = degrade, on_exhausted = fail),
    runtime(builder = built),
)]
async fn several(listeners: Listeners, id: InstanceId) -> Result<(), ::coord::Error> {
    listeners.take("the-third")?;
    id.get()?;
    Ok(())
}

fn built() -> ::tokio::runtime::Builder {
    ::tokio::runtime::Builder::new_multi_thread()
}

#[::coord::service(name = "a", runtime(thread_name = "a", worker_threads = 1))]
fn not_async(context: Context, local: Local, Mine(mine): Mine) -> Aliased<ExitCode> {
    ::core::assert_eq!((context.service(), *local.0), (&*mine, 7));
    Ok(ExitCode::SUCCESS)
}

#[::coord::service]
fn not_async_and_never() -> ! {
    ::std::process::exit(7)
}

fn main() {
    let _: [fn() -> ExitCode; 9] = [
        plain, code, never, code_or_error, all, computed, several, not_async, not_async_and_never,
    ];
}
