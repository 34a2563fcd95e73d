use coord::{Context, InstanceId};

type Worker = InstanceId;

#[coord::service(name = "a")]
async fn aliased(_ctx: Context, _id: Worker) {}

struct Mine;

#[coord::service(name = "a")]
async fn not_made(_ctx: Context, _mine: Mine) {}

#[coord::service(name = "a")]
async fn borrowed(_ctx: &Context) {}

#[coord::service(name = "a")]
async fn returns_a_number(_ctx: Context) -> u32 {
    7
}

struct NoDebug;

#[coord::service(name = "a")]
async fn error_without_debug(_ctx: Context) -> Result<(), NoDebug> {
    Ok(())
}

fn main() {}
