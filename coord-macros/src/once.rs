//! [`Once`]: an attribute's value that can be given once.

use proc_macro2::Span;

use crate::errors::Errors;

/// A value with the span of the word that gave it.
#[derive(Clone, Debug)]
pub(crate) struct Once<T> {
    name: &'static str,
    value: Option<(Span, T)>,
}

impl<T> Once<T> {
    pub(crate) fn none(name: &'static str) -> Self {
        Self { name, value: None }
    }

    /// Sets it; a second time is an error under the second word.
    pub(crate) fn set(&mut self, errors: &Errors, span: Span, value: T) {
        if self.value.is_some() {
            errors.push(syn::Error::new(
                span,
                format!("`{}` is given twice", self.name),
            ));
        } else {
            self.value = Some((span, value));
        }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref().map(|(_, value)| value)
    }

    pub(crate) fn take(self) -> Option<T> {
        self.value.map(|(_, value)| value)
    }

    /// Where the word stands, if it was given.
    pub(crate) fn span(&self) -> Option<Span> {
        self.value.as_ref().map(|(span, _)| *span)
    }
}
