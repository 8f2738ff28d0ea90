//! What the keys do: sections, scrolling, order, pause.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::sections::Order;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Section {
    /// All of it, one below the other.
    #[default]
    All,
    Nodes,
    Pipelines,
    Units,
    Mailboxes,
    Moves,
}

impl Section {
    /// In the order of Tab.
    pub const ALL: [Section; 6] =
        [Section::All, Section::Nodes, Section::Pipelines, Section::Units, Section::Mailboxes, Section::Moves];

    pub fn title(self) -> &'static str {
        match self {
            Section::All => "all",
            Section::Nodes => "nodes",
            Section::Pipelines => "pipelines",
            Section::Units => "units",
            Section::Mailboxes => "mailboxes",
            Section::Moves => "moves",
        }
    }

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|section| *section == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// What was chosen by keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Controls {
    pub section: Section,
    /// Lines of the body above the first one shown.
    pub scroll: usize,
    pub order: Order,
    pub paused: bool,
    pub help: bool,
}

/// What follows from a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Quit,
    Redraw,
    Nothing,
}

impl Controls {
    /// Obeys a key. `page` and `scroll_max` are those of the picture that is shown.
    pub fn key(&mut self, key: KeyEvent, page: usize, scroll_max: usize) -> Step {
        if key.kind == KeyEventKind::Release {
            return Step::Nothing;
        }
        let page = page.max(1);
        match key.code {
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return Step::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll = self.scroll.saturating_add(page),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = scroll_max,
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Section::ALL.len() - 1),
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('s') => {
                self.order = match self.order {
                    Order::Name => Order::Worst,
                    Order::Worst => Order::Name,
                }
            }
            // Every other key of the library's long list.
            _ => return Step::Nothing,
        }
        self.scroll = self.scroll.min(scroll_max);
        Step::Redraw
    }

    fn turn(&mut self, by: usize) {
        self.section = self.section.step(by);
        self.scroll = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(controls: &mut Controls, code: KeyCode) -> Step {
        controls.key(KeyEvent::new(code, KeyModifiers::NONE), 10, 25)
    }

    #[test]
    fn keys_scroll_within_the_body() {
        let mut controls = Controls::default();
        for (code, scroll) in [
            (KeyCode::Up, 0),
            (KeyCode::Down, 1),
            (KeyCode::PageDown, 11),
            (KeyCode::PageDown, 21),
            (KeyCode::PageDown, 25),
            (KeyCode::PageUp, 15),
            (KeyCode::End, 25),
            (KeyCode::Home, 0),
        ] {
            assert_eq!((press(&mut controls, code), controls.scroll), (Step::Redraw, scroll), "{code:?}");
        }
    }

    #[test]
    fn tab_goes_round_and_begins_at_the_top() {
        let mut controls = Controls { scroll: 7, ..Controls::default() };
        for section in [1, 2, 3, 4, 5, 0].map(|at| Section::ALL[at]) {
            press(&mut controls, KeyCode::Tab);
            assert_eq!((controls.section, controls.scroll), (section, 0));
        }
        press(&mut controls, KeyCode::BackTab);
        assert_eq!(controls.section, Section::Moves);
    }

    #[test]
    fn the_end_and_the_switches() {
        let mut controls = Controls::default();
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut controls, code), Step::Quit);
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(controls.key(interrupt, 10, 0), Step::Quit);
        assert_eq!(press(&mut controls, KeyCode::Char('c')), Step::Nothing);
        for code in ['p', '?', 's'].map(KeyCode::Char) {
            assert_eq!(press(&mut controls, code), Step::Redraw);
        }
        assert!(controls.paused && controls.help && controls.order == Order::Worst, "{controls:?}");
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(controls.key(released, 10, 0), Step::Nothing);
    }
}
