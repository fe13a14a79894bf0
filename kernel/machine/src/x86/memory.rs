//! Physical memory: the direct map, the frames' metadata, what boot left free.

use super::{
    bootinfo::{self, MAX_REGIONS, Region},
    instruction, layout,
    trap::stop,
};
use crate::{
    object::Once,
    types::{BootMemory, FRAME_WORDS, Frame, FrameRange, MAX_RANGES, Table, entry},
};
use core::{
    arch::asm,
    slice,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};
use kernel_abi::{PAGE_SHIFT, PAGE_SIZE};

/// Where the direct map begins: entry 384 of the root.
pub(super) const DIRECT: u64 = 0xffff_c000_0000_0000;
/// Where devices of the kernel's own are mapped: the last GiB.
const DEVICES: u64 = 0xffff_ffff_c000_0000;
/// Size of a large page.
const LARGE: u64 = 1 << 21;
/// First entry of the kernel's half of a root.
const KERNEL_ENTRY: usize = 384;

/// What the portable kernel sees of boot; fixed once all tables of this part exist.
static BOOT: Once<BootMemory> = Once::new();
/// Every region of the memory map that is RAM, also what firmware keeps: never handed out as a device.
static RAM: Once<([Region; MAX_REGIONS], usize)> = Once::new();
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);
static FRAME_WORDS_AT: AtomicUsize = AtomicUsize::new(0);
static FRAME_LIMIT: AtomicU64 = AtomicU64::new(0);
static DEVICES_USED: AtomicU64 = AtomicU64::new(0);
/// The free ranges while boot carves its tables out of them.
static FREE: [AtomicU64; 2 * MAX_RANGES] = [const { AtomicU64::new(0) }; 2 * MAX_RANGES];

/// The kernel's root.
pub(super) fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Ordering::Relaxed)
}

/// The address of a physical byte in the direct map.
pub(super) const fn direct(physical: u64) -> u64 {
    DIRECT + physical
}

/// A frame as words.
#[inline]
#[must_use]
pub fn table(frame: Frame) -> &'static Table {
    debug_assert!(u64::from(frame.number()) < FRAME_LIMIT.load(Ordering::Relaxed), "frame is not RAM");
    let pointer = core::ptr::with_exposed_provenance::<Table>(direct(frame.address()) as usize);
    // SAFETY: frames of RAM are in the direct map for ever, and their words are only used as atomics.
    unsafe { &*pointer }
}

/// Address of a frame's first byte in the kernel.
#[inline]
#[must_use]
pub fn frame_pointer(frame: Frame) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(direct(frame.address()) as usize)
}

/// The frame that a kernel address lies in.
#[must_use]
pub fn frame_of(pointer: *const u8) -> Frame {
    Frame::containing((pointer.addr() as u64).wrapping_sub(DIRECT))
}

/// Without enhanced string instructions (`ERMS`) a word is a step of one, and the widest stores that every processor has take half the steps.
pub(super) static HAS_SLOW_STRINGS: AtomicBool = AtomicBool::new(false);

/// Fills a frame with zeros.
#[inline]
pub fn zero(frame: Frame) {
    let place = frame_pointer(frame);
    // SAFETY: the frame is RAM; a plain write of words that others may only see as atomics, while nobody else uses the frame. The
    // vector register belongs to user mode and has its value again at the end.
    unsafe {
        if HAS_SLOW_STRINGS.load(Ordering::Relaxed) {
            asm!("movups [{kept}], xmm0", "xorps xmm0, xmm0", "2:", ".set at, 0", ".rept 16", "movaps [{place} + at], xmm0", ".set at, at + 16", ".endr",
                "add {place}, 256", "cmp {place}, {end}", "jne 2b", "movups xmm0, [{kept}]", place = inout(reg) place => _,
                end = in(reg) place.wrapping_add(PAGE_SIZE as usize), kept = in(reg) &mut [0_u64; 2], options(nostack));
        } else {
            asm!("rep stosq", inout("rcx") FRAME_WORDS => _, inout("rdi") place => _, in("rax") 0_u64, options(nostack, preserves_flags));
        }
    }
}

/// Copies a whole frame.
#[inline]
pub fn copy(to: Frame, from: Frame) {
    // SAFETY: both frames are RAM; user mode may write the source meanwhile, which the copy then contains or not, word by word.
    unsafe {
        asm!("rep movsq", inout("rcx") FRAME_WORDS => _, inout("rdi") frame_pointer(to) => _, inout("rsi") frame_pointer(from) => _,
            options(nostack, preserves_flags));
    }
}

