//! `gapless completions` and `gapless man`: what the description of the arguments is good for beside parsing.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::exit::Exit;
use super::output;

/// `gapless completions SHELL`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that is to read them
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `gapless man [DIR]`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page a command into this folder, which is made where it is missing
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the script of a shell.
pub fn completions(mut command: Command, args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "gapless", &mut script);
    output::text(&String::from_utf8_lossy(&script), Exit::good())
}

/// Prints the main page, or writes all of them.
pub fn man(command: Command, args: &ManArgs) -> Exit {
    match &args.dir {
        Some(dir) => match write_pages(command, dir) {
            Ok(()) => Exit::good(),
            Err(error) => Exit::usage(&format!("cannot write man pages to {}: {error}", dir.display())),
        },
        None => {
            let mut page = Vec::new();
            match Man::new(command).render(&mut page) {
                Ok(()) => output::text(&String::from_utf8_lossy(&page), Exit::good()),
                Err(error) => Exit::usage(&format!("the page cannot be written: {error}")),
            }
        }
    }
}

fn write_pages(command: Command, dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command, dir)
}
