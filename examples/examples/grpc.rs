//! Two services, each in processes of its own: `order-service` calls `user-service`, which has three
//! instances. While orders are placed, one of them is killed and one is asked to stop. What became of
//! the orders is printed.
//!
//! `cargo run --example grpc`, with an etcd in its own memory;
//! `COORD_ENDPOINTS=http://localhost:2379 cargo run --example grpc`, with yours.

use std::{
    collections::BTreeMap,
    env,
    process::{Child, Command, ExitCode},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use coord::{Context, Coordinator};
use rustix::process::{Pid, Signal, kill_process};
use shop::{
    Order, Receipt, User, UserId, orders_client::OrdersClient, orders_server, users_client,
    users_server,
};
use tokio::{task::JoinSet, time::sleep};
use tonic::{Request, Response, Status, service::Routes, transport::Server};

/// What is generated from `proto/shop.proto`.
#[allow(unreachable_pub, reason = "generated")]
mod shop {
    tonic::include_proto!("shop");
}

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some("user-service") => user_service(),
        Some("order-service") => order_service(),
        _ => show(),
    }
}

// ---- The one service. ----

#[coord::service(
    name = "user-service",
    listen = "0.0.0.0:0",
    ttl = "2s",
    quiet = "300ms" // then all callers have heard that it leaves
)]
async fn user_service(ctx: Context) -> coord::Result<()> {
    let users = Users {
        instance: env::args().nth(2).unwrap_or_default(),
    };
    let users = users_server::UsersServer::new(users);
    // Serves until it is asked to stop, and has finished what had begun by then.
    ctx.serve_tonic(Server::builder(), Routes::new(users)).await
}

struct Users {
    instance: String,
}

#[tonic::async_trait]
impl users_server::Users for Users {
    async fn get(&self, request: Request<UserId>) -> Result<Response<User>, Status> {
        // A database, say.
        sleep(Duration::from_millis(2)).await;
        Ok(Response::new(User {
            name: format!("user {}", request.get_ref().id),
            instance: self.instance.clone(),
        }))
    }
}

// ---- The other one, which calls it. ----

#[coord::service(name = "order-service", listen = "0.0.0.0:0", ttl = "2s", drain = "0s")]
async fn order_service(ctx: Context) -> coord::Result<()> {
    // All there is to know of user-service is its name.
    let users = users_client::UsersClient::new(ctx.coordinator().channel("user-service").await?);
    let orders = orders_server::OrdersServer::new(Orders { users });
    ctx.serve_tonic(Server::builder(), Routes::new(orders))
        .await
}

struct Orders {
    users: users_client::UsersClient<coord::grpc::Channel>,
}

#[tonic::async_trait]
impl orders_server::Orders for Orders {
    async fn place(&self, order: Request<Order>) -> Result<Response<Receipt>, Status> {
        let id = order.get_ref().customer;
        let user = self.users.clone().get(UserId { id }).await?.into_inner();
        Ok(Response::new(Receipt {
            text: format!("an order of {}", user.name),
            asked: user.instance,
        }))
    }
}

// ---- What happens to them. ----

#[tokio::main]
async fn show() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

const INSTANCES: [&str; 3] = ["users-1", "users-2", "users-3"];

async fn run() -> anyhow::Result<()> {
    let options = coord_examples::options()?;
    let etcd = options.endpoints.join(",");
    let coordinator = Coordinator::connect(options).await?;
    let start = |name| Process::start(&etcd, "user-service", name);
    let [mut killed, mut drained, mut left] = [
        start(INSTANCES[0])?,
        start(INSTANCES[1])?,
        start(INSTANCES[2])?,
    ];
    let mut orders = Process::start(&etcd, "order-service", "orders")?;
    registered(&coordinator, "user-service", 3).await?;
    registered(&coordinator, "order-service", 1).await?;

    let client = OrdersClient::new(coordinator.channel("order-service").await?);
    let tally = Arc::<Mutex<Tally>>::default();
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        callers.spawn(place_orders(client.clone(), tally.clone()));
    }
    println!("{:<20} {:>7} {:>7}   answered by", "", "orders", "failed");
    let phase = async |name: &str| {
        sleep(Duration::from_secs(1)).await;
        std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner)).print(name);
    };
    phase("three instances").await;
    killed.child.kill()?;
    phase("users-1 is killed").await;
    drained.terminate()?;
    phase("users-2 is drained").await;
    phase("users-3 is left").await;
    callers.shutdown().await;

    drained.ended()?;
    for process in [&mut left, &mut orders] {
        process.terminate()?;
        process.ended()?;
    }
    // The one that was killed said nothing: its record goes with its lease.
    registered(&coordinator, "user-service", 0).await?;
    coordinator.close().await;
    Ok(())
}

#[derive(Default)]
struct Tally {
    failed: u64,
    answered: BTreeMap<String, u64>,
}

impl Tally {
    fn print(&self, phase: &str) {
        let answered: u64 = self.answered.values().sum();
        print!(
            "{phase:<20} {:>7} {:>7}  ",
            answered + self.failed,
            self.failed
        );
        for name in INSTANCES {
            print!(" {name}: {:<5}", self.answered.get(name).unwrap_or(&0));
        }
        println!();
    }
}

/// One after the other.
async fn place_orders(mut orders: OrdersClient<coord::grpc::Channel>, tally: Arc<Mutex<Tally>>) {
    for customer in 0.. {
        let placed = orders.place(Order { customer }).await;
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        match placed {
            Ok(receipt) => {
                let asked = receipt.into_inner().asked;
                *tally.answered.entry(asked).or_default() += 1;
            }
            // What was on its way to the one that was killed: nobody knows whether it was done.
            Err(_) => tally.failed += 1,
        }
    }
}

/// Waits until so many instances are there.
async fn registered(coordinator: &Coordinator, service: &str, count: usize) -> coord::Result<()> {
    let mut view = coordinator.registry().view(service).await?;
    while view.load().len() != count {
        view.changed().await?;
    }
    Ok(())
}

/// Another process of this program. Dropped, it is killed.
struct Process {
    child: Child,
}

impl Process {
    fn start(etcd: &str, service: &str, name: &str) -> anyhow::Result<Self> {
        let mut program = Command::new(env::current_exe()?);
        program.args([service, name]).env("COORD_ENDPOINTS", etcd);
        Ok(Self {
            child: program.spawn()?,
        })
    }

    /// As whoever runs services asks one to stop.
    fn terminate(&self) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    fn ended(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        anyhow::ensure!(status.success(), "it has not ended in order: {status}");
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
