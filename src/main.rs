//! The binary: parses, calls the library, and turns the outcome into an exit code.

use std::process::ExitCode;

// A binary that ends at its first panic must not come into being: see tests/release.rs.
#[cfg(not(panic = "unwind"))]
compile_error!("build with panic = \"unwind\": the supervisor turns a panic into a restart, `abort` ends the node");

fn main() -> ExitCode {
    gapless::cli::main().into()
}
