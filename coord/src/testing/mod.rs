//! Testing code that uses coord: on a server of the test's own, or on none.
//!
//! | what is tested | with |
//! |---|---|
//! | functions with `#[locked]`, live configs, registrations: whatever talks to etcd | `#[coord::test]`, an [embedded server](crate::embedded) for each test |
//! | a function that is handed a [`Held`](crate::Held) or a [`LockGuard`](crate::LockGuard) | [`FakeLock`] |
//! | a function that is handed an [`InstanceId`](crate::InstanceId) | [`FakeInstanceId`] |
//! | a function that is handed a [`Config`](crate::Config) | [`Config::fixed`](crate::Config::fixed) |

mod fake;
pub(crate) mod run;

use std::{convert::Infallible, error::Error as StdError};

pub use fake::{FakeInstanceId, FakeLock};

use crate::{coordinator::Coordinator, embedded::Server, error::Error};

/// What one test has to itself: a server with nothing in it, and a coordinator on that.
#[derive(Debug)]
pub struct Test {
    coordinator: Coordinator,
    server: Server,
}

impl Test {
    async fn start() -> Result<Self, Error> {
        let server = Server::start().await?;
        let coordinator = server.coordinator().await?;
        Ok(Self {
            coordinator,
            server,
        })
    }

    /// First the coordinator: what it gives back, it gives back to the server.
    async fn end(self) {
        self.coordinator.close().await;
        self.server.shutdown().await;
    }

    /// The coordinator that everything in this test uses.
    #[must_use]
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// The server, with its faults on demand.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }
}

/// An argument of a test.
///
/// Implement it for a type of your own, for what many tests begin with:
///
/// ```
/// use coord::{
///     Config, CoordConfig,
///     testing::{FromTest, Test},
/// };
///
/// #[derive(CoordConfig)]
/// #[coord(prefix = "shop")]
/// struct Shop {
///     greeting: String,
/// }
///
/// struct Seeded(Config<Shop>);
///
/// impl<'t> FromTest<'t> for Seeded {
///     type Error = coord::Error;
///
///     async fn from_test(test: &'t Test) -> coord::Result<Self> {
///         let coordinator = test.coordinator();
///         coordinator.config_center().set("shop/greeting", "hello").await?;
///         Ok(Self(coordinator.config().start().await?))
///     }
/// }
///
/// #[coord::test]
/// async fn greets(Seeded(shop): Seeded) {
///     assert_eq!(shop.load().greeting, "hello");
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a test",
    label = "not made from what a test has",
    note = "an argument is `Coordinator`, `&coord::embedded::Server`, or a type of your own that \
            implements `coord::testing::FromTest`; a config is bound in the test: \
            `coordinator.config::<T>().start().await`"
)]
pub trait FromTest<'t>: Sized {
    /// Why it could not be made: the test then fails.
    type Error: Into<Box<dyn StdError + Send + Sync>>;

    /// Makes the value. The test runs once all of its arguments are made, in their order.
    fn from_test(test: &'t Test) -> impl Future<Output = Result<Self, Self::Error>>;
}

impl FromTest<'_> for Coordinator {
    type Error = Infallible;
    async fn from_test(test: &Test) -> Result<Self, Infallible> {
        Ok(test.coordinator.clone())
    }
}

impl<'t> FromTest<'t> for &'t Server {
    type Error = Infallible;
    async fn from_test(test: &'t Test) -> Result<Self, Infallible> {
        Ok(&test.server)
    }
}
