//! Every strategy, without IO: what all keep, and what each one promises.

mod every;
pub(in crate::grpc) mod fleet;
mod load_aware;
mod spread;
