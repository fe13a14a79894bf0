//! Where the linker put the parts of the image.

use crate::types::entry;
use core::ops::Range;

/// Address of physical byte 0 in the image's mapping.
pub(super) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

unsafe extern "C" {
    static mett_image_start: u8;
    static mett_text_end: u8;
    static mett_rodata_end: u8;
    static mett_image_end: u8;
}

fn address(symbol: *const u8) -> u64 {
    symbol.addr() as u64
}

/// Physical address of the image's first byte.
pub(super) fn image_start() -> u64 {
    address(&raw const mett_image_start) - IMAGE_BASE
}

/// Physical address after the image's last byte.
pub(super) fn image_end() -> u64 {
    address(&raw const mett_image_end) - IMAGE_BASE
}

/// The image's parts with their page rights: nothing is both writable and executable.
pub(super) fn sections() -> [(Range<u64>, u64); 3] {
    let start = address(&raw const mett_image_start);
    let text_end = address(&raw const mett_text_end);
    let rodata_end = address(&raw const mett_rodata_end);
    let end = address(&raw const mett_image_end);
    [
        (start..text_end, 0),
        (text_end..rodata_end, entry::NO_EXECUTE),
        (rodata_end..end, entry::WRITE | entry::NO_EXECUTE),
    ]
}

/// Whether an address is in the image's code.
pub(super) fn is_code(candidate: u64) -> bool {
    (address(&raw const mett_image_start)..address(&raw const mett_text_end)).contains(&candidate)
}
