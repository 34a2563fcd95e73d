//! [`Error`]: one enum, cut by what the caller can do about it.
//!
//! A variant answers "what now?": try again, give up, fix the input, free the key. Where in the
//! library it came from does not split variants; the operation, the key and the cause are fields of
//! every one of them. `Display` says only this error's own level; the cause is in
//! [`source`](std::error::Error::source), so a report that walks the chain prints nothing twice.
//! No variant ever holds a secret value.

use std::{
    error::Error as StdError,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where an error happened: the operation, the key, and what lay below.
#[derive(Clone, Debug)]
pub struct Context(Box<Place>);

#[derive(Clone, Debug)]
struct Place {
    operation: &'static str,
    key: Option<String>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Context {
    pub(crate) fn new(operation: &'static str) -> Self {
        Self(Box::new(Place {
            operation,
            key: None,
            cause: None,
        }))
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.0.key = Some(key.into());
        self
    }

    pub(crate) fn cause(mut self, cause: impl StdError + Send + Sync + 'static) -> Self {
        self.0.cause = Some(Arc::new(cause));
        self
    }

    /// What was being done, in the infinitive: `"acquire lock"`, `"read config"`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The key, name or prefix it was done to.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.0.key.as_deref()
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.operation)?;
        match &self.0.key {
            Some(key) => write!(f, " `{}`", Plain(key)),
            None => Ok(()),
        }
    }
}

/// What others wrote, without the characters that a terminal or a log would obey.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

/// Who holds a lock: what the holder wrote into its queue entry.
///
/// Entries of other clients of the same queue (Go's `concurrency.Mutex`, `etcdctl lock`) carry no
/// such record: then only `entry` is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// Host name of the holding process.
    #[serde(default)]
    pub host: String,
    /// Process id on that host.
    #[serde(default)]
    pub pid: u32,
    /// The service or module name of the holder's coordinator, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// When the holder queued, in milliseconds since the Unix epoch by its own clock.
    #[serde(default)]
    pub since_ms: u64,
    /// The etcd key of the queue entry.
    #[serde(skip)]
    pub entry: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Plain(&self.host);
        match &self.service {
            _ if self.host.is_empty() => write!(f, "`{}`", Plain(&self.entry)),
            Some(service) => write!(f, "{} (pid {} on {host})", Plain(service), self.pid),
            None => write!(f, "pid {} on {host}", self.pid),
        }
    }
}

/// Why something that was held is held no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// The lease ran out, or its local deadline passed with no confirmed renewal.
    Expired,
    /// The lease was revoked, or the key was deleted by somebody else.
    Revoked,
    /// At the end it could not be shown that it was held throughout.
    Unconfirmed,
    /// The longest time that the holder allowed itself has passed.
    MaxHold,
    /// The coordinator was closed while it was held.
    Closed,
    /// It was given back, before this was asked of it.
    Released,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease expired or could not be renewed in time",
            Self::Revoked => "it was revoked or deleted from outside",
            Self::Unconfirmed => "it could not be confirmed",
            Self::MaxHold => "it was held longer than allowed",
            Self::Closed => "the coordinator was closed",
            Self::Released => "it was given back",
        })
    }
}

/// What went wrong, by what the caller can do about it.
///
/// ```
/// # fn handle(error: coord::Error) {
/// match error {
///     e if e.is_retryable() => eprintln!("{e}; trying again"),
///     e @ coord::Error::Invalid { .. } => eprintln!("a fault in the program or its settings: {e}"),
///     e => eprintln!("[{}] {e}", e.code()),
/// }
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// etcd could not be reached, or could not answer now. Try again later.
    Unavailable {
        /// Where it happened.
        context: Context,
        /// True if the request may have taken effect although it failed.
        maybe_applied: bool,
        /// What was found, for example the endpoints with their last errors.
        detail: String,
    },
    /// It took longer than allowed. For a lock: who held it, and how many were ahead.
    Timeout {
        /// Where it happened.
        context: Context,
        /// The limit that passed.
        limit: Duration,
        /// True if the request may have taken effect although it failed.
        maybe_applied: bool,
        /// The holder that was waited for, if there was one.
        holder: Option<Box<Holder>>,
        /// How many queue entries were ahead at the end, if that is known.
        position: Option<u32>,
    },
    /// The input can never work. All faults that were found, one per line.
    Invalid {
        /// Where it happened.
        context: Context,
        /// Every fault, each complete in itself. Never empty.
        faults: Vec<String>,
    },
    /// What was asked for does not exist.
    NotFound {
        /// Where it happened.
        context: Context,
    },
    /// Somebody else changed it first. Read again and decide anew.
    Conflict {
        /// Where it happened.
        context: Context,
        /// The current version (the key's `mod_revision`; 0: it does not exist).
        current: i64,
    },
    /// It is held by somebody else, and the caller asked not to wait.
    Busy {
        /// Where it happened.
        context: Context,
        /// Who holds it, if that could be read.
        holder: Option<Box<Holder>>,
    },
    /// What was held is held no longer. Work done under it may overlap with the next holder's.
    Lost {
        /// Where it happened.
        context: Context,
        /// Why it is gone.
        reason: LostReason,
    },
    /// The caller waits for something that it holds itself.
    WouldDeadlock {
        /// Where it happened.
        context: Context,
    },
    /// A bounded resource has none left.
    Exhausted {
        /// Where it happened.
        context: Context,
        /// What is used up and its size.
        detail: String,
    },
    /// etcd refused the user or the permission.
    Denied {
        /// Where it happened.
        context: Context,
        /// etcd's own words.
        detail: String,
    },
    /// No coordinator: none was set, and the environment names none.
    NotConfigured {
        /// Where it happened.
        context: Context,
        /// What to set.
        detail: String,
    },
    /// The coordinator has been closed.
    Closed {
        /// Where it happened.
        context: Context,
    },
}

