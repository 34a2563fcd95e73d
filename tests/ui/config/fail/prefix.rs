use coord::CoordConfig;

#[derive(CoordConfig)]
#[coord(prefix = "/app/{env")]
struct Open {}

#[derive(CoordConfig)]
#[coord(prefix = "app}/x")]
struct Close {}

#[derive(CoordConfig)]
#[coord(prefix = "{}/app")]
struct Nameless {}

#[derive(CoordConfig)]
#[coord(prefix = "{the env}/app")]
struct BadName {}

#[derive(CoordConfig)]
#[coord(prefix = "a//b")]
struct EmptySegment {}

#[derive(CoordConfig)]
#[coord(prefix = "/")]
struct Root {}

#[derive(CoordConfig)]
#[coord(prefix = app)]
struct NoText {}

fn main() {}
