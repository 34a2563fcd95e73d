use coord::CoordConfig;

#[derive(CoordConfig)]
struct App {
    #[coord(default = 5)]
    name: String,
    #[coord(default)]
    none: NoDefault,
    #[coord(default = missing())]
    missing: u8,
}

#[derive(serde::Deserialize)]
struct NoDefault;

fn main() {}
