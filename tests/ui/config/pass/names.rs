//! Nothing that the user has named can be mistaken for something of ours, and the other way round.
#![deny(warnings, clippy::pedantic)]
#![allow(non_upper_case_globals, non_camel_case_types, dead_code, missing_docs)]

use coord::CoordConfig;

mod shadows {
    pub struct Option;
    pub struct Some;
    pub struct Default;
    pub struct Scope;
    pub struct Field;
    pub type str = u8;
    pub type u8 = ();
    pub mod core {}
    pub mod coord {}
    pub mod std {}
}

const scope: u16 = 1;
const fields: u16 = 2;
const field_0: u16 = 3;

#[derive(CoordConfig)]
struct App {
    #[coord(default = scope)]
    scope: u16,
    #[coord(default = fields)]
    fields: u16,
    #[coord(default = field_0)]
    field_0: u16,
    #[coord(default = Self::LIMIT)]
    field_1: u16,
    r#type: String,
    #[coord(key = "match")]
    r#match: Option<String>,
    #[coord(default = { let field_1 = 7; field_1 })]
    block: u16,
    #[coord(default = vec![1, 2])]
    list: Vec<u16>,
}

impl App {
    const LIMIT: u16 = 4;
}

fn shadowed() {
    #[allow(unused_imports)]
    use shadows::*;

    #[derive(CoordConfig)]
    struct Inner {
        #[coord(default = true)]
        on: bool,
    }
}

fn main() {
    shadowed();
    let names: Vec<_> = App::FIELDS.iter().map(|field| (field.name(), field.key())).collect();
    assert!(names.contains(&("type", "type")) && names.contains(&("match", "match")));
}
