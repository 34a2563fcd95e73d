//! The one average that measurements are compared by.

/// The median of `samples`; of an even number the lower of the two in the middle.
///
/// # Panics
///
/// If there are no samples, or if two of them do not compare.
#[must_use]
pub fn median<T: PartialOrd + Copy>(samples: &[T]) -> T {
    assert!(!samples.is_empty(), "the median of no samples");
    let mut sorted = samples.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("samples compare"));
    sorted[(sorted.len() - 1) / 2]
}
