//! `etcd`: starts one, says `started ENDPOINT FOLDER`, and waits. The kit's own tests kill it.

use coord_tests::{
    Etcd, EtcdConfig,
    worker::wire::{Lines, say},
};

pub(crate) fn run(_: Vec<String>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let etcd = Etcd::start(EtcdConfig::new()).await?;
        say(format_args!(
            "started {} {}",
            etcd.endpoint(),
            etcd.dir().display()
        ));
        Lines::open().next().await;
        Ok(())
    })
}
