//! Room in the stream, before lines are appended to it.

use super::LogWatcher;
use crate::actors::turn::Error;

impl LogWatcher {
    /// Trims the stream, where it is nearly full or that was not done for a while. Lines that find no room wait, and
    /// with them the files.
    pub(super) async fn make_room(&self) -> Result<(), Error> {
        let stood = self.unit.lease.appended();
        if let Some(made) = self.life.room.make(&self.unit, stood.length, stood.is_full).await? {
            self.life.figures.trimmed(made.left, made.unread);
        }
        Ok(())
    }
}
