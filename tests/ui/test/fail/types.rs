//! A test's arguments are asked for their trait only where tests are compiled, so here it is asked
//! by hand.

use coord::{Config, testing::FromTest};

struct Mine;

fn argument<'t, T: FromTest<'t>>() {}

fn main() {
    argument::<Mine>();
    argument::<Config<u16>>();
}
