//! Generates the client and the server of the service that the tests of `coord::grpc` call.

fn main() -> std::io::Result<()> {
    tonic_prost_build::compile_protos("proto/echo.proto")
}
