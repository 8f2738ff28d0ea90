//! Levels as severities of UDM.

use super::super::level::level_of_number;

/// The severities of UDM.
pub(super) const SEVERITIES: [&str; 8] =
    ["UNKNOWN_SEVERITY", "INFORMATIONAL", "ERROR", "NONE", "LOW", "MEDIUM", "HIGH", "CRITICAL"];
/// The same for errors.
pub(super) const FITS: &str = "UNKNOWN_SEVERITY, INFORMATIONAL, ERROR, NONE, LOW, MEDIUM, HIGH or CRITICAL";

/// What a level in capitals, or a number of syslog, pino or Google, is in UDM.
pub(super) fn severity(level: &str) -> &'static str {
    match level {
        "TRACE" | "TRC" | "DEBUG" | "DBG" | "VERBOSE" | "VRB" | "FINE" | "FINER" | "FINEST" | "INFO" | "INF"
        | "INFORMATION" | "INFORMATIONAL" | "NOTICE" => "INFORMATIONAL",
        "WARN" | "WARNING" | "WRN" => "MEDIUM",
        "ERROR" | "ERR" | "SEVERE" => "HIGH",
        "CRITICAL" | "CRIT" | "FATAL" | "FTL" | "PANIC" | "ALERT" | "EMERG" | "EMERGENCY" => "CRITICAL",
        _ => level_of_number(level.as_bytes()).map_or("UNKNOWN_SEVERITY", |level| severity(level.as_str())),
    }
}
