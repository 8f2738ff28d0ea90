//! The question before what cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use super::exit::Exit;

/// Goes on where `yes` was said before, or is said now on a terminal. Elsewhere nobody can be asked.
pub fn confirmed(yes: bool, question: &str) -> Result<(), Exit> {
    if yes {
        return Ok(());
    }
    let mut err = std::io::stderr();
    if !std::io::stdin().is_terminal() || !err.is_terminal() {
        return Err(Exit::usage("nothing was changed: say --yes, since nobody can be asked here"));
    }
    let mut answer = String::new();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    if asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer)).is_ok()
        && matches!(answer.trim(), "y" | "Y" | "yes")
    {
        return Ok(());
    }
    Err(Exit::missing("nothing was changed"))
}
