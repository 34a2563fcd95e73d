#[coord::service(listen())]
async fn nothing() {}

#[coord::service(listen(grpc = "localhost", http = 8080))]
async fn no_addresses() {}

#[coord::service(listen(grpc = "0.0.0.0:1", grpc = "0.0.0.0:2"))]
async fn name_twice() {}

#[coord::service(listen = "0.0.0.0:1", listen(grpc = "0.0.0.0:2"))]
async fn both() {}

#[coord::service(listen("a,b" = "0.0.0.0:1"))]
async fn odd_name() {}

#[coord::service(advertise = "http://svc")]
async fn a_url() {}

#[coord::service(advertise = "svc:0")]
async fn port_zero() {}

#[coord::service(advertise = 7)]
async fn a_number() {}

#[coord::service(advertise = "a", advertise(grpc = "b:1"))]
async fn advertise_both() {}

#[coord::service(listen(grpc = "0.0.0.0:1"), advertise(grcp = "svc"))]
async fn misspelled() {}

#[coord::service(advertise(grpc = "svc"), listen = "0.0.0.0:1")]
async fn no_names() {}

fn main() {}
