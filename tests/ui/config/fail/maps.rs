use coord::CoordConfig;
use std::collections::{BTreeMap, HashMap};

struct Unreadable;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct NoKey;

#[derive(CoordConfig)]
struct App {
    #[coord(map)]
    list: Vec<u8>,
    #[coord(map)]
    values: HashMap<String, Unreadable>,
    #[coord(map)]
    keys: BTreeMap<NoKey, u8>,
    #[coord(map, nested)]
    structs: BTreeMap<String, u8>,
}

fn main() {}
