//! Mutations of inputs, the same ones in every run of the same seed.
//!
//! There is no feedback from the code under test: what finds a way in is the corpus, and values at which decoders break. What a coverage-guided
//! fuzzer has found is kept as a further input.

/// Longest input.
const MAX_LENGTH: usize = 64 * 1024;
/// Numbers at which lengths, offsets and counts go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0xfff,
    0x1000,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// A sequence of numbers that the seed decides (splitmix64).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number of the sequence.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next number below a limit; 0 below none.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit.max(1) as u64) as usize
    }
}

/// Changes one to eight things of an input.
#[must_use]
pub fn mutate(numbers: &mut Numbers, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus.get(numbers.below(corpus.len())).cloned().unwrap_or_default();
    for _ in 0..=numbers.below(8) {
        change(numbers, &mut bytes, corpus);
    }
    bytes.truncate(MAX_LENGTH);
    bytes
}

fn change(numbers: &mut Numbers, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = numbers.below(bytes.len());
    let end = (at + 1 + numbers.below(64)).min(bytes.len());
    match numbers.below(8) {
        0 => bytes.truncate(at),
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << numbers.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = numbers.number() as u8;
            }
        }
        3 => {
            bytes.drain(at..end);
        }
        4 => {
            let part = bytes[at..end].to_vec();
            let to = numbers.below(bytes.len());
            bytes.splice(to..to, part);
        }
        5 => {
            // The rest of another input.
            let other = &corpus[numbers.below(corpus.len())];
            let from = numbers.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let number = EDGES[numbers.below(EDGES.len())].to_le_bytes();
            let width = 1 << numbers.below(4);
            // Fields of binary formats lie at multiples of their width.
            let place = at & !(width - 1);
            for (byte, new) in bytes.iter_mut().skip(place).zip(&number[..width]) {
                *byte = *new;
            }
        }
    }
}
