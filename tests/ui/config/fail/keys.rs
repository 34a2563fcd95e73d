use coord::CoordConfig;

#[derive(CoordConfig)]
struct Same {
    host: String,
    #[coord(key = "host")]
    address: String,
    #[coord(key = "a/b")]
    b: u8,
    #[coord(key = "a/b")]
    c: u8,
}

#[derive(CoordConfig)]
struct Inside {
    #[coord(nested)]
    db: Same,
    #[coord(key = "db/host")]
    host: String,
    #[coord(key = "r#type")]
    fine: u8,
    #[coord(key = "list/0")]
    first: u8,
    list: Vec<u8>,
}

#[derive(CoordConfig)]
struct Malformed {
    #[coord(key = "/absolute")]
    absolute: u8,
    #[coord(key = "")]
    empty: u8,
    #[coord(key = "a//b")]
    inner: u8,
    #[coord(key = "a/")]
    end: u8,
    #[coord(key = "new\nline")]
    control: u8,
    #[coord(key = name)]
    word: u8,
}

fn main() {}
