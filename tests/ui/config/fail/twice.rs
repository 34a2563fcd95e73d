use coord::CoordConfig;

#[derive(CoordConfig)]
#[coord(prefix = "a", prefix = "b")]
struct App {
    #[coord(default = 1, default = 2)]
    a: u8,
    #[coord(secret)]
    #[coord(secret)]
    b: u8,
}

#[derive(CoordConfig)]
struct Valued {
    #[coord(secret = true, default = 1)]
    a: u8,
    #[coord(nested(x))]
    b: u8,
}

fn main() {}
