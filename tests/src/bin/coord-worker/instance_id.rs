//! `instance-id ENDPOINT POOL HOLD COOL_DOWN` (in seconds): holds an id. Says `held NUMBER`, `get
//! ANSWER` for each line that it is told, with what the id says at that moment, and `lost REASON`.
//!
//! `snowflakes ENDPOINT POOL HOLD COOL_DOWN`: makes ids with the number 0, without a rest. Says `held`,
//! and `made ID…` for each line that it is told: what it has made since the last, a few hundred at most.

use std::time::Duration;

use coord::{Coordinator, InstanceId, InstanceIds, SnowflakeLayout};
use coord_tests::{
    backend::patient,
    worker::wire::{Lines, say},
};

pub(crate) fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    with_id(
        &arguments,
        |ids| ids,
        async |id| {
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
            Ok(())
        },
    )
}

pub(crate) fn snowflakes(arguments: Vec<String>) -> anyhow::Result<()> {
    let zero = |ids: InstanceIds| ids.prefer(0).window(Duration::from_secs(30));
    with_id(&arguments, zero, async |id| {
        let flakes = id.snowflakes(SnowflakeLayout::default())?;
        say("held");
        let mut lines = Lines::open();
        let mut made = Vec::new();
        loop {
            // Pausing must be possible at any point.
            if made.len() < 200
                && let Ok(id) = flakes.next()
            {
                made.push(id.to_string());
            }
            tokio::select! {
                biased;
                line = lines.next() => match line {
                    Some(_) => say(format_args!("made {}", std::mem::take(&mut made).join(" "))),
                    None => return Ok(()),
                },
                () = tokio::task::yield_now() => {}
            }
        }
    })
}

fn with_id(
    arguments: &[String],
    claimed: impl FnOnce(InstanceIds) -> InstanceIds,
    work: impl AsyncFnOnce(InstanceId) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let [endpoint, pool, hold, cool_down] = arguments else {
        anyhow::bail!("ENDPOINT POOL HOLD COOL_DOWN")
    };
    let (hold, cool_down) = (hold.parse()?, cool_down.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let options = patient().endpoints([endpoint.as_str()]);
        let coordinator = Coordinator::connect(options).await?;
        let ids = coordinator
            .instance_ids(pool, 0..=9)
            .hold(Duration::from_secs(hold))
            .cool_down(Duration::from_secs(cool_down));
        let id = claimed(ids).acquire().await?;
        work(id).await?;
        coordinator.close().await;
        Ok(())
    })
}
