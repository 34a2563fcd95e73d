//! Keys of flattened structs are compared too, however deep.
use coord::CoordConfig;

#[derive(CoordConfig)]
struct Level {
    #[coord(key = "log/level")]
    level: String,
}

#[derive(CoordConfig)]
struct Log {
    #[coord(flatten)]
    level: Level,
    file: Option<String>,
}

#[derive(CoordConfig)]
struct SameKey {
    #[coord(flatten)]
    log: Log,
    #[coord(alias = "file")]
    path: String,
}

#[derive(CoordConfig)]
struct Inside {
    log: String,
    #[coord(flatten)]
    more: Option<Log>,
}

#[derive(CoordConfig)]
struct TwoFlattened {
    #[coord(flatten)]
    one: Log,
    #[coord(flatten)]
    two: Level,
}

fn main() {}
