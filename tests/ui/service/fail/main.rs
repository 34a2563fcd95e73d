use coord::{Context, InstanceId};

#[coord::service(name = "a")]
async fn main(_ctx: Context, _id: InstanceId) {}
