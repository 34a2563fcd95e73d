//! Every shape that a `#[coord::test]` may have, without a name in scope that it could lean on. A test is
//! compiled only where tests are, so this is one, and no case of the UI tests.
#![deny(warnings, clippy::pedantic)]
#![no_implicit_prelude]

use ::coord::{
    Coordinator,
    embedded::Server,
    testing::{FromTest, Test},
};
use ::std::{
    assert, assert_eq, boxed::Box, convert::Infallible, error::Error, panic, process::ExitCode,
    result::Result, result::Result::Ok,
};

/// What the expansion could be taken to mean.
mod core {}
mod std {}
#[allow(dead_code, reason = "nobody means these")]
struct Runtime;
#[allow(dead_code, reason = "nobody means these")]
fn run() {}

/// Made without waiting, and taken apart in the signature.
struct Pair(u8, u8);

impl FromTest<'_> for Pair {
    type Error = Infallible;

    async fn from_test(_: &Test) -> Result<Self, Infallible> {
        Ok(Self(3, 4))
    }
}

type Aliased<T> = Result<T, Box<dyn Error>>;

#[::coord::test]
async fn empty() {}

#[::coord::test()]
async fn r#async() -> ExitCode {
    ExitCode::SUCCESS
}

/// Documented, public, with names that the expansion uses itself.
#[::coord::test(crate = ::coord, runtime(flavor = multi_thread, worker_threads = 1 + 1))]
#[expect(unused_variables, reason = "attributes stay")]
pub async fn names(
    test: Coordinator,
    argument1: &Server,
    Pair(run, mut argument0): Pair,
    _: Coordinator,
) -> Aliased<()> {
    argument0 += 1;
    assert_eq!((run, argument0), (3, 5));
    assert!(argument1.revision() > 0);
    Ok(())
}

#[::coord::test(runtime(flavor = current_thread))]
#[should_panic(expected = "on purpose")]
async fn panics() -> () {
    panic!("on purpose");
}

#[::coord::test]
async fn code_or_error(coordinator: Coordinator) -> Result<ExitCode, ::coord::Error> {
    coordinator.ping().await?;
    Ok(ExitCode::SUCCESS)
}

macro_rules! by_macro {
    ($($name:ident)*) => { $(
        #[::coord::test]
        async fn $name(coordinator: Coordinator) -> Result<(), ::coord::Error> {
            coordinator.ping().await.map(|_| ())
        }
    )* };
}

by_macro!(one two);