/// A frame's 16 bytes of metadata.
#[inline]
#[must_use]
pub fn frame_words(frame: Frame) -> &'static [AtomicU64; 2] {
    assert!(u64::from(frame.number()) < FRAME_LIMIT.load(Ordering::Relaxed), "frame is not RAM");
    let base = core::ptr::with_exposed_provenance::<[AtomicU64; 2]>(FRAME_WORDS_AT.load(Ordering::Relaxed));
    // SAFETY: the array has an element for each frame below the limit, and is never freed.
    unsafe { &*base.add(frame.number() as usize) }
}

/// What boot found.
#[must_use]
pub fn boot_memory() -> BootMemory {
    let Some(mut boot) = BOOT.get() else { stop(format_args!("nothing has read the memory map")) };
    for (range, words) in boot.free.iter_mut().zip(FREE.chunks_exact(2)) {
        *range = FrameRange {
            start: words[0].load(Ordering::Relaxed) as u32,
            end: words[1].load(Ordering::Relaxed) as u32,
        };
    }
    boot
}

/// Takes whole frames from the free ranges, zeroed; for boot only.
pub(super) fn carve(frames: u64) -> u64 {
    for words in FREE.chunks_exact(2) {
        let (start, end) = (words[0].load(Ordering::Relaxed), words[1].load(Ordering::Relaxed));
        if end - start >= frames {
            words[0].store(start + frames, Ordering::Relaxed);
            (start..start + frames).for_each(|number| zero(Frame::new(number as u32)));
            return start << PAGE_SHIFT;
        }
    }
    stop(format_args!("too little memory to boot"))
}

/// Words for the kernel's own tables, zeroed, kept for ever.
#[must_use]
pub fn boot_words(count: usize) -> &'static [AtomicU64] {
    let frames = (count as u64 * 8).div_ceil(PAGE_SIZE).max(1);
    let place = core::ptr::with_exposed_provenance::<AtomicU64>(direct(carve(frames)) as usize);
    // SAFETY: the frames were just carved out, are zeroed and nobody else's.
    unsafe { slice::from_raw_parts(place, count) }
}

/// Takes the memory map over and makes the kernel's own page tables.
pub(super) fn set_up(info: &bootinfo::BootInfo) {
    let image = FrameRange {
        start: (layout::image_start() >> PAGE_SHIFT) as u32,
        end: layout::image_end().div_ceil(PAGE_SIZE) as u32,
    };
    let (free, free_count) = free_ranges(info, image);
    for (words, range) in FREE.chunks_exact(2).zip(&free) {
        words[0].store(u64::from(range.start), Ordering::Relaxed);
        words[1].store(u64::from(range.end), Ordering::Relaxed);
    }
    let limit = info
        .regions()
        .iter()
        .filter(|region| region.is_usable())
        .map(|region| region.end() >> PAGE_SHIFT)
        .max()
        .unwrap_or(0);
    FRAME_LIMIT.store(limit, Ordering::Relaxed);
    make_tables(info);
    let words = carve((limit * 16).div_ceil(PAGE_SIZE));
    FRAME_WORDS_AT.store(direct(words) as usize, Ordering::Relaxed);
    RAM.set((info.regions, info.region_count));
    BOOT.set(BootMemory {
        free,
        free_count,
        frame_limit: limit as u32,
        module: info.module,
        command_line: info.command_line,
        first_instruction: info.first_instruction,
        pci_window: None,
        virtio_mmio: None,
        tsc_is_clock: true,
    });
}

/// Adds what the ACPI tables told.
pub(super) fn note_devices(pci_window: Option<u64>, virtio_mmio: Option<u64>) {
    if let Some(boot) = BOOT.get() {
        BOOT.set(BootMemory { pci_window, virtio_mmio, ..boot });
    }
}

/// Usable RAM above the first MiB without the image and the module.
fn free_ranges(info: &bootinfo::BootInfo, image: FrameRange) -> ([FrameRange; MAX_RANGES], usize) {
    let mut free = [FrameRange { start: 0, end: 0 }; MAX_RANGES];
    let mut count = 0;
    for region in info.regions().iter().filter(|region| region.is_usable()) {
        let mut start = (region.start.div_ceil(PAGE_SIZE) as u32).max(256);
        let end = (region.end() >> PAGE_SHIFT) as u32;
        while start < end {
            // The nearest reserved range at or after the start, if it lies in this region.
            let next = [Some(image), info.module]
                .into_iter()
                .flatten()
                .filter(|used| used.end > start && used.start < end);
            let next = next.min_by_key(|used| used.start);
            let stop = next.map_or(end, |used| used.start.max(start));
            if stop > start && count < MAX_RANGES {
                free[count] = FrameRange { start, end: stop };
                count += 1;
            }
            start = next.map_or(end, |used| used.end);
        }
    }
    (free, count)
}

