//! Memory devices (null(4), random(4), full(4)).

use crate::{
    linux::Errno,
    machine::guest::{Sink, Source},
};
use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

/// A device without state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// /dev/null.
    Null,
    /// /dev/zero.
    Zero,
    /// /dev/full.
    Full,
    /// /dev/random and /dev/urandom.
    Random,
}

impl Memory {
    /// The device with a number.
    #[must_use]
    pub const fn from_number(major: u32, minor: u32) -> Option<Self> {
        match (major, minor) {
            (1, 3) => Some(Self::Null),
            (1, 5) => Some(Self::Zero),
            (1, 7) => Some(Self::Full),
            (1, 8 | 9) => Some(Self::Random),
            _ => None,
        }
    }
    /// Reads.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read(self, sink: &mut Sink<'_>) -> Result<usize, Errno> {
        let length = sink.room();
        match self {
            Self::Null => Ok(0),
            Self::Zero | Self::Full => sink.put_zeros(length).map(|()| length),
            Self::Random => fill_random(sink).map(|()| length),
        }
    }
    /// Writes.
    ///
    /// # Errors
    /// `ENOSPC` for the full device.
    pub fn write(self, source: &Source<'_>) -> Result<usize, Errno> {
        match self {
            Self::Full if source.left() > 0 => Err(Errno::ENOSPC),
            _ => Ok(source.left()),
        }
    }
}

/// Bytes that are cheaper asked of the kernel than made here.
const FEW: usize = 64;
/// Bytes made at once.
const PORTION: usize = 1024;

/// Fills the rest of a sink with random bytes.
///
/// What is more than a few is ChaCha20's stream under a key of the kernel's that serves this request alone: no generator is kept between requests, so
/// that after a fork two processes never share a stream. Used keys are not wiped from the personality's stack.
///
/// # Errors
/// `EFAULT`.
pub fn fill_random(sink: &mut Sink<'_>) -> Result<(), Errno> {
    if sink.room() > FEW {
        return fill_stream(fresh(), sink);
    }
    while sink.room() > 0 {
        let bytes: [u8; 16] = fresh();
        let count = sink.room().min(bytes.len());
        sink.put(bytes.get(..count).unwrap_or_default())?;
    }
    Ok(())
}

fn fill_stream(key: [u8; 32], sink: &mut Sink<'_>) -> Result<(), Errno> {
    let mut stream = ChaCha20Rng::from_seed(key);
    let mut bytes = [0; PORTION];
    while sink.room() > 0 {
        let count = sink.room().min(bytes.len());
        let portion = bytes.get_mut(..count).unwrap_or_default();
        stream.fill_bytes(portion);
        sink.put(portion)?;
    }
    Ok(())
}

/// Bytes of the kernel's generator, a multiple of sixteen.
fn fresh<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    for part in bytes.as_chunks_mut::<16>().0 {
        let (low, high) = random();
        *part = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
    }
    bytes
}

/// Two random words of the kernel's generator.
#[must_use]
pub fn random() -> (u64, u64) {
    rt::arch::call(kernel_abi::Operation::Random, [0; 6])
        .map_or((0, 0), |(_, low, high)| (low, high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_standard_and_no_portion_of_it_comes_twice() {
        let stream = |length: usize| {
            let mut bytes = alloc::vec![0; length];
            fill_stream([0; 32], &mut Sink::kernel(&mut bytes)).unwrap();
            bytes
        };
        // RFC 8439, A.1, test vector 1.
        let begin = [
            0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86,
            0xbd, 0x28,
        ];
        let long = stream(5 * PORTION + 3);
        assert_eq!(long[..16], begin);
        assert_eq!(long[..100], stream(100));
        let portions: alloc::collections::BTreeSet<&[u8]> = long.chunks(16).collect();
        assert_eq!(portions.len(), long.len().div_ceil(16));
    }
}
