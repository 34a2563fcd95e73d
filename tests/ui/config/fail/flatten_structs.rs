//! What is flattened is no value of its own, and has no say in what nobody reads.
use coord::CoordConfig;

#[derive(CoordConfig)]
#[coord(document)]
struct Document {
    level: String,
}

#[derive(CoordConfig)]
#[coord(unknown = deny)]
struct Strict {
    level: String,
}

#[derive(CoordConfig)]
#[coord(unknown = ignore)]
struct Lax<T> {
    level: T,
}

#[derive(CoordConfig)]
struct OfDocument {
    #[coord(flatten)]
    log: Document,
}

#[derive(CoordConfig)]
struct OfStrict {
    #[coord(flatten)]
    log: Option<Strict>,
}

#[derive(CoordConfig)]
struct OfLax {
    #[coord(flatten)]
    log: Lax<String>,
}

fn main() {}
