//! Another attribute below that makes a test. (What one above leaves of the function is seen only where
//! tests are compiled.)

use coord::Coordinator;

#[coord::test]
#[test]
async fn plain() {}

#[coord::test]
#[tokio::test(flavor = "multi_thread")]
async fn of_tokio(_coordinator: Coordinator) {}

fn main() {}
