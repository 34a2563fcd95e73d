use coord::CoordConfig;

#[derive(CoordConfig)]
struct App {
    #[coord(alias = "host")]
    address: String,
    host: String,
    #[coord(alias = "port")]
    port: u16,
    #[coord(alias = "address/v4", alias = "/root")]
    v4: String,
}

#[derive(CoordConfig)]
#[coord(rename_all = "kebab-case")]
struct Renamed {
    max_size: u8,
    #[coord(key = "max-size")]
    other: u8,
}

fn main() {}
