//! A request that can be sent again.
