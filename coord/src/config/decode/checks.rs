//! [`Checks`]: the rules of `range` and `validate`.

use std::{fmt::Display, ops::RangeBounds};

/// What a value must obey.
#[derive(Debug)]
pub struct Checks {
    /// The value as it is shown.
    pub(super) found: Option<String>,
    pub(super) faults: Vec<String>,
}

impl Checks {
    /// `text` is the range as the struct writes it.
    pub fn range<B, T: InRange<B> + ?Sized>(
        &mut self,
        value: &T,
        range: &impl RangeBounds<B>,
        text: &str,
    ) {
        if !value.is_in(range) {
            self.faults.push(match &self.found {
                Some(found) => format!("expected a value in {text}, found {found}"),
                None => format!("expected a value in {text}"),
            });
        }
    }

    /// The outcome of a function of the user's.
    pub fn that<E: Display>(&mut self, outcome: Result<(), E>) {
        if let Err(reason) = outcome {
            self.faults.push(reason.to_string());
        }
    }
}

/// No check.
pub fn unchecked<T>(_: &T, _: &mut Checks) {}

/// A type whose values are compared to a range: one that is ordered, or an option or a list of those.
#[diagnostic::on_unimplemented(
    message = "`range` cannot compare `{Self}` to a range of `{B}`",
    label = "`range` is for ordered types, and for `Option` and `Vec` of them"
)]
pub trait InRange<B> {
    /// All of it is.
    fn is_in(&self, range: &impl RangeBounds<B>) -> bool;
}

impl<T: PartialOrd> InRange<T> for T {
    fn is_in(&self, range: &impl RangeBounds<T>) -> bool {
        range.contains(self)
    }
}

impl<T: PartialOrd> InRange<T> for Option<T> {
    fn is_in(&self, range: &impl RangeBounds<T>) -> bool {
        self.iter().all(|value| range.contains(value))
    }
}

impl<T: PartialOrd> InRange<T> for Vec<T> {
    fn is_in(&self, range: &impl RangeBounds<T>) -> bool {
        self.iter().all(|value| range.contains(value))
    }
}
