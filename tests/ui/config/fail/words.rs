use coord::CoordConfig;
use std::collections::HashMap;

#[derive(CoordConfig)]
#[coord(rename_all = "kebap-case", document = yaml, unknown = forbid, validate = "check", write = true)]
struct Container {
    a: u8,
}

#[derive(CoordConfig)]
struct Log {
    level: String,
}

#[derive(CoordConfig)]
struct Flat {
    #[coord(flatten, key = "log", alias = "logs", secret)]
    a: Log,
    #[coord(flatten, nested)]
    b: Log,
    #[coord(map, default, range = 1..)]
    c: HashMap<String, u8>,
    #[coord(map, codec = json, with = hex)]
    d: HashMap<String, u8>,
    #[coord(nested, codec = json)]
    e: Log,
    #[coord(codec = json, with = hex)]
    f: u8,
    #[coord(skip, key = "g", secret)]
    g: u8,
    #[coord(codec = xml)]
    h: u8,
    #[coord(range = 5)]
    i: u8,
    #[coord(range = ..)]
    j: u8,
    #[coord(rename = "k")]
    k: u8,
    #[coord(document)]
    l: u8,
    #[coord(unknown = deny, flaten)]
    m: u8,
    #[coord(with = "hex", validate = |v| v)]
    n: u8,
}

fn main() {}