/// Makes the kernel's root: the direct map of RAM and firmware tables, the image with its rights.
fn make_tables(info: &bootinfo::BootInfo) {
    let root = carve(1);
    // The first MiB holds firmware tables and the start of other CPUs.
    map_direct(root, 0, LARGE);
    for region in info.regions().iter().filter(|region| region.is_memory()) {
        map_direct(root, region.start / LARGE * LARGE, region.end().next_multiple_of(LARGE));
    }
    let sections = layout::sections();
    for (section, bits) in sections {
        let mut at = section.start;
        while at < section.end {
            map_page(root, at, at - layout::IMAGE_BASE, bits | entry::GLOBAL);
            at += PAGE_SIZE;
        }
    }
    // All roots share the tables below the kernel's half, so its topmost entries must exist from the start.
    level(root, DEVICES, 39, true);
    KERNEL_ROOT.store(root, Ordering::Relaxed);
    // SAFETY: the new tables map the image, the stack in it and all RAM.
    unsafe { instruction::load_root(root) };
}

fn words(table: u64) -> &'static Table {
    let pointer = core::ptr::with_exposed_provenance::<Table>(direct(table) as usize);
    // SAFETY: tables are carved from RAM, which is in the direct map.
    unsafe { &*pointer }
}

/// The table below a table's entry for an address.
fn level(table: u64, address: u64, shift: u32, may_add: bool) -> u64 {
    let word = &words(table)[(address >> shift) as usize % FRAME_WORDS];
    let value = word.load(Ordering::Relaxed);
    if value != 0 || !may_add {
        return value & entry::FRAME_MASK;
    }
    let new = carve(1);
    word.store(new | entry::PRESENT | entry::WRITE, Ordering::Relaxed);
    new
}

fn map_direct(root: u64, start: u64, end: u64) {
    let mut at = start;
    while at < end {
        let middle = level(root, direct(at), 39, true);
        let directory = level(middle, direct(at), 30, true);
        let bits = entry::PRESENT | entry::WRITE | entry::LARGE | entry::GLOBAL | entry::NO_EXECUTE;
        words(directory)[(direct(at) >> 21) as usize % FRAME_WORDS].store(at | bits, Ordering::Relaxed);
        at += LARGE;
    }
}

fn map_page(root: u64, address: u64, physical: u64, bits: u64) {
    let middle = level(root, address, 39, true);
    let directory = level(middle, address, 30, true);
    let leaf = level(directory, address, 21, true);
    words(leaf)[(address >> PAGE_SHIFT) as usize % FRAME_WORDS]
        .store(physical | bits | entry::PRESENT, Ordering::Relaxed);
}

/// Maps a page of a device of the kernel's own, uncached; its address. For boot only.
pub(super) fn map_device(physical: u64) -> u64 {
    let page = physical & !(PAGE_SIZE - 1);
    let address = DEVICES + (DEVICES_USED.fetch_add(1, Ordering::Relaxed) << PAGE_SHIFT);
    map_page(
        kernel_root(),
        address,
        page,
        entry::WRITE | entry::UNCACHED | entry::NO_EXECUTE | entry::GLOBAL,
    );
    instruction::flush_page(address);
    address + (physical - page)
}

/// Which of the kernel's entries (384 to 511) are used, a bit each; they do not change after boot. 0 before the first look.
static USED_ENTRIES: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Fills the kernel's half of a new root, whose words are all zero.
pub fn kernel_entries(root: &Table) {
    let own = words(kernel_root());
    for (part, used) in USED_ENTRIES.iter().enumerate() {
        let first = KERNEL_ENTRY + 64 * part;
        let mut left = used.load(Ordering::Relaxed);
        if left == 0 {
            left = (0..64)
                .filter(|bit| own[first + bit].load(Ordering::Relaxed) != 0)
                .fold(0, |bits, bit| bits | 1 << bit);
            used.store(left, Ordering::Relaxed);
        }
        while left != 0 {
            let index = first + left.trailing_zeros() as usize;
            left &= left - 1;
            root[index].store(own[index].load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// Whether a range lies wholly in mapped memory of the machine (RAM or firmware tables), so that boot may read it.
pub(super) fn is_readable(physical: u64, length: u64) -> bool {
    let Some((regions, count)) = RAM.get() else { return false };
    let Some(end) = physical.checked_add(length) else { return false };
    end <= 1 << 20
        || regions
            .iter()
            .take(count)
            .any(|region| region.is_memory() && region.start <= physical && end <= region.end())
}

/// Whether a physical range is device memory that user programs may be handed.
#[must_use]
pub fn device_range_allowed(address: u64, pages: u64) -> bool {
    let Some(end) = pages.checked_mul(PAGE_SIZE).and_then(|size| address.checked_add(size)) else {
        return false;
    };
    let Some((regions, count)) = RAM.get() else { return false };
    let is_ram = regions
        .iter()
        .take(count)
        .any(|region| region.is_memory() && region.start < end && address < region.end());
    address >= 1 << 20 && !is_ram && !super::apic::overlaps(address, end)
}
