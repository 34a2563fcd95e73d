use coord::CoordConfig;

struct Unreadable;

#[derive(CoordConfig)]
struct Db {
    host: String,
}

#[derive(CoordConfig)]
struct App {
    unreadable: Unreadable,
    forgotten: Db,
    #[coord(nested)]
    no_config: String,
    #[coord(nested)]
    list: Vec<Db>,
}

fn main() {}
