//! Length-prefixed postcard messages inside a channel's byte stream.
//!
//! A message is its length (u32, little-endian, at most [`MAX_MESSAGE`]) and that many bytes of postcard. [`Decoder`] takes bytes in any
//! portions and gives whole messages.

use alloc::vec::Vec;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest encoded message.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Bytes of a length.
const PREFIX: usize = size_of::<u32>();
/// Bytes that most messages fit into.
const USUAL: usize = 256;

/// Why a byte stream is not a stream of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A length prefix exceeds [`MAX_MESSAGE`].
    TooLong(u32),
    /// The bytes are not an encoding of the expected type.
    Malformed,
}

/// Appends one message to a buffer.
///
/// # Errors
/// [`WireError::TooLong`] when the message is longer than [`MAX_MESSAGE`]; the buffer is then unchanged.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    let start = out.len();
    out.reserve(USUAL);
    out.extend_from_slice(&[0; PREFIX]);
    let written = postcard::serialize_with_flavor(message, Appended(out));
    let length = out.len() - start - PREFIX;
    let result = match u32::try_from(length) {
        _ if written.is_err() => Err(WireError::Malformed),
        Ok(length) if length as usize <= MAX_MESSAGE => Ok(length),
        length => Err(WireError::TooLong(length.unwrap_or(u32::MAX))),
    };
    match (result, out.get_mut(start..start + PREFIX)) {
        (Ok(length), Some(prefix)) => prefix.copy_from_slice(&length.to_le_bytes()),
        _ => out.truncate(start),
    }
    result.map(|_| ())
}

/// A buffer that a message is appended to.
struct Appended<'a>(&'a mut Vec<u8>);

impl Flavor for Appended<'_> {
    type Output = ();
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Takes the message that bytes begin with, and how many bytes it takes; nothing if it is not whole.
///
/// # Errors
/// As [`Decoder::next`].
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<Option<(T, usize)>, WireError> {
    let Some((prefix, body)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix);
    if length as usize > MAX_MESSAGE {
        return Err(WireError::TooLong(length));
    }
    let Some(body) = body.get(..length as usize) else { return Ok(None) };
    let message = postcard::from_bytes(body).map_err(|_| WireError::Malformed)?;
    Ok(Some((message, PREFIX + length as usize)))
}

/// Collects bytes until a message is whole. Holds at most one message and the portion being fed.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    /// Adds received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next whole message, if there is one.
    ///
    /// # Errors
    /// The stream cannot be used any further after an error.
    #[expect(
        clippy::should_implement_trait,
        reason = "messages of one stream may have several types, so it is no iterator"
    )]
    pub fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, WireError> {
        let found = decode(self.bytes.get(self.start..).unwrap_or_default())?;
        Ok(found.map(|(message, length)| {
            self.start = self.start.saturating_add(length);
            message
        }))
    }

    /// Takes up to `limit` raw bytes that follow the last message (for payloads announced by a message).
    pub fn take_raw(&mut self, limit: usize) -> Vec<u8> {
        let end = self.bytes.len().min(self.start.saturating_add(limit));
        let raw = self.bytes.get(self.start..end).unwrap_or_default().to_vec();
        self.start = end;
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{string::String, vec};

    #[test]
    fn messages_survive_any_fragmentation() {
        let mut stream = Vec::new();
        for text in ["one", "", "three"] {
            encode(&String::from(text), &mut stream).unwrap();
        }
        for portion in 1..stream.len() {
            let (mut decoder, mut seen) = (Decoder::new(), vec![]);
            for part in stream.chunks(portion) {
                decoder.feed(part);
                while let Some(text) = decoder.next::<String>().unwrap() {
                    seen.push(text);
                }
            }
            assert_eq!(seen, ["one", "", "three"]);
        }
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_allocated() {
        let mut decoder = Decoder::new();
        decoder.feed(&[0xff; 4]);
        assert_eq!(decoder.next::<String>(), Err(WireError::TooLong(u32::MAX)));
    }
}
