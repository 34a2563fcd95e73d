use coord::CoordConfig;

#[derive(CoordConfig)]
enum Level {
    Low,
    High,
}

#[derive(CoordConfig)]
struct Tuple(u8);

#[derive(CoordConfig)]
struct Unit;

#[derive(CoordConfig)]
union Either {
    a: u8,
    b: i8,
}

#[derive(CoordConfig)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(CoordConfig)]
struct Static {
    name: &'static str,
}

fn main() {}
