use coord::CoordConfig;

#[derive(CoordConfig)]
struct App {
    #[coord(default = 5)]
    plain: Option<u8>,
    #[coord(default)]
    qualified: std::option::Option<u8>,
    #[coord(nested, default)]
    db: Db,
    #[coord(nested, secret)]
    cache: Db,
}

#[derive(CoordConfig)]
struct Db {
    host: String,
}

fn main() {}
