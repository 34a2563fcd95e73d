#[coord::service(nmae = "a")]
async fn unknown() {}

#[coord::service(quux, name = "a", name = "b")]
async fn unknown_and_twice() {}

#[coord::service("a")]
async fn bare_name() {}

#[coord::service(name = 7)]
async fn no_string() {}

#[coord::service(name = "a/b")]
async fn slash() {}

#[coord::service(listen = "localhost")]
async fn no_address() {}

#[coord::service(listen = 50051)]
async fn only_a_port() {}

#[coord::service(endpoints = "http://etcd:2379")]
async fn no_list() {}

#[coord::service(endpoints = [])]
async fn empty_list() {}

#[coord::service(ttl = "10")]
async fn no_unit() {}

#[coord::service(ttl = "1500ms", drain = 10)]
async fn fraction_and_number() {}

#[coord::service(instance_id)]
async fn no_words() {}

#[coord::service(instance_id())]
async fn no_max() {}

#[coord::service(instance_id(maximum = 7))]
async fn unknown_inner() {}

#[coord::service(instance_id(max = 5_000_000_000))]
async fn too_large() {}

#[coord::service(runtime(flavor = "current_thread"))]
async fn quoted() {}

#[coord::service(runtime(flavor = multi_threaded))]
async fn misspelled() {}

#[coord::service(runtime(flavor = current_thread, worker_threads = 4))]
async fn no_workers() {}

#[coord::service(runtime(worker_threads = 0))]
async fn zero_workers() {}

#[coord::service(crate = coord)]
async fn relative() {}

fn main() {}
