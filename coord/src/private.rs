//! What the macros' expansions call. Not part of the API: anything here may change in any release.

/// `#[derive(CoordConfig)]`.
pub mod config {
    pub use crate::config::{
        decode::{Default, Leaf, Scope},
        shape::{Field, Shape},
    };
}
