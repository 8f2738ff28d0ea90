//! Log lines as events in the shape of UDM, the Unified Data Model of Google Security Operations.
//!
//! [`Mapping`] says in the configuration where each part of an event comes from; [`Parser`] is a mapping that was
//! checked. Parsing is pure: the same line with the same [`Facts`] is the same event, byte for byte. What the mapping
//! does not name is kept under `additional`; a line that cannot be parsed comes back as [`Unparsed`] with its reason.
//!
//! | file | what it knows |
//! |---|---|
//! | `event` | the shape of an event, and which paths can be mapped |
//! | `mapping` | what is configured, and how it lies over a preset |
//! | `presets` | mappings for common logs, as TOML |
//! | `check` | everything that can be wrong with a mapping |
//! | `source` | lines of JSON, `key=value` and text as named values |
//! | `time` | timestamps in any form |
//! | `severity` | levels as severities of UDM |
//! | `parse` | the way from a line to an event |

mod check;
mod event;
mod mapping;
mod parse;
mod presets;
mod severity;
mod source;
mod time;

pub use self::check::{MappingFault, Parser};
pub use self::event::{Event, File, Http, Metadata, Network, Noun, Process, Resource, SecurityResult, User, paths};
pub use self::mapping::{Format, Mapping, Rule, SeverityMapping, Sources, TimeMapping};
pub use self::parse::{Facts, Unparsed};
pub use self::presets::preset_names;

/// The longest line that is parsed, in bytes. An event is at most some six times as long.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Most patterns of a mapping, and most rules.
pub const PATTERNS_MAX: usize = 100;
/// The longest pattern, in bytes; compiled it may take 2 MiB.
pub const PATTERN_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests;
