#[derive(coord::CoordConfig)]
#[coord(crate = coord)]
struct App {
    name: String,
}

fn main() {}
