//! What one word of a page table says: the hardware's bits and the page's history in the software bits.
//!
//! ```text
//! hole     0
//! zero     not present, ZERO: a frame is given on first touch; also above the leaves, for a whole subtree
//! held     not present, HELD: the frame stays, but there is no access (PROT_NONE)
//! busy     not present, BUSY: copy-on-write is being broken; whoever meets it tries again
//! page     present: a frame
//! ```
//!
//! Logical write access is WANT_WRITE; the hardware's WRITE is off on a copy-on-write page. MAX_WRITE and MAX_EXECUTE bound what `protect` may
//! grant. COW and BORROWED stay with a page as long as it has its frame, SHARED also with its promise.

use kernel_abi::space::{Access, PageState};
use kernel_machine::{
    Frame,
    entry::{ACCESSED, DIRTY, FRAME_MASK, NO_EXECUTE, PRESENT, UNCACHED, USER, WRITE},
};

/// Copied before it is written.
pub const COW: u64 = 1 << 9;
/// Stays shared in a snapshot.
pub const SHARED: u64 = 1 << 10;
/// The frame belongs to a frozen Space (or is the zero page) and is not counted.
pub const BORROWED: u64 = 1 << 11;
/// Write may be granted.
pub const MAX_WRITE: u64 = 1 << 52;
/// Execute may be granted.
pub const MAX_EXECUTE: u64 = 1 << 53;
/// Not present, with a frame.
pub const HELD: u64 = 1 << 54;
/// Not present, demand-zero.
pub const ZERO: u64 = 1 << 55;
/// Logical write access.
pub const WANT_WRITE: u64 = 1 << 56;
/// Device memory: no frame of RAM, not counted.
pub const DEVICE: u64 = 1 << 57;
/// Pinned for DMA through this entry.
pub const PINNED: u64 = 1 << 58;
/// Not present, being copied. The bit is the frame's to use in no other state.
pub const BUSY: u64 = 1 << 3;

/// An entry that refers to a table: its rights are decided at the leaves.
pub const TABLE: u64 = PRESENT | WRITE | USER | ACCESSED;

/// One leaf entry, or a marker above the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEntry(pub u64);

impl PageEntry {
    /// Nothing there.
    pub const HOLE: Self = Self(0);

    /// A demand-zero marker.
    pub fn zero(access: Access, maximum: Access, shared: bool) -> Self {
        let mut bits = ZERO;
        if (access | maximum).contains(Access::WRITE) {
            bits |= MAX_WRITE;
        }
        if (access | maximum).contains(Access::EXECUTE) {
            bits |= MAX_EXECUTE;
        }
        if shared {
            bits |= SHARED;
        }
        Self(bits).with_access(access)
    }

    /// A page with a frame, with the history bits `history` and maximum rights in it.
    pub fn page(frame: Frame, history: u64, access: Access) -> Self {
        Self(frame.address() | history | HELD).with_access(access)
    }

