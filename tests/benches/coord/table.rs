//! [`Table`]: what was measured, as Markdown.

use std::{fmt, process::ExitCode, time::Duration};

use crate::sample::Samples;

/// What a figure has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// So many times the other's median, at most.
    Ratio(f64),
    /// So long, at most: for what there is nothing to compare with.
    Time(Duration),
}

/// Something that was counted.
#[derive(Debug)]
struct Count {
    what: &'static str,
    seen: usize,
    of: usize,
    at_most: usize,
}

#[derive(Debug)]
struct Row {
    what: &'static str,
    ours: Samples,
    /// What it is compared with.
    other: Option<(&'static str, Samples)>,
    goal: Goal,
}

/// What was measured, in its order; and below it what was counted.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>, Vec<Count>);

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_empty()
    }

    /// Adds something compared with something else.
    pub(crate) fn ratio(
        &mut self,
        what: &'static str,
        (ours, other): (Samples, Samples),
        than: &'static str,
        at_most: f64,
    ) {
        self.0.push(Row {
            what,
            ours,
            other: Some((than, other)),
            goal: Goal::Ratio(at_most),
        });
    }

    /// Adds something with nothing to compare it with.
    pub(crate) fn time(&mut self, what: &'static str, ours: Samples, at_most: Duration) {
        self.0.push(Row {
            what,
            ours,
            other: None,
            goal: Goal::Time(at_most),
        });
    }

    /// Adds a number of things that should not be, of so many that were.
    pub(crate) fn count(&mut self, what: &'static str, seen: usize, of: usize, at_most: usize) {
        self.1.push(Count {
            what,
            seen,
            of,
            at_most,
        });
    }

    /// Whether every figure reached its goal.
    pub(crate) fn verdict(&self) -> ExitCode {
        if self.0.iter().all(Row::reached) && self.1.iter().all(Count::reached) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let (_, other) = self.other.as_ref()?;
        Some(self.ours.median().as_secs_f64() / other.median().as_secs_f64())
    }

    fn reached(&self) -> bool {
        match (self.goal, self.ratio()) {
            (Goal::Ratio(goal), ratio) => ratio.is_some_and(|ratio| ratio <= goal),
            (Goal::Time(goal), _) => self.ours.median() <= goal,
        }
    }
}

impl Count {
    fn reached(&self) -> bool {
        self.seen <= self.at_most
    }
}

fn judged(reached: bool) -> &'static str {
    if reached {
        " reached |"
    } else {
        " **missed** |"
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| what | median | p99 | beside | median | p99 | ratio | goal | |"
        )?;
        writeln!(f, "|---|--:|--:|---|--:|--:|--:|--:|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        if !self.1.is_empty() {
            writeln!(f, "\n| what | seen | of | goal | |\n|---|--:|--:|--:|---|")?;
        }
        self.1.iter().try_for_each(|count| writeln!(f, "{count}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, p99) = (self.ours.median(), self.ours.p99());
        write!(f, "| {} | {median:.1?} | {p99:.1?} |", self.what)?;
        match &self.other {
            Some((than, other)) => {
                write!(
                    f,
                    " {than} | {:.1?} | {:.1?} |",
                    other.median(),
                    other.p99()
                )?;
            }
            None => f.write_str(" | | |")?,
        }
        match self.ratio() {
            Some(ratio) => write!(f, " {ratio:.3} |")?,
            None => f.write_str(" |")?,
        }
        match self.goal {
            Goal::Ratio(goal) => write!(f, " ≤ {goal:.3} |")?,
            Goal::Time(goal) => write!(f, " ≤ {goal:?} |")?,
        }
        f.write_str(judged(self.reached()))
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            seen,
            of,
            at_most,
        } = self;
        let judged = judged(self.reached());
        write!(f, "| {what} | {seen} | {of} | ≤ {at_most} |{judged}")
    }
}
