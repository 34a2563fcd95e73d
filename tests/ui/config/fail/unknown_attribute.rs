use coord::CoordConfig;

#[derive(CoordConfig)]
#[coord(prefx = "app", default)]
struct App {
    #[coord(defualt = 1, prefix = "x")]
    near: u8,
    #[coord(something_else(1, 2), secret)]
    far: u8,
    #[coord]
    nothing: u8,
    #[coord = "x"]
    value: u8,
}

fn used(_: coord::Config<App>, app: impl Fn() -> Option<App>) {
    fn config<T: CoordConfig>(_: Option<T>) {}
    config(app());
}

fn main() {}
