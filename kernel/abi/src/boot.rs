//! The boot module: the one file the machine is booted with, beside the kernel.
//!
//! It holds every native program, already flattened into page-aligned segments, and the system description. The kernel reads only the
//! header and program 0 (root); root reads the rest through the frozen Space it is handed. All integers are little-endian; all file offsets of segments are multiples of
//! the page size and the file is padded to a whole page, so that segments can be mapped where they lie.
//!
//! ```text
//! Header | Program[program_count] | Segment[segment_count] | description blob | padding | segment contents ...
//! ```

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First eight bytes of a boot module.
pub const MAGIC: [u8; 8] = *b"METTBOOT";
/// Version of this format.
pub const VERSION: u32 = 1;

/// Start of the module.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Number of programs; program 0 is root.
    pub program_count: u32,
    /// Number of segments in the table that follows the programs.
    pub segment_count: u32,
    /// Zero.
    pub reserved: u32,
    /// File offset of the system description (postcard, `contract::system`).
    pub description_offset: u64,
    /// Its length in bytes.
    pub description_length: u64,
    /// Length of the whole module in bytes, a multiple of the page size.
    pub length: u64,
}

/// One native program.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Program {
    /// Name, padded with zeros.
    pub name: [u8; 32],
    /// Entry address (absolute, inside the home region).
    pub entry: u64,
    /// Index of its first segment.
    pub first_segment: u32,
    /// Number of its segments.
    pub segment_count: u32,
}

/// One page-aligned part of a program.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// Offset in the home Space, page-aligned.
    pub home_offset: u64,
    /// Offset of its contents in the module, page-aligned. The last page is padded with zeros.
    pub file_offset: u64,
    /// Whole pages of contents (0 for pure zero memory).
    pub file_pages: u64,
    /// Whole pages in memory, at least `file_pages`; the rest is zero.
    pub memory_pages: u64,
    /// Access of the pages (`space::Access` bits). Never both write and execute.
    pub access: u8,
    /// Zero.
    pub reserved: [u8; 7],
}
