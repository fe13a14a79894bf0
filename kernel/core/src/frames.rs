//! The frame allocator: which frames of RAM are free.
//!
//! In the spirit of LLFree: a bit per frame, a word per 2 MiB region with its number of free frames and a mark of reservation. A CPU reserves a
//! region and takes frames from it in batches, so that CPUs touch different words; a small stack per CPU absorbs the rest. No lists in
//! free memory, no locks; every change is one compare-and-swap. Works on numbers, never on the memory itself.
//!
//! Invariants: a bit is set only while nobody uses the frame; a region's count is never less than the number of its set bits
//! (the count goes up before the bit and down after it).

use kernel_machine::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel_machine::{self as machine, BootMemory, Frame, PerCpu, object::Once};

/// Frames in a region.
const REGION: u32 = 512;
/// Words of the bit map in a region.
const REGION_WORDS: u32 = REGION / u64::BITS;
/// Mark of a reserved region in its word, above the count.
const RESERVED: u64 = 1 << 32;
/// Frames a CPU's stack holds.
const STACK: usize = 64;
/// Most frames that one refill takes.
const REFILL: u32 = 32;

/// The shared part.
#[derive(Clone, Copy)]
struct Map {
    bits: &'static [AtomicU64],
    regions: &'static [AtomicU64],
}

/// One CPU's part.
struct Local {
    stack: [u32; STACK],
    depth: usize,
    region: Option<u32>,
}

static MAP: Once<Map> = Once::new();
static LOCAL: PerCpu<Local> = machine::per_cpu!(Local { stack: [0; STACK], depth: 0, region: None });
static TOTAL: AtomicU32 = AtomicU32::new(0);

/// Takes over the free RAM that boot found.
pub fn boot(memory: &BootMemory) {
    let regions = memory.frame_limit.div_ceil(REGION);
    let map = Map {
        bits: machine::boot_words((regions * REGION_WORDS) as usize),
        regions: machine::boot_words(regions as usize),
    };
    // The words above came from free RAM, so the map of memory is read again.
    let memory = machine::boot_memory();
    #[cfg(not(target_os = "none"))]
    LOCAL.reset(|local| *local = Local { stack: [0; STACK], depth: 0, region: None });
    let mut total = 0;
    for range in memory.free.iter().take(memory.free_count) {
        total += map.add_range(range.start, range.end.min(memory.frame_limit));
    }
    TOTAL.store(total, Ordering::Relaxed);
    MAP.set(map);
}

/// Frames the allocator manages.
#[must_use]
pub fn total() -> u32 {
    TOTAL.load(Ordering::Relaxed)
}

/// Frames free in the shared map (not counting the CPUs' stacks).
#[must_use]
pub fn free_count() -> u64 {
    MAP.get()
        .map_or(0, |map| map.regions.iter().map(|word| word.load(Ordering::Relaxed) & (RESERVED - 1)).sum())
}

/// Takes a frame. Its contents are undefined.
#[must_use]
pub fn allocate() -> Option<Frame> {
    LOCAL.with(|local| {
        if local.depth == 0 {
            MAP.get()?.refill(local);
        }
        local.depth = local.depth.checked_sub(1)?;
        local.stack.get(local.depth).map(|number| Frame::new(*number))
    })
}

/// Takes a frame and fills it with zeros.
#[must_use]
pub fn allocate_zeroed() -> Option<Frame> {
    let frame = allocate()?;
    machine::zero(frame);
    Some(frame)
}

/// Gives a frame back that nobody uses any more.
pub fn free(frame: Frame) {
    LOCAL.with(|local| {
        if local.depth == STACK
            && let Some(map) = MAP.get()
        {
            while local.depth > STACK / 2 {
                local.depth -= 1;
                map.put(local.stack.get(local.depth).copied().unwrap_or(0));
            }
        }
        if let Some(place) = local.stack.get_mut(local.depth) {
            *place = frame.number();
            local.depth += 1;
        }
    });
}

impl Map {
    /// Marks a range free at boot; how many frames that was.
    fn add_range(&self, start: u32, end: u32) -> u32 {
        let mut number = start;
        while number < end {
            let word_end = (number | 63).saturating_add(1).min(end);
            let count = word_end - number;
            let mask = if count == u64::BITS { u64::MAX } else { ((1 << count) - 1) << (number % u64::BITS) };
            if let (Some(bits), Some(region)) =
                (self.bits.get((number / 64) as usize), self.region(number / REGION))
            {
                bits.fetch_or(mask, Ordering::Relaxed);
                region.fetch_add(u64::from(count), Ordering::Relaxed);
            }
            number = word_end;
        }
        end.saturating_sub(start)
    }

    fn region(&self, index: u32) -> Option<&AtomicU64> {
        self.regions.get(index as usize)
    }

