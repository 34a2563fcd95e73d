//! [`Refused`]: why a value was not taken.

use std::fmt;

use serde::de;

use super::{
    MISSING,
    fault::{Fault, Place},
};
use crate::key::Prefix;

/// Why a value was refused. The innermost value that an error passes gives it its place.
#[derive(Debug)]
pub struct Refused {
    fault: Box<Fault>,
    located: bool,
    /// A field of the struct that the error is about, when serde itself found it missing.
    member: Option<&'static str>,
}

impl Refused {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            fault: Box::new(Fault {
                field: String::new(),
                key: String::new(),
                mod_revision: 0,
                reason: reason.into(),
            }),
            located: false,
            member: None,
        }
    }

    pub(crate) fn missing() -> Self {
        Self::new(MISSING)
    }

    /// Says where it happened, unless a value further in has. `place` is that of the value or, when
    /// it is named, of the value's member.
    pub(super) fn locate<'p>(
        mut self,
        place: impl FnOnce(Option<&'static str>) -> Place<'p>,
        prefix: &Prefix,
        mod_revision: i64,
    ) -> Self {
        if !self.located {
            let place = place(self.member);
            self.fault.field = place.path();
            self.fault.key = place.key(prefix);
            self.fault.mod_revision = mod_revision;
            self.located = true;
        }
        self
    }

    pub(crate) fn into_fault(self) -> Fault {
        *self.fault
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fault.reason)
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            member: Some(field),
            ..Self::missing()
        }
    }
}

pub(crate) type Result<T, E = Refused> = std::result::Result<T, E>;
