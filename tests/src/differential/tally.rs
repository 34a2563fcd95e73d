//! What a run has compared.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

/// How often what was answered, alike by both servers.
///
/// That nothing differed says little if everything was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The answers, by the name of the call and, of a refusal, its words.
    pub answers: BTreeMap<String, u64>,
    /// The events that watches were sent.
    pub events: u64,
    /// The sequences that were run to their end.
    pub sequences: u64,
}

impl Tally {
    pub(super) fn count(&mut self, answer: impl Into<String>) {
        *self.answers.entry(answer.into()).or_default() += 1;
    }
}

impl AddAssign<&Self> for Tally {
    fn add_assign(&mut self, other: &Self) {
        for (answer, count) in &other.answers {
            *self.answers.entry(answer.clone()).or_default() += count;
        }
        self.events += other.events;
        self.sequences += other.sequences;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (answer, count) in &self.answers {
            writeln!(f, "{count:9}  {answer}")?;
        }
        writeln!(f, "{:9}  events of watches", self.events)?;
        write!(f, "{:9}  sequences without a difference", self.sequences)
    }
}
