//! The state machine: `State` and `step`.
