//! `global COUNT`: that many tasks ask for the global coordinator at once. Says `got GOOD BAD`.

use coord_tests::worker::wire::say;
use tokio::task::JoinSet;

pub(crate) fn run(arguments: Vec<String>) -> anyhow::Result<()> {
    let [count] = arguments.as_slice() else {
        anyhow::bail!("COUNT")
    };
    let count: usize = count.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut each = JoinSet::new();
        for _ in 0..count {
            each.spawn(coord::global());
        }
        let each = each.join_all().await;
        let good = each.iter().filter(|got| got.is_ok()).count();
        say(format_args!("got {good} {}", count - good));
        Ok(())
    })
}
