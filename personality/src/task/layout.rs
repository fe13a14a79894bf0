//! Where the parts of a program's memory go (personality(2), `randomize_va_space` of proc(5)).
//!
//! Linux's model: the program, the mappings with the interpreter among them, the first stack and the break each begin at a place of their own that is drawn at every
//! execve(2), 28, 28, 22 and 13 bits of pages. Ours: the same, with as many bits as cost no table of pages that the program does not need anyway. So mappings
//! have 26 bits, as far as one word of the highest table reaches; the memory of the first stack ends at a multiple of 2 MiB, so that one word stands for 2 MiB of
//! it that are not touched, and begins somewhere in its last MiB near the end of a page, so that strings and first calls mostly need one page and the stack one table; the break
//! lies in the 2 MiB that the program ends in, where they have room for it and a small heap, so 6 to 9 bits behind an end that is itself drawn.
//!
//! Owns no memory; must not know what is mapped.

use kernel_abi::{PAGE_SIZE, layout::GUEST_MAX};

/// Lowest place of a position-independent program.
const PROGRAM_AT: u64 = 0x5555_5555_4000;
/// Highest end of the first stack's memory.
const STACK_TOP: u64 = 0x7fff_ffe0_0000;
/// What one word of a page table's upper level stands for.
pub(super) const WORD: u64 = 1 << 21;
/// What one word of the highest table stands for.
const TABLE: u64 = 1 << 39;
/// Longest first stack, but for what its place takes.
pub(super) const MAX_STACK: u64 = 64 << 20;
/// Where mappings end without randomness.
const MAPPINGS_TOP: u64 = 0x7fff_f7ff_f000;
/// Bits of the page number of a program.
const PROGRAM_BITS: u32 = 28;
/// Bits of the page number of the mappings.
const MAPPING_BITS: u32 = 26;
/// Bits of the stack's place: 22 of a page number, of which 13 are of the memory's end.
const STACK_BITS: u32 = 13;
/// Bits of the page of the last MiB that the stack begins in, and of the place in its last eighth, in steps of 16 bytes.
const STEP_BITS: (u32, u32) = (8, 5);
/// Bits that the break's place is chosen by.
const BREAK_BITS: u32 = 16;
/// Pages that the break has room among, at least, and that a small heap has behind it.
const BREAK_ROOM: u64 = 64;

/// Where a program's parts go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// A position-independent program.
    pub(super) program: u64,
    /// Mappings: below this.
    pub(super) mappings: u64,
    /// End of the first stack's memory.
    pub(super) stack_end: u64,
    /// Bytes of it that stay unused.
    pub(super) stack_unused: u64,
    /// What the break's place is chosen by, and none without randomness.
    pub(super) break_choice: Option<u64>,
}

impl Layout {
    /// Without randomness: that of ADDR_NO_RANDOMIZE.
    pub(super) const FIXED: Self = Self {
        program: PROGRAM_AT,
        mappings: MAPPINGS_TOP,
        stack_end: STACK_TOP,
        stack_unused: 0,
        break_choice: None,
    };

    /// Where the break is of a program that ends at an address.
    pub(super) const fn break_at(&self, end: u64) -> u64 {
        let end = end.next_multiple_of(PAGE_SIZE);
        let Some(choice) = self.break_choice else { return end };
        let room = (end.next_multiple_of(WORD) - end) / PAGE_SIZE;
        let (first, room) = if room < 2 * BREAK_ROOM {
            (end.next_multiple_of(WORD), WORD / PAGE_SIZE)
        } else {
            (end, room)
        };
        first + choice % (room - BREAK_ROOM) * PAGE_SIZE
    }

    /// By random bits.
    pub(super) const fn drawn((mut low, mut high): (u64, u64)) -> Self {
        /// Takes the lowest bits.
        const fn take(from: &mut u64, bits: u32) -> u64 {
            let taken = *from & ((1 << bits) - 1);
            *from >>= bits;
            taken
        }
        let lowest_stack = STACK_TOP - (WORD << STACK_BITS) - MAX_STACK - WORD;
        Self {
            program: PROGRAM_AT + take(&mut low, PROGRAM_BITS) * PAGE_SIZE,
            mappings: lowest_stack - take(&mut low, MAPPING_BITS) * PAGE_SIZE,
            stack_end: STACK_TOP - take(&mut high, STACK_BITS) * WORD,
            stack_unused: take(&mut high, STEP_BITS.0) * PAGE_SIZE
                + take(&mut high, STEP_BITS.1) * 16,
            break_choice: Some(take(&mut high, BREAK_BITS)),
        }
    }
}

const _: () = assert!(
    STACK_TOP <= GUEST_MAX
        && STACK_TOP.is_multiple_of(WORD)
        && STACK_TOP - MAX_STACK - WORD > MAPPINGS_TOP
        && WORD / 2 == PAGE_SIZE << STEP_BITS.0
        && PAGE_SIZE / 8 == 16 << STEP_BITS.1
        && (STACK_TOP - (WORD << STACK_BITS) - MAX_STACK - WORD - (PAGE_SIZE << MAPPING_BITS))
            / TABLE
            == STACK_TOP / TABLE,
    "the parts have room beside each other, and stack and mappings share a word of the highest table"
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::BTreeSet, format};

    #[test]
    fn every_draw_has_room_and_every_bit_moves_one_part() {
        let none = Layout::drawn((0, 0));
        let mut seen = BTreeSet::from([format!("{none:?}")]);
        let high = STACK_BITS + STEP_BITS.0 + STEP_BITS.1 + BREAK_BITS;
        for bit in (0..PROGRAM_BITS + MAPPING_BITS).chain(64..64 + high) {
            let bits = 1_u128 << bit;
            let layout = Layout::drawn((bits as u64, (bits >> 64) as u64));
            assert!(seen.insert(format!("{layout:?}")), "bit {bit} moves nothing");
        }
        for layout in [none, Layout::drawn((u64::MAX, u64::MAX)), Layout::FIXED] {
            assert!(layout.stack_end.is_multiple_of(WORD) && layout.stack_unused < WORD);
            assert!(layout.mappings <= layout.stack_end - MAX_STACK - WORD);
            assert!(layout.mappings > layout.program + (1 << 40));
            assert!(layout.program.is_multiple_of(PAGE_SIZE));
            assert!(layout.mappings.is_multiple_of(PAGE_SIZE));
        }
    }

    #[test]
    fn the_break_is_in_the_table_of_the_end_where_that_has_room() {
        for end in [0x40_1000, 0x40_1234, 0x5d_f000, 0x5c_0000, 0x60_0000] {
            let places: BTreeSet<u64> = (0..1 << BREAK_BITS)
                .map(|choice| Layout { break_choice: Some(choice), ..Layout::FIXED }.break_at(end))
                .collect();
            assert!(places.len() as u64 >= BREAK_ROOM);
            assert!(places.iter().all(|at| *at >= end && at.is_multiple_of(PAGE_SIZE)));
            let tables: BTreeSet<u64> = places.iter().map(|at| at / WORD).collect();
            assert_eq!(tables.len(), 1);
            assert!(
                places.iter().all(|at| (at + (BREAK_ROOM - 1) * PAGE_SIZE) / WORD == at / WORD)
            );
        }
        assert_eq!(Layout::FIXED.break_at(0x40_1234), 0x40_2000);
    }
}
