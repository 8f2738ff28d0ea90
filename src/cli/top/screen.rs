//! The terminal: taken for the picture, and given back on every way out.

use std::io;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::sync::mpsc;

use super::picture::{View, compose};

/// Keys that wait to be obeyed; whoever types faster waits.
const KEYS_MAX: usize = 64;

/// A terminal without line editing, on its second screen. Dropping it puts everything back; a panic does so before it
/// prints its message.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    colours: bool,
    /// Of the picture that is shown: lines a page, and the farthest scroll.
    pub page: usize,
    pub scroll_max: usize,
}

impl Screen {
    pub fn open(colours: bool) -> io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self { terminal, colours, page: 0, scroll_max: 0 }),
            Err(error) => {
                restore();
                Err(error)
            }
        }
    }

    pub fn draw(&mut self, view: &View<'_>) -> io::Result<()> {
        let (mut page, mut scroll_max) = (0, 0);
        self.terminal.draw(|frame| {
            let area = frame.area();
            let picture = compose(view, area.width, area.height);
            (page, scroll_max) = (picture.page, picture.scroll_max);
            for (y, row) in (0..).zip(&picture.rows) {
                row.draw(frame.buffer_mut(), y, self.colours);
            }
        })?;
        (self.page, self.scroll_max) = (page, scroll_max);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.terminal.show_cursor();
        // A panic has done so already; once more would move the cursor up into its message.
        if !std::thread::panicking() {
            restore();
        }
    }
}

/// A terminal that is gone cannot be put in order, and there is nobody to tell.
fn restore() {
    let _ = ratatui::try_restore();
}

/// What is typed, from a thread of its own: reading a terminal blocks. It ends with the process.
pub(super) fn keys() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let event = event::read();
            let last = event.is_err();
            if sender.blocking_send(event).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}
