#![deny(warnings)]

use std::{collections::HashMap, fmt::Debug, sync::Arc};

use coord::{Config, CoordConfig};

#[derive(CoordConfig)]
pub struct Limited<T, const N: usize = 2>
where
    T: Debug,
{
    pub limit: [u8; 4],
    #[coord(default)]
    pub values: Vec<T>,
    #[coord(default)]
    pub more: HashMap<String, Option<T>>,
}

#[derive(CoordConfig)]
pub struct Outer<T> {
    #[coord(nested)]
    pub of: T,
    #[coord(nested)]
    pub shared: Arc<T>,
}

/// A type may hold itself.
#[derive(CoordConfig)]
pub struct Tree<T> {
    pub value: T,
    #[coord(nested)]
    pub child: Option<Box<Tree<T>>>,
}

#[derive(CoordConfig)]
pub struct Db {
    pub host: String,
}

/// The keys of what is flattened are compared when it is used.
#[derive(CoordConfig)]
pub struct Flat<T> {
    pub name: String,
    #[coord(flatten)]
    pub of: T,
    #[coord(map, nested)]
    pub parts: HashMap<u8, Arc<T>>,
}

fn config<T: CoordConfig>() {}

pub fn takes(_: Config<Outer<Db>>) {}

fn main() {
    config::<Limited<u8, 3>>();
    config::<Outer<Option<Db>>>();
    config::<Tree<String>>();
    config::<Flat<Db>>();
}
