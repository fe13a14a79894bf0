//! What the loader says: the PVH start info (Xen's `hvm/start_info.h` describes its layout).
//!
//! The loader is trusted as the machine is; still, counts and lengths are bounded before they are used. Everything needed later is copied.

use super::memory::direct;
use crate::types::FrameRange;
use core::{
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};
use kernel_abi::{PAGE_SHIFT, PAGE_SIZE};

/// Most regions of the memory map that are kept.
pub(super) const MAX_REGIONS: usize = 64;
/// Longest command line that is kept.
const MAX_COMMAND_LINE: usize = 2048;
/// Kind of a region that is not RAM, or that firmware keeps.
const RESERVED: u32 = 2;
/// Kind of a region that firmware keeps across sleep.
const ACPI_STORAGE: u32 = 4;
/// First word of the start info.
const MAGIC: u32 = 0x336e_c578;
/// Boot maps this much.
const MAPPED: u64 = 1 << 32;

/// A region of the memory map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    pub start: u64,
    length: u64,
    kind: u32,
}

impl Region {
    pub(super) const fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
    /// RAM that is free for the kernel.
    pub(super) const fn is_usable(&self) -> bool {
        self.kind == 1
    }
    /// RAM, or what firmware keeps in it.
    pub(super) const fn is_memory(&self) -> bool {
        matches!(self.kind, 1 | 3 | 4)
    }
}

/// The parts of the start info that are used.
#[derive(Debug)]
pub(super) struct BootInfo {
    pub regions: [Region; MAX_REGIONS],
    pub region_count: usize,
    pub module: Option<FrameRange>,
    pub command_line: &'static [u8],
    pub acpi_root: u64,
    pub first_instruction: u64,
}

impl BootInfo {
    pub(super) fn regions(&self) -> &[Region] {
        &self.regions[..self.region_count]
    }
}

/// Storage of the command line.
struct CommandLine {
    is_taken: AtomicBool,
    bytes: UnsafeCell<[u8; MAX_COMMAND_LINE]>,
}

// SAFETY: `take` hands the bytes out once.
unsafe impl Sync for CommandLine {}

static COMMAND_LINE: CommandLine =
    CommandLine { is_taken: AtomicBool::new(false), bytes: UnsafeCell::new([0; MAX_COMMAND_LINE]) };

unsafe extern "C" {
    static mett_first_instruction: u64;
}

/// Reads a value from physical memory that boot has mapped.
fn read<T: Copy>(physical: u64) -> Option<T> {
    if physical == 0 || physical > MAPPED - PAGE_SIZE {
        return None;
    }
    let pointer = ptr::with_exposed_provenance::<T>(direct(physical) as usize);
    // SAFETY: the first 4 GiB are mapped, and `T` is an integer, of which any bytes are a value.
    Some(unsafe { pointer.read_unaligned() })
}

/// Reads the start info at a physical address.
pub(super) fn parse(info: u64) -> BootInfo {
    let word = |offset: u64| read::<u32>(info + offset).unwrap_or(0);
    let long = |offset: u64| read::<u64>(info + offset).unwrap_or(0);
    assert!(word(0) == MAGIC, "the loader does not speak PVH");
    let mut regions = [Region { start: 0, length: 0, kind: 0 }; MAX_REGIONS];
    let count = (word(48) as usize).min(MAX_REGIONS);
    let map = long(40);
    for (index, region) in regions.iter_mut().take(count).enumerate() {
        let at = map + 24 * index as u64;
        let length = read(at + 8).unwrap_or(0);
        *region = Region { start: read(at).unwrap_or(0), length, kind: read(at + 16).unwrap_or(0) };
    }
    keep_firmware_memory(&mut regions[..count]);
    let module = (word(12) > 0).then(|| module(long(16))).flatten();
    // SAFETY: written once, by the first instructions.
    let first_instruction = unsafe { mett_first_instruction };
    BootInfo {
        regions,
        region_count: count,
        module,
        command_line: command_line(long(24)),
        acpi_root: long(32),
        first_instruction,
    }
}

/// Firmware keeps its tables at the end of RAM in regions that it calls reserved: they are memory all the same, unlike reserved device windows.
fn keep_firmware_memory(regions: &mut [Region]) {
    for index in 0..regions.len() {
        let region = regions[index];
        let follows_ram = regions.iter().any(|other| other.is_usable() && other.end() == region.start);
        if region.kind == RESERVED && follows_ram {
            regions[index].kind = ACPI_STORAGE;
        }
    }
}

/// The frames of the first module, in a list at a physical address.
fn module(list: u64) -> Option<FrameRange> {
    let start = read::<u64>(list)?;
    let size = read::<u64>(list + 8)?;
    if start % PAGE_SIZE != 0 || size == 0 {
        return None;
    }
    let end = start.checked_add(size)?.div_ceil(PAGE_SIZE);
    Some(FrameRange { start: (start >> PAGE_SHIFT) as u32, end: end as u32 })
}

fn command_line(at: u64) -> &'static [u8] {
    if COMMAND_LINE.is_taken.swap(true, Ordering::Relaxed) {
        return &[];
    }
    // SAFETY: the flag shows that nobody else has the bytes.
    let bytes = unsafe { &mut *COMMAND_LINE.bytes.get() };
    let mut length = 0;
    for (index, place) in bytes.iter_mut().enumerate() {
        match read::<u8>(at + index as u64) {
            None | Some(0) => break,
            Some(byte) => *place = byte,
        }
        length = index + 1;
    }
    &bytes[..length]
}
