//! A view of a store: blocks as files that are named by their bare height, for programs that read such folders.
//!
//! ```text
//! 4711              the block, indented with two spaces (`indent`); with a suffix if one is set
//! .gapless/view     which view this is: another folder, or an emptied one, is another view
//! .gapless/*.tmp    being written
//! ```
//!
//! It is no store: everything in it can be made again, so a file that says something else is replaced, in one step where
//! the file system can exchange two files. A name has no file or a whole one. A writer that wakes up late may put an
//! earlier copy of the same block there.
//!
//! | a crash after | leaves | next time |
//! |---|---|---|
//! | writing the temporary | nothing under the name, or what stood there | swept by the next start of that node, or after an hour |
//! | the hard link, or the exchange | the whole file (a power cut may still take it back) | compared, and found equal |
//! | the sync of the folder | the whole file, for good | not asked for again once the commit stands |

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::durable::{Opened, Placed, Scratch, Temporary, sync_folder};
use super::indent::indent;
use super::{SinkError, blocking};
use crate::ids::RandomId;
use crate::messages::heights::Height;

/// Files written at a time: writers wait for the disk.
const WRITERS: usize = 8;
/// The longest text of a view's file that is read to compare it: four times the largest block.
const VIEW_BYTES_MAX: u64 = 4 * super::block_files::BLOCK_BYTES_MAX;

/// A folder of bare-height names. Clones share it.
#[derive(Debug, Clone)]
pub struct BareNames {
    folder: Arc<PathBuf>,
    suffix: &'static str,
    incarnation: Arc<str>,
    free: Arc<Semaphore>,
    /// Whether what a former life of this node left was looked for.
    swept: Arc<AtomicBool>,
}

impl BareNames {
    /// A view in `folder`, whose names end in `suffix`. Touches nothing yet.
    pub fn new(folder: &Path, suffix: &'static str, incarnation: &str) -> Self {
        Self {
            folder: Arc::new(folder.to_owned()),
            suffix,
            incarnation: incarnation.into(),
            free: Arc::new(Semaphore::new(WRITERS)),
            swept: Arc::default(),
        }
    }

    /// Makes the folder ready, durably, and answers which view it is; one that was emptied, or lies elsewhere, is
    /// another one. The suffix is part of it. Safe to repeat and to race.
    pub async fn view(&self) -> Result<String, SinkError> {
        let view = self.clone();
        self.run(move || view.open().map(|(_, id)| format!("{id}{}", view.suffix))).await
    }

    /// Makes each block stand under its height, indented; all of them are durable when it returns. Answers those that
    /// are no JSON, with the reason; they have no name. Safe to repeat; after an error or a crash some may stand there,
    /// each whole.
    pub async fn put(&self, blocks: Vec<(Height, Bytes)>) -> Result<Vec<(Height, String)>, SinkError> {
        let put = |(height, raw): (Height, Bytes)| {
            let view = self.clone();
            self.run(move || match indent(&raw) {
                Ok(text) => view.put_one(height, &text).map(|()| None),
                Err(reason) => Ok(Some((height, reason))),
            })
        };
        let refused: Vec<_> = stream::iter(blocks).map(put).buffer_unordered(WRITERS).try_collect().await?;
        let folder = self.folder.clone();
        self.run(move || sync_folder(&folder)).await?;
        Ok(refused.into_iter().flatten().collect())
    }

    /// Work keeps its permit to its end, even when its future is dropped: cut turns do not pile up threads.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let permit = Arc::clone(&self.free).acquire_owned().await.map_err(|_| SinkError::Stopping)?;
        blocking(move || {
            let _permit = permit;
            work()
        })
        .await
    }

    fn open(&self) -> Result<(Scratch, String), SinkError> {
        let own = self.folder.join(".gapless");
        let path = own.join("view");
        let scratch = Scratch::open(&own, &self.incarnation)?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            scratch.sweep()?;
        }
        // Two looks are enough unless somebody removes the folder at the same time.
        for _ in 0..4 {
            if let Some(there) = Opened::read(&path, 200)? {
                let id = there.bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
                return Ok((scratch, id.trim().to_owned()));
            }
            scratch.write(format!("{}\n", RandomId::new()).as_bytes())?.place(&path)?;
            sync_folder(&own)?;
        }
        Err(SinkError::Contended { path })
    }

    fn put_one(&self, height: Height, text: &[u8]) -> Result<(), SinkError> {
        let path = self.folder.join(format!("{height}{}", self.suffix));
        let scratch = Scratch::at(&self.folder.join(".gapless"), &self.incarnation);
        if let Some(there) = Opened::read(&path, VIEW_BYTES_MAX)? {
            if there.bytes.as_ref().is_ok_and(|bytes| *bytes == text) {
                return there.file.sync_data().map_err(|e| SinkError::io("sync", &path, e));
            }
            tracing::warn!(file = %path.display(), "a file of the view says something else; replaced");
            return replace(scratch.write(text)?, &path);
        }
        match scratch.write(text)?.place(&path)? {
            Placed::New => Ok(()),
            // Another writer of the same view was here; what it wrote is judged.
            Placed::Exists if fs::read(&path).is_ok_and(|bytes| bytes == text) => Ok(()),
            Placed::Exists => replace(scratch.write(text)?, &path),
        }
    }
}

