//! What becomes of an endpoint: a state machine without IO and without a clock.
