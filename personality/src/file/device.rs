//! Memory devices (null(4), random(4), full(4)).

use crate::{
    linux::Errno,
    machine::guest::{Sink, Source},
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

/// Fills the rest of a sink with random bytes.
///
/// # Errors
/// `EFAULT`.
pub fn fill_random(sink: &mut Sink<'_>) -> Result<(), Errno> {
    while sink.room() > 0 {
        let (low, high) = random();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&low.to_le_bytes());
        bytes[8..].copy_from_slice(&high.to_le_bytes());
        let count = sink.room().min(bytes.len());
        sink.put(bytes.get(..count).unwrap_or_default())?;
    }
    Ok(())
}

/// Two random words of the kernel's generator.
#[must_use]
pub fn random() -> (u64, u64) {
    rt::arch::call(kernel_abi::Operation::Random, [0; 6])
        .map_or((0, 0), |(_, low, high)| (low, high))
}
