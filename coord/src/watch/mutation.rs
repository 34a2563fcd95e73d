//! Mistakes that a watch engine can make, so that tests can show each of them is noticed.
//!
//! Every decision that one of these would spoil asks [`mutated!`]. In a build that is not a test's
//! the answer is the literal `false`. `tests/mutations.rs` runs one scenario per mistake, without it
//! (must hold) and with it (must fail).

/// True while the named mistake is being made by this thread.
#[cfg(test)]
macro_rules! mutated {
    ($mutation:ident) => {
        $crate::watch::mutation::active($crate::watch::mutation::Mutation::$mutation)
    };
}

#[cfg(not(test))]
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}

pub(super) use mutated;

#[cfg(test)]
pub(super) use switch::{Mutation, active};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::watch) enum Mutation {
        ResumeAtHeader,
        TrustOldProgress,
        TrustByAnotherMembersVersion,
        ProgressBeforeCreated,
        ProgressOvertakes,
        LatestRevisionPerPage,
        LastPagesHeader,
        ClearThenFill,
        FragmentByFragment,
        CreatedBeforeCanceled,
        NoRegressionCheck,
        CompareWithPresentPosition,
        NoAudit,
        AuditReplaces,
        AuditResurrects,
        AuditOutlivesStream,
        StartAtPosition,
        NoSlash,
        CreatedHeaderAsPosition,
        SerializableList,
        FromNowHidesTheGap,
        ResumeAfterDecodeError,
    }

    thread_local! {
        static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    pub(in crate::watch) fn active(mutation: Mutation) -> bool {
        ACTIVE.get() == Some(mutation)
    }

    impl Mutation {
        /// Runs `scenario` with this mistake being made.
        pub(in crate::watch) fn during<T>(self, scenario: impl FnOnce() -> T) -> T {
            struct Reset;
            impl Drop for Reset {
                fn drop(&mut self) {
                    ACTIVE.set(None);
                }
            }
            ACTIVE.set(Some(self));
            let _reset = Reset;
            scenario()
        }
    }
}