    fn put(&self, number: u32) {
        if let (Some(bits), Some(region)) =
            (self.bits.get((number / 64) as usize), self.region(number / REGION))
        {
            // ORDERING: Release on both, the count first: whoever takes the frame subtracts it from a count that has it.
            region.fetch_add(1, Ordering::Release);
            let before = bits.fetch_or(1 << (number % 64), Ordering::Release);
            debug_assert!(before & 1 << (number % 64) == 0, "frame {number} freed twice");
        }
    }

    /// Fills a CPU's stack from its region, or from the next one that has free frames.
    fn refill(&self, local: &mut Local) {
        if let Some(region) = local.region {
            self.take_from(region, local);
            if local.depth > 0 {
                return;
            }
            if let Some(word) = self.region(region) {
                word.fetch_and(!RESERVED, Ordering::Release);
            }
        }
        let count = self.regions.len() as u32;
        // CPUs that have no region yet begin at different places.
        let start =
            local.region.take().unwrap_or(machine::cpu() as u32 * count / machine::cpu_count().max(1) as u32);
        for step in 0..count {
            let region = (start + step) % count;
            if self.reserve(region) {
                self.take_from(region, local);
                if local.depth > 0 {
                    local.region = Some(region);
                    return;
                }
                if let Some(word) = self.region(region) {
                    word.fetch_and(!RESERVED, Ordering::Release);
                }
            }
        }
        // Only other CPUs' regions have frames left.
        for region in 0..count {
            self.take_from(region, local);
            if local.depth > 0 {
                return;
            }
        }
    }

    /// Reserves a region that has free frames and no owner.
    fn reserve(&self, region: u32) -> bool {
        self.region(region).is_some_and(|word| {
            word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |value| {
                (value != 0 && value & RESERVED == 0).then_some(value | RESERVED)
            })
            .is_ok()
        })
    }

    /// Takes up to a refill of frames from one word of a region that has some.
    fn take_from(&self, region: u32, local: &mut Local) {
        if self.region(region).is_none_or(|word| word.load(Ordering::Relaxed) & (RESERVED - 1) == 0) {
            return;
        }
        for index in region * REGION_WORDS..(region + 1) * REGION_WORDS {
            let Some(bits) = self.bits.get(index as usize) else { return };
            let Ok(before) = bits.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| {
                (free != 0).then_some(free & !lowest(free, REFILL))
            }) else {
                continue;
            };
            let mut taken = lowest(before, REFILL);
            if let Some(word) = self.region(region) {
                word.fetch_sub(u64::from(taken.count_ones()), Ordering::Relaxed);
            }
            while taken != 0 {
                // Highest first, so that the stack gives ascending numbers.
                let bit = 63 - taken.leading_zeros();
                taken &= !(1 << bit);
                if let Some(place) = local.stack.get_mut(local.depth) {
                    *place = index * 64 + bit;
                    local.depth += 1;
                }
            }
            return;
        }
    }
}

/// The lowest `count` bits that are set in a word.
fn lowest(word: u64, count: u32) -> u64 {
    if word.count_ones() <= count {
        return word;
    }
    // Half words are whole batches in the common case, a full word.
    let low = word & u64::from(u32::MAX);
    if low.count_ones() == count {
        return low;
    }
    let mut rest = word;
    for _ in 0..count {
        rest &= rest.wrapping_sub(1);
    }
    word & !rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_frame_is_given_once_and_comes_back() {
        let _machine = machine::Machine::start(4096, 1);
        boot(&machine::boot_memory());
        let mut given = HashSet::new();
        while let Some(frame) = allocate() {
            assert!(frame.number() > 0 && frame.number() < 4096);
            assert!(given.insert(frame), "{frame:?} given twice");
        }
        assert_eq!(given.len(), total() as usize);
        for frame in &given {
            free(*frame);
        }
        assert_eq!(std::iter::from_fn(allocate).count(), total() as usize);
    }

    #[test]
    fn cpus_share_the_last_frames() {
        let _machine = machine::Machine::start(2048, 4);
        boot(&machine::boot_memory());
        let mut given = HashSet::new();
        let mut dry = 0;
        for round in 0.. {
            match machine::on_cpu(round % 4, allocate) {
                Some(frame) => assert!(given.insert(frame)),
                None => dry += 1,
            }
            if dry > 4 {
                break;
            }
        }
        assert_eq!(given.len(), total() as usize);
        for (index, frame) in given.into_iter().enumerate() {
            machine::on_cpu(index % 4, || free(frame));
        }
    }

    #[test]
    fn lowest_bits() {
        assert_eq!(lowest(u64::MAX, 32), u64::from(u32::MAX));
        assert_eq!(lowest(0b1011, 32), 0b1011);
        assert_eq!(lowest(u64::MAX << 1, 32).count_ones(), 32);
    }
}
