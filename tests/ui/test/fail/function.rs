use coord::{Coordinator, embedded::Server};

#[coord::test]
fn not_async(_coordinator: Coordinator) {}

#[coord::test]
struct NotAFunction;

#[coord::test]
async fn generic<'a, T>(_coordinator: &'a Coordinator) {}

#[coord::test]
async fn bounded() where String: Clone {}

#[coord::test]
async unsafe fn not_safe() {}

#[coord::test]
async extern "C" fn foreign() {}

#[coord::test]
const fn constant() {}

#[coord::test]
async fn opaque() -> impl std::process::Termination {}

#[coord::test]
#[should_panic]
async fn panics() -> Result<(), coord::Error> {
    panic!()
}

#[coord::test]
async fn anything(_coordinator: impl Clone) {}

#[coord::test]
async fn owned(_coordinator: Coordinator, _server: Server) {}

#[coord::test]
async fn nine(
    _1: Coordinator,
    _2: Coordinator,
    _3: Coordinator,
    _4: Coordinator,
    _5: Coordinator,
    _6: Coordinator,
    _7: Coordinator,
    _8: Coordinator,
    _9: Coordinator,
) {
}

struct Suite;

impl Suite {
    #[coord::test]
    async fn method(&self, _coordinator: Coordinator) {}
}

fn main() {}
