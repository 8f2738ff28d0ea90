//! Mappings for common logs. They are written as users write theirs, and can be copied from here.

use super::mapping::Mapping;

const PRESETS: [(&str, &str); 8] = [
    ("seed", include_str!("presets/seed.toml")),
    ("json", include_str!("presets/json.toml")),
    ("logfmt", include_str!("presets/logfmt.toml")),
    ("nginx", include_str!("presets/nginx.toml")),
    ("syslog", include_str!("presets/syslog.toml")),
    ("openssh", include_str!("presets/openssh.toml")),
    ("openstack", include_str!("presets/openstack.toml")),
    ("hdfs", include_str!("presets/hdfs.toml")),
];

/// The names of the presets.
pub fn preset_names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The preset of this name; the error is that there is none, or (never after the tests) that it is no TOML.
pub(super) fn preset(name: &str) -> Result<Mapping, String> {
    let all = || preset_names().collect::<Vec<_>>().join(", ");
    let (_, text) =
        PRESETS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("is no preset; there are {}", all()))?;
    toml::from_str(text).map_err(|e| format!("cannot be read: {e}"))
}