    /// Whether nothing is there.
    pub const fn is_hole(self) -> bool {
        self.0 == 0
    }
    /// Whether the hardware walks it.
    pub const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }
    /// Whether it is a demand-zero marker.
    pub const fn is_zero(self) -> bool {
        self.0 & (PRESENT | ZERO) == ZERO
    }
    /// Whether a copy is under way.
    pub const fn is_busy(self) -> bool {
        self.0 & (PRESENT | ZERO | HELD | BUSY) == BUSY
    }
    /// Whether it has a frame (or device memory).
    pub const fn has_frame(self) -> bool {
        self.0 != 0 && !self.is_zero() && !self.is_busy()
    }
    /// Whether it has a history bit.
    pub const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }
    /// The frame.
    pub const fn frame(self) -> Frame {
        Frame::containing(self.0 & FRAME_MASK)
    }
    /// Whether the frame has a count: RAM that is not borrowed.
    pub const fn is_counted(self) -> bool {
        self.has_frame() && !self.has(BORROWED) && !self.has(DEVICE)
    }
    /// Bits that only an entry with a frame, or one that is being copied, has.
    pub const fn occupied(self) -> u64 {
        self.0 & (PRESENT | HELD | BUSY)
    }
    /// Whether a word above the leaves refers to a table.
    pub const fn is_table(self) -> bool {
        self.0 & TABLE == TABLE
    }
    /// Whether the hardware lets user mode write.
    pub const fn is_writable_now(self) -> bool {
        self.0 & (PRESENT | WRITE) == PRESENT | WRITE
    }

    /// The logical access.
    pub fn access(self) -> Access {
        let mut access = Access::empty();
        if self.0 & USER != 0 {
            access |= Access::READ;
            if self.0 & WANT_WRITE != 0 {
                access |= Access::WRITE;
            }
            if self.0 & NO_EXECUTE == 0 {
                access |= Access::EXECUTE;
            }
        }
        access
    }

    /// The most that `protect` may grant.
    pub fn maximum(self) -> Access {
        let mut access = Access::READ;
        access.set(Access::WRITE, self.has(MAX_WRITE));
        access.set(Access::EXECUTE, self.has(MAX_EXECUTE));
        access
    }

    /// The same page with another logical access.
    pub fn with_access(self, access: Access) -> Self {
        let mut bits = self.0 & !(PRESENT | WRITE | USER | WANT_WRITE | HELD) | NO_EXECUTE;
        let is_zero = self.is_zero();
        if access.is_empty() {
            return Self(if is_zero { bits } else { bits | HELD });
        }
        bits |= USER;
        if access.contains(Access::WRITE) {
            bits |= WANT_WRITE;
        }
        if access.contains(Access::EXECUTE) {
            bits &= !NO_EXECUTE;
        }
        if is_zero {
            return Self(bits);
        }
        bits |= PRESENT;
        if access.contains(Access::WRITE) && bits & COW == 0 {
            bits |= WRITE;
        }
        Self(bits)
    }

    /// The same page, copied before it is written.
    pub const fn copied_on_write(self) -> Self {
        Self((self.0 | COW) & !WRITE)
    }

    /// The same page without some history bits, its hardware bits made to fit.
    pub fn without_history(self, bits: u64) -> Self {
        Self(self.0 & !bits).with_access(self.access())
    }

    /// The same rights and history on another frame, which this Space owns.
    pub fn on_frame(self, frame: Frame) -> Self {
        let kept = self.0 & (SHARED | MAX_WRITE | MAX_EXECUTE);
        Self::page(frame, kept, self.access())
    }

    /// The demand-zero marker that is left when the page gives its frame back.
    pub fn discarded(self) -> Self {
        Self(ZERO | self.0 & (SHARED | MAX_WRITE | MAX_EXECUTE)).with_access(self.access())
    }

    /// What `query` reports.
    pub fn state(self) -> PageState {
        if self.is_zero() {
            PageState::Zero
        } else if self.has(BORROWED) {
            PageState::Borrowed
        } else if self.has(COW) || self.is_busy() {
            PageState::Cow
        } else if self.is_hole() {
            PageState::Hole
        } else {
            PageState::Present
        }
    }

    /// Whether the hardware has seen an access, and a write.
    pub const fn touched(self) -> (bool, bool) {
        (self.is_present() && self.0 & ACCESSED != 0, self.is_present() && self.0 & DIRTY != 0)
    }

    /// A device page: uncached, never executable.
    pub fn device(address: u64) -> Self {
        Self(address & FRAME_MASK | UNCACHED | DEVICE | MAX_WRITE | HELD)
            .with_access(Access::READ | Access::WRITE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_survives_a_round_trip_in_every_state() {
        let frame = Frame::new(7);
        for bits in 0..8 {
            let access = Access::from_bits_truncate(bits);
            let expected = if access.contains(Access::READ) || access.is_empty() {
                access
            } else {
                access | Access::READ
            };
            for history in [0, COW, SHARED, BORROWED, COW | BORROWED] {
                let page = PageEntry::page(frame, history, access);
                assert_eq!(page.access(), expected);
                assert_eq!(page.frame(), frame);
                assert!(page.has_frame() && !page.is_zero() && !page.is_hole());
                assert_eq!(page.is_writable_now(), access.contains(Access::WRITE) && history & COW == 0);
                assert_eq!(page.with_access(Access::empty()).with_access(access), page);
            }
            let marker = PageEntry::zero(access, Access::empty(), true);
            assert!(marker.is_zero() && !marker.is_present());
            assert_eq!(marker.access(), expected);
        }
    }
}
