use coord::CoordConfig;

fn text(_: &str) -> Result<(), String> {
    Ok(())
}

fn number(_: &u8) -> bool {
    true
}

struct NoRange;

#[derive(CoordConfig)]
#[coord(validate = missing)]
struct App {
    #[coord(validate = text)]
    wrong_argument: u8,
    #[coord(validate = number)]
    no_result: u8,
    #[coord(range = 1..10)]
    text: String,
    #[coord(range = 0..=300)]
    too_large: u8,
}

fn main() {}
