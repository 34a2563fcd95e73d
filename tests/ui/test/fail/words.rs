use coord::Coordinator;

#[coord::test(runtim(flavor = current_thread))]
async fn misspelt(_coordinator: Coordinator) {}

#[coord::test(name = "a", options)]
async fn unknown() {}

#[coord::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_for_tokio() {}

#[coord::test(start_paused = true)]
async fn paused() {}

#[coord::test(runtime(flavor = "current_thread"), crate = coord)]
async fn quoted() {}

#[coord::test(runtime(flavor = current_thread, worker_threads = 2))]
async fn no_workers() {}

#[coord::test(runtime(worker_threads = 0), runtime(flavour = multi_thread))]
async fn twice() {}

#[coord::test(runtime)]
async fn bare() {}

#[coord::test("a")]
async fn stray() {}

// Everything at once.
#[coord::test(rt, runtime(worker_threads = "4"))]
fn all_wrong<T>(_: impl Clone) {}

fn main() {}
