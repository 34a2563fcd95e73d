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

#[coord::service(crate = coord)]
async fn relative() {}

#[coord::service(version = 1)]
async fn number_for_text() {}

#[coord::service(namespace = 1)]
async fn number_for_namespace() {}

#[coord::service(zone = "a/b")]
async fn slash_in_zone() {}

#[coord::service(weight = 0)]
async fn no_weight() {}

#[coord::service(weight = "5")]
async fn quoted_weight() {}

#[coord::service(tags = "blue", metadata = "team")]
async fn no_lists() {}

#[coord::service(tags = [], metadata())]
async fn nothing() {}

#[coord::service(metadata(team = 7, "" = "a", tier = "1", tier = "2"))]
async fn metadata() {}

#[coord::service(ready = "manual")]
async fn quoted_choice() {}

#[coord::service(ready = listens)]
async fn unknown_choice() {}

#[coord::service(ready = 7, ready = manual)]
async fn choice_twice() {}

#[coord::service(watchdog = "off")]
async fn quoted_off() {}

#[coord::service(watchdog = "0s", etcd_down = "soon")]
async fn no_limits() {}

#[coord::service(watchdog = off, watchdog = "1s")]
async fn watchdog_twice() {}

#[coord::service(quiet = 1, quite = "1s")]
async fn quiet() {}

#[coord::service(quiet = "1s", quiet = "a second")]
async fn quiet_twice() {}

fn main() {}
