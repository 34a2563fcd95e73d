use coord::{Context, InstanceId};

#[coord::service(name = "a")]
struct NotAFunction;

#[coord::service(name = "a")]
async fn generic<T>(_ctx: Context) {}

#[coord::service(name = "a")]
async fn opaque(_ctx: Context) -> impl std::process::Termination {}

#[coord::service(name = "a")]
async fn anything(_ctx: impl Clone) {}

#[coord::service(name = "a")]
async fn nine(
    _1: Context,
    _2: Context,
    _3: Context,
    _4: Context,
    _5: Context,
    _6: Context,
    _7: Context,
    _8: Context,
    _9: Context,
) {
}

#[coord::service(name = "a")]
async fn no_id(_ctx: Context, _id: InstanceId) {}

fn main() {}
