//! "Did you mean": the nearest valid word.

/// `unknown word `x`` with the nearest of `valid`, or with all of them.
pub(crate) fn unknown(what: &str, given: &str, valid: &[&str]) -> String {
    let nearest = valid
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), *word))
        .min()
        .filter(|(distance, word)| *distance <= word.len().max(given.len()).div_ceil(3))
        .map(|(_, word)| word);
    match nearest {
        Some(word) => format!("unknown {what} `{given}`: did you mean `{word}`?"),
        None => format!(
            "unknown {what} `{given}`: expected one of `{}`",
            valid.join("`, `")
        ),
    }
}
