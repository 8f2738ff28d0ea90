//! What the world does while it is looked at: between any two questions to the file system a logger may write, rename and
//! truncate. In debug builds, and with the feature `failpoints`, a test is that logger.

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod staged {
    use std::cell::RefCell;

    type World = Box<dyn FnMut()>;

    thread_local! {
        static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    }

    /// From now on, `world` is called before each question to the file system that this thread asks.
    pub fn meanwhile(world: Option<World>) {
        WORLD.with(|slot| *slot.borrow_mut() = world);
    }

    pub(in super::super) fn passes() {
        // What it does itself is not interrupted.
        let world = WORLD.with(|slot| slot.borrow_mut().take());
        if let Some(mut world) = world {
            world();
            WORLD.with(|slot| *slot.borrow_mut() = Some(world));
        }
    }
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
pub use staged::meanwhile;
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub(super) use staged::passes;

/// Nothing: only tests know what happens meanwhile.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
pub(super) fn passes() {}
