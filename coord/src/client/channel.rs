//! The sticky channel: one endpoint at a time, dialled before the request is sent, left on error.
