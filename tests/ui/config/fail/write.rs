use coord::CoordConfig;
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct ReadOnly;

#[derive(CoordConfig)]
struct NotWritten {
    a: u8,
}

#[derive(CoordConfig)]
#[coord(write)]
struct App {
    value: ReadOnly,
    #[coord(nested)]
    nested: NotWritten,
    #[coord(flatten)]
    flat: NotWritten,
    #[coord(map)]
    map: BTreeMap<String, ReadOnly>,
}

fn main() {}
