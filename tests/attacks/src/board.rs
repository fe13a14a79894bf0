//! The board: what a compartment of this suite and the referee tell each other, in the words of the port that every compartment gets.
//!
//! No ring is used, so that the port's whole memory is the attacker's to write; the referee trusts nothing on it but its victim's words.

use core::sync::atomic::{AtomicU64, Ordering};
use rt::{Result, Space, abi::space::Access, view::View};

/// Rounds that the victim has worked, or attempts that the attacker has made.
pub(crate) const ROUNDS: usize = 0;
/// What has become of it: one of the numbers below.
pub(crate) const STATE: usize = 1;
/// Why, beside the state: where it failed and what it saw.
pub(crate) const WHERE: usize = 2;
/// See [`WHERE`].
pub(crate) const SEEN: usize = 3;

/// Slots that the hoarder fills: the first, how many, and from one to the next. More than one answer holds, in tables far apart.
pub(crate) const HOARD: [u64; 3] = [1000, 600, 97];

/// It has not begun.
pub(crate) const NOTHING: u64 = 0;
/// It works.
pub(crate) const BEGUN: u64 = 1;
/// The attacker got nowhere.
pub(crate) const HELD: u64 = 2;
/// The attacker got something; or the victim lost something.
pub(crate) const BROKEN: u64 = 3;

/// The board in this program's memory.
pub(crate) struct Board(View);

impl Board {
    /// Maps the first page of a port.
    pub(crate) fn open(space: Space) -> Result<Self> {
        View::map(space, 0, 1, Access::READ | Access::WRITE).map(Self)
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        let place = self.0.pointer().cast::<AtomicU64>().wrapping_add(index);
        // SAFETY: the view is a page, the indices are those above, and every value is a valid word whoever writes it.
        unsafe { &*place }
    }

    /// Reads a word.
    pub(crate) fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    /// Writes a word.
    pub(crate) fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }
}
