//! The binary: parses, calls the library, and turns the outcome into an exit code.
fn main() {}