/// Gives a file its name whatever stands there; in one step where the file system can exchange two files.
fn replace(file: Temporary, path: &Path) -> Result<(), SinkError> {
    if file.exchange(path)? {
        return Ok(());
    }
    fs::remove_file(path).map_err(|e| SinkError::io("remove", path, e))?;
    // Whoever is quicker has put the same block there.
    file.place(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::count;
    use super::*;

    fn names(root: &Path) -> BareNames {
        BareNames::new(&root.join("view"), "", "a")
    }

    fn raw(text: &str) -> Bytes {
        Bytes::from(format!(r#"{{"a":"{text}","b":[]}}"#))
    }

    fn shown(text: &str) -> String {
        format!("{{\n  \"a\": \"{text}\",\n  \"b\": []\n}}")
    }

    #[tokio::test]
    async fn blocks_stand_indented_under_their_heights() {
        let root = tempfile::tempdir().expect("a folder");
        let view = names(root.path());
        view.view().await.expect("ready");
        let heights = (0..40).map(|h| (h, raw(&h.to_string())));
        for _ in 0..2 {
            view.put(heights.clone().collect()).await.expect("put");
        }
        for height in 0..40 {
            let text = fs::read_to_string(root.path().join(format!("view/{height}"))).expect("a file");
            assert_eq!(text, shown(&height.to_string()));
        }
        assert_eq!(count(root.path().join("view")), 41);
        assert_eq!(count(root.path().join("view/.gapless")), 1, "no temporary stays");
        let with = BareNames::new(&root.path().join("view"), ".json", "a");
        with.put(vec![(7, raw("x"))]).await.expect("put");
        assert_eq!(fs::read_to_string(root.path().join("view/7.json")).expect("a file"), shown("x"));
    }

    #[tokio::test]
    async fn a_file_that_says_something_else_is_replaced_whole() {
        let root = tempfile::tempdir().expect("a folder");
        let view = names(root.path());
        view.view().await.expect("ready");
        let path = root.path().join("view/5");
        for other in ["", "{", "{\n  \"a\": \"torn", &shown("older")] {
            fs::write(&path, other).expect("written");
            view.put(vec![(5, raw("new"))]).await.expect("put");
            assert_eq!(fs::read_to_string(&path).expect("a file"), shown("new"));
        }
        let refused = view.put(vec![(6, Bytes::from_static(b"{")), (8, raw("x"))]).await.expect("the other one");
        assert!(refused.len() == 1 && refused[0].0 == 6 && refused[0].1.contains("no JSON"), "{refused:?}");
        assert!(root.path().join("view/8").exists());
        assert!(!root.path().join("view/6").exists());
    }

    #[tokio::test]
    async fn an_emptied_folder_is_another_view() {
        let root = tempfile::tempdir().expect("a folder");
        let first = names(root.path()).view().await.expect("ready");
        assert_eq!(names(root.path()).view().await.expect("ready"), first, "it stays the same");
        let with = BareNames::new(&root.path().join("view"), ".json", "a").view().await.expect("ready");
        assert_ne!(with, first, "other names are another view");
        fs::write(root.path().join("view/.gapless/a-1.tmp"), b"torn").expect("a crash");
        fs::remove_file(root.path().join("view/.gapless/view")).expect("removed");
        assert_ne!(names(root.path()).view().await.expect("ready"), first);
        assert_eq!(count(root.path().join("view/.gapless")), 1, "what a crash left is swept");
    }
}
