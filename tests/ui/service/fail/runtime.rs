#[coord::service(runtime(flavor = "current_thread"))]
async fn quoted() {}

#[coord::service(runtime(flavor = multi_threaded))]
async fn misspelled() {}

#[coord::service(runtime(flavor = current_thread, worker_threads = 4))]
async fn no_workers() {}

#[coord::service(runtime(worker_threads = 0))]
async fn zero_workers() {}

#[coord::service(runtime(thread_name = 7))]
async fn no_name() {}

#[coord::service(runtime(threads = 7))]
async fn unknown() {}

fn builder() -> tokio::runtime::Builder {
    tokio::runtime::Builder::new_multi_thread()
}

#[coord::service(runtime(builder = builder, flavor = multi_thread, worker_threads = 2, thread_name = "a"))]
async fn both() {}

#[coord::service(runtime(flavor = current_thread))]
fn nobody_drives_it() {}

#[coord::service(runtime(builder = tokio::runtime::Runtime::new))]
async fn no_builder() {}

fn main() {}
