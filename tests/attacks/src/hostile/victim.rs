//! The victim: keeps a secret in memory and in vector registers, works in rounds, and tells when something of it has changed.

use crate::board::{BROKEN, Board, ROUNDS, SEEN, STATE, WHERE};
use alloc::{boxed::Box, vec::Vec};
use core::arch::asm;

/// Words of the secret in memory.
const WORDS: usize = 2048;
/// Numbers added up in a round.
const WORK: u64 = 2000;

/// The secret that a seed stands for.
fn word(seed: u64, index: u64) -> u64 {
    (seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1
}

/// Keeps its secret for ever.
pub(crate) fn work(board: &Board) {
    let seed = rt::startup::block().map_or(7, |block| {
        block.seed.iter().fold(7_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte))
    });
    let secret: Vec<u64> = (0..WORDS as u64).map(|index| word(seed, index)).collect();
    let vector = [word(seed, 1), word(seed, 2)];
    let mut rounds = 0_u64;
    loop {
        let kept = compute(&vector, rounds);
        let intact = secret.iter().zip(0..).all(|(found, index)| *found == word(seed, index));
        // Memory of its own comes and goes: it must be as it was written.
        let fresh: Box<[u64; 512]> = Box::new([rounds; 512]);
        let is_own = fresh.iter().all(|word| *word == rounds);
        if kept != vector || !intact || !is_own {
            board.set(
                WHERE,
                u64::from(kept != vector) | u64::from(!intact) << 1 | u64::from(!is_own) << 2,
            );
            board.set(SEEN, kept[0]);
            board.set(STATE, BROKEN);
        }
        rounds += 1;
        board.set(ROUNDS, rounds);
    }
}

/// Works with the secret in a vector register; what the register holds at the end.
fn compute(vector: &[u64; 2], rounds: u64) -> [u64; 2] {
    let mut kept = [0_u64; 2];
    // SAFETY: the instructions read and write the two arrays, and registers that the rest of the program does not use.
    unsafe {
        asm!(
            "movups xmm7, [{from}]",
            "2: add {sum}, {count}",
            "dec {count}",
            "jnz 2b",
            "movups [{to}], xmm7",
            from = in(reg) vector.as_ptr(),
            to = in(reg) kept.as_mut_ptr(),
            count = inout(reg) WORK => _,
            sum = inout(reg) rounds => _,
            options(nostack),
        );
    }
    kept
}
