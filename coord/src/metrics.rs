//! The names of the metrics, through the `metrics` facade: the same across releases, so that a
//! dashboard outlives an upgrade.

/// Counter, by `prefix`: config changes that were refused. The value from before stays in use.
pub(crate) const CONFIG_REFUSALS: &str = "coord_config_refusals_total";
/// Counter: records of config history that could not be read and were skipped.
pub(crate) const BAD_CONFIG_RECORDS: &str = "coord_config_bad_records_total";
/// Counter: registry records that could not be read and were skipped.
pub(crate) const BAD_RECORDS: &str = "coord_registry_bad_records_total";
