//! The expansion names everything by its full path.
#![no_implicit_prelude]
#![deny(warnings)]

#[derive(::coord::CoordConfig)]
#[coord(prefix = "{env}/app")]
pub struct App {
    pub name: ::std::string::String,
    #[coord(default)]
    pub list: ::std::vec::Vec<u8>,
    #[coord(default = 5, secret)]
    pub limit: u8,
    #[coord(default = "5s", key = "a/timeout")]
    pub timeout: ::std::time::Duration,
    #[coord(nested)]
    pub db: ::std::option::Option<Db>,
}

#[derive(::coord::CoordConfig)]
pub struct Db {
    pub host: ::std::string::String,
}

fn main() {}
