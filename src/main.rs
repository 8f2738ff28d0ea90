//! The binary: parses, calls the library, and turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    gapless::cli::main().into()
}
