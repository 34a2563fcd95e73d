//! `instance-id ENDPOINT POOL HOLD COOL_DOWN` (in seconds): holds an id. Says `held NUMBER`, `get
//! ANSWER` for each line that it is told, with what the id says at that moment, and `lost REASON`.

use std::time::Duration;

use coord::{Coordinator, Options};
use coord_tests::worker::wire::{Lines, say};

pub(crate) fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    let [endpoint, pool, hold, cool_down] = arguments.as_slice() else {
        anyhow::bail!("ENDPOINT POOL HOLD COOL_DOWN")
    };
    let (hold, cool_down) = (hold.parse()?, cool_down.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = Options::test().endpoints([endpoint.as_str()]);
        let coordinator = Coordinator::connect(options).await?;
        let ids = coordinator
            .instance_ids(pool, 0..=9)
            .hold(Duration::from_secs(hold))
            .cool_down(Duration::from_secs(cool_down));
        let id = ids.acquire().await?;
        say(format_args!("held {}", id.get()?));
        let mut lines = Lines::open();
        let answers = async {
            while lines.next().await.is_some() {
                say(format_args!("get {:?}", id.get()));
            }
        };
        let lost = async {
            say(format_args!("lost {:?}", id.lost().await));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // In this order: the answer comes before whatever else there is to do.
            biased;
            () = answers => {}
            () = lost => {}
        }
        coordinator.close().await;
        Ok(())
    })
}
