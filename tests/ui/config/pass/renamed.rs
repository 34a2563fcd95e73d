#![deny(warnings)]

extern crate coord as renamed;

mod inner {
    pub use ::coord as reexported;
}

mod coord {}

#[derive(renamed::CoordConfig)]
#[coord(crate = ::renamed)]
pub struct Renamed {
    #[coord(default)]
    pub value: u8,
    #[coord(nested)]
    pub nested: Reexported,
}

#[derive(renamed::CoordConfig)]
#[coord(crate = crate::inner::reexported)]
pub struct Reexported {
    pub value: u8,
}

fn main() {}
