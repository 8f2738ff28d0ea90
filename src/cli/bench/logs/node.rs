//! Node: what follows the files; whatever is not named here is as a user finds it.

use anyhow::Result;

use super::super::child::Child;
use super::super::server::Server;
use crate::ids::{Kind, PipelineId};
use crate::store::keys::Keys;

/// What a measurement changes.
#[derive(Debug)]
pub struct Followed<'a> {
    /// The pattern of the files.
    pub pattern: &'a str,
    /// How many they are.
    pub files: u32,
    /// Entries that the stream may hold: its bound is not what is measured.
    pub entries: u64,
    /// Changes are noticed by polling alone.
    pub is_polled: bool,
}

impl Followed<'_> {
    /// A node that follows them.
    pub fn node(&self, server: &Server, name: &str) -> Result<Child> {
        let (url, pattern) = (server.url(), serde_json::to_string(self.pattern)?);
        let (files, entries) = (self.files.max(1000), self.entries.max(1000));
        let watch = if self.is_polled { "poll" } else { "auto" };
        let text = format!(
            "[redis]\nurl = \"{url}\"\n[logs.bench]\npaths = [{pattern}]\nstream_entries_max = {entries}\n\
             files_max = {files}\nwatch = \"{watch}\"\n"
        );
        Child::node(server.folder(), name, &text, &[])
    }
}

/// The stream of the pipeline `logs.bench`.
pub fn stream() -> String {
    Keys::new("gapless").output(&PipelineId::new(Kind::Logs, "bench"), "lines")
}
