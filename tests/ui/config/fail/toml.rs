//! coord was built without its feature `toml`.
use coord::CoordConfig;

#[derive(CoordConfig)]
#[coord(document = toml)]
struct Document {
    a: u8,
}

#[derive(CoordConfig)]
struct App {
    #[coord(codec = "toml")]
    a: Vec<u8>,
}

fn main() {}
