//! Log files followed through everything that may happen to them: real files, a clock that the test turns, and the
//! truth computed from what was written.

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod meanwhile;
mod random;
mod situations;
mod world;
