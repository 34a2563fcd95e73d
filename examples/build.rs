//! Generates the clients and servers of the example `grpc`.

fn main() -> std::io::Result<()> {
    tonic_prost_build::compile_protos("proto/shop.proto")
}
