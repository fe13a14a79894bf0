//! How many bytes a compartment may still send on a stream.

use contract::compartment::{INITIAL_WINDOW, WINDOW_STEP};

/// The window of one stream of output.
#[derive(Debug)]
pub(super) struct Window {
    /// What may still be sent.
    left: u32,
    /// What was taken and is not given back yet.
    owed: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { left: INITIAL_WINDOW, owed: 0 }
    }
}

impl Window {
    /// Bytes have come; `None` if they are more than it allows.
    pub(super) fn use_up(&mut self, bytes: u32) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }

    /// Bytes have been taken; how many are to be given back now, if that is worth a message.
    pub(super) const fn give_back(&mut self, bytes: u32) -> Option<u32> {
        self.owed += bytes;
        if self.owed < WINDOW_STEP {
            return None;
        }
        let due = self.owed;
        self.owed = 0;
        self.left += due;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_given_back_in_steps_and_never_closes_for_good() {
        let mut window = Window::default();
        assert_eq!(window.give_back(0), None);
        let mut given = 0;
        for _ in 0..INITIAL_WINDOW {
            window.use_up(1).unwrap();
            given += window.give_back(1).unwrap_or(0);
        }
        assert_eq!(given, INITIAL_WINDOW);
        assert_eq!(window.use_up(INITIAL_WINDOW + 1), None);
        assert_eq!(window.use_up(INITIAL_WINDOW), Some(()));
        assert_eq!(window.use_up(1), None);
        assert_eq!(window.give_back(WINDOW_STEP - 1), None);
        assert_eq!(window.give_back(1), Some(WINDOW_STEP));
    }
}
