//! Spaces: page rights, kinds of Space, modes of mapping and the state of a page.

use bitflags::bitflags;

bitflags! {
    /// Access to a page. Write implies read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Readable.
        const READ = 1;
        /// Writable.
        const WRITE = 2;
        /// Executable.
        const EXECUTE = 4;
    }
}

/// What a Space is for; fixed when it is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SpaceUse {
    /// Holds memory only: an image, a ring, a file, a template.
    Hold = 0,
    /// A native program's own memory: offsets 0..`HOME_SIZE` appear at `HOME_BASE`.
    Home = 1,
    /// A guest process of the compartment whose home Space is named at creation: offsets are guest addresses.
    Guest = 2,
}

/// How `space_map` relates destination to source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MapMode {
    /// Both see the same frames. Holes of the source stay holes within one Domain and are an error across Domains.
    Share = 0,
    /// The destination is copy-on-write, the source is not touched (MAP_PRIVATE). Demand-zero pages become demand-zero.
    Private = 1,
    /// Both sides become copy-on-write; pages with the shared bit stay shared (fork).
    Snapshot = 2,
    /// Pages leave the source and arrive in the destination (mremap).
    Move = 3,
}

impl MapMode {
    /// Decodes a mode number.
    #[must_use]
    pub const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            0 => Self::Share,
            1 => Self::Private,
            2 => Self::Snapshot,
            3 => Self::Move,
            _ => return None,
        })
    }
}

/// Flag of `space_map`'s mode word: set the shared bit on the destination's entries, so that snapshots keep sharing them (MAP_SHARED).
pub const MAP_SHARED_BIT: u64 = 1 << 8;

/// What `space_query` says about one page, packed into its first result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PageState {
    /// Nothing there: a touch faults to the personality or kills a service.
    Hole = 0,
    /// Demand-zero: the kernel gives a zeroed frame on first touch.
    Zero = 1,
    /// A frame owned or shared by this Space.
    Present = 2,
    /// A frame that is copied before it is written.
    Cow = 3,
    /// A frame of a frozen Space (or the zero page), without a count.
    Borrowed = 4,
}