impl Error {
    /// True if the same call may succeed later without any change: etcd was unreachable, a wait was
    /// too short, somebody else was faster or still holds it.
    ///
    /// A retry of a *write* is another matter when [`maybe_applied`](Self::maybe_applied) is true.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Conflict { .. }
            | Self::Busy { .. }
            | Self::Lost { .. }
            | Self::Exhausted { .. } => true,
            Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::WouldDeadlock { .. }
            | Self::Denied { .. }
            | Self::NotConfigured { .. }
            | Self::Closed { .. } => false,
        }
    }

    /// True if the operation may have taken effect, now or a moment later, although it failed.
    ///
    /// A write that timed out can still be in a queue: measured, 30 % of the writes sent to a
    /// stopped etcd were applied after it went on. "Failed" must not be read as "not done" here.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        match self {
            Self::Unavailable { maybe_applied, .. } | Self::Timeout { maybe_applied, .. } => {
                *maybe_applied
            }
            _ => false,
        }
    }

    /// A short name that stays the same across releases, for logs, metrics and API answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Timeout { .. } => "timeout",
            Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Busy { .. } => "busy",
            Self::Lost { .. } => "lost",
            Self::WouldDeadlock { .. } => "would_deadlock",
            Self::Exhausted { .. } => "exhausted",
            Self::Denied { .. } => "denied",
            Self::NotConfigured { .. } => "not_configured",
            Self::Closed { .. } => "closed",
        }
    }

    /// Where it happened: the operation and the key.
    #[must_use]
    pub fn context(&self) -> &Context {
        match self {
            Self::Unavailable { context, .. }
            | Self::Timeout { context, .. }
            | Self::Invalid { context, .. }
            | Self::NotFound { context }
            | Self::Conflict { context, .. }
            | Self::Busy { context, .. }
            | Self::Lost { context, .. }
            | Self::WouldDeadlock { context }
            | Self::Exhausted { context, .. }
            | Self::Denied { context, .. }
            | Self::NotConfigured { context, .. }
            | Self::Closed { context } => context,
        }
    }

    pub(crate) fn invalid(operation: &'static str, fault: impl Into<String>) -> Self {
        Self::Invalid {
            context: Context::new(operation),
            faults: vec![fault.into()],
        }
    }

    pub(crate) fn closed(operation: &'static str) -> Self {
        Self::Closed {
            context: Context::new(operation),
        }
    }

    pub(crate) fn lost(operation: &'static str, key: &str, reason: LostReason) -> Self {
        Self::Lost {
            context: Context::new(operation).key(key),
            reason,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.context())?;
        match self {
            Self::Unavailable {
                maybe_applied,
                detail,
                ..
            } => {
                f.write_str(detail)?;
                applied(f, *maybe_applied)
            }
            Self::Timeout {
                limit,
                maybe_applied,
                holder,
                position,
                ..
            } => {
                write!(f, "not done within {}", humantime::format_duration(*limit))?;
                if let Some(holder) = holder {
                    write!(f, "; held by {holder}")?;
                }
                if let Some(position) = position {
                    write!(f, "; {position} ahead in the queue")?;
                }
                applied(f, *maybe_applied)
            }
            Self::Invalid { faults, .. } => match faults.as_slice() {
                [one] => f.write_str(one),
                many => {
                    write!(f, "{} faults", many.len())?;
                    many.iter().try_for_each(|fault| write!(f, "\n  - {fault}"))
                }
            },
            Self::NotFound { .. } => f.write_str("it does not exist"),
            Self::Conflict { current: 0, .. } => f.write_str("it was deleted in the meantime"),
            Self::Conflict { current, .. } => {
                write!(
                    f,
                    "it was changed in the meantime and is now at version {current}"
                )
            }
            Self::Busy {
                holder: Some(holder),
                ..
            } => write!(f, "it is held by {holder}"),
            Self::Busy { holder: None, .. } => f.write_str("it is held by somebody else"),
            Self::Lost { reason, .. } => write!(f, "{reason}"),
            Self::WouldDeadlock { .. } => {
                f.write_str("the caller holds it already and would wait for itself")
            }
            Self::Exhausted { detail, .. }
            | Self::Denied { detail, .. }
            | Self::NotConfigured { detail, .. } => f.write_str(detail),
            Self::Closed { .. } => f.write_str("the coordinator is closed"),
        }
    }
}

fn applied(f: &mut fmt::Formatter<'_>, maybe: bool) -> fmt::Result {
    if maybe {
        f.write_str(" (it may have taken effect)")
    } else {
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.context()
            .0
            .cause
            .as_deref()
            .map(|cause| cause as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys and queue entries come from anybody.
    #[test]
    fn what_others_wrote_commands_no_terminal() {
        let error = Error::Busy {
            context: Context::new("acquire lock").key("a\u{1b}[2J"),
            holder: Some(Box::new(Holder {
                host: "b\r\n".to_owned(),
                pid: 7,
                service: Some("ä\u{7}".to_owned()),
                ..Holder::default()
            })),
        };
        assert_eq!(
            error.to_string(),
            r"cannot acquire lock `a\u{1b}[2J`: it is held by ä\u{7} (pid 7 on b\r\n)"
        );
    }
}
