//! Every attribute, in code that allows itself nothing.
#![no_implicit_prelude]
#![deny(warnings, clippy::pedantic)]
#![allow(non_upper_case_globals, clippy::must_use_candidate)]

const old: u8 = 1;

/// Documentation.
#[derive(::coord::CoordConfig)]
#[coord(prefix = "{env}/app", rename_all = "kebab-case", unknown = deny, validate = whole, write)]
pub struct App {
    /// Documentation.
    #[coord(alias = "nom", alias = "naam")]
    pub name: ::std::string::String,
    #[coord(default = old, range = old..=9, validate = small, validate = self::small)]
    pub size: u8,
    #[coord(range = ::std::time::Duration::ZERO..)]
    pub wait: ::std::option::Option<::std::time::Duration>,
    #[coord(nested, validate = part)]
    pub part: Part,
    #[coord(nested, alias = "r1")]
    pub rest: ::std::option::Option<::std::boxed::Box<Rest>>,
    #[coord(flatten)]
    pub flat: ::std::option::Option<Part2>,
    #[coord(map)]
    pub map: ::std::collections::HashMap<::std::string::String, u8>,
    #[coord(map)]
    pub parts: ::std::collections::BTreeMap<u8, Part>,
    #[coord(map, nested, secret)]
    pub secrets: ::std::collections::BTreeMap<::std::string::String, Part>,
    #[coord(codec = json, secret)]
    pub json: ::std::vec::Vec<u8>,
    #[coord(with = plus, default = "7")]
    pub plus: u8,
    #[coord(skip)]
    pub nothing: ::std::option::Option<&'static str>,
    #[coord(skip, default = "text")]
    pub text: ::std::string::String,
}

#[derive(::std::clone::Clone, ::coord::CoordConfig)]
#[coord(document = "json", write, unknown = warn)]
pub struct Part {
    #[coord(default = true)]
    pub on: bool,
}

#[derive(::coord::CoordConfig)]
#[coord(write)]
pub struct Part2 {
    #[coord(key = "flat/on")]
    pub on: bool,
}

#[derive(::coord::CoordConfig)]
#[coord(write, unknown = ignore)]
pub struct Rest {
    #[coord(nested)]
    pub more: ::std::option::Option<::std::boxed::Box<Rest>>,
}

#[derive(::coord::CoordConfig)]
#[coord(write)]
pub struct Generic<T, S> {
    pub value: T,
    #[coord(nested)]
    pub part: S,
    #[coord(map, nested)]
    pub parts: ::std::collections::BTreeMap<::std::string::String, S>,
    #[coord(map)]
    pub values: ::std::collections::BTreeMap<::std::string::String, T>,
}

fn small(value: &u8) -> ::std::result::Result<(), &'static str> {
    if *value < 9 {
        ::std::result::Result::Ok(())
    } else {
        ::std::result::Result::Err("too large")
    }
}

fn part(part: &Part) -> ::std::result::Result<(), &'static str> {
    small(&<u8 as ::std::convert::From<bool>>::from(part.on))
}

fn whole(app: &App) -> ::std::result::Result<(), &'static str> {
    small(&app.size)
}

mod plus {
    pub fn deserialize<'de, D: ::serde::Deserializer<'de>>(
        from: D,
    ) -> ::std::result::Result<u8, D::Error> {
        ::serde::Deserialize::deserialize(from)
    }

    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: ::serde::Serializer>(
        value: &u8,
        to: S,
    ) -> ::std::result::Result<S::Ok, S::Error> {
        to.serialize_u8(*value)
    }
}

fn written<T: ::coord::config::WriteConfig>() {}

fn main() {
    written::<App>();
    written::<Generic<u8, ::std::option::Option<Part>>>();
}
