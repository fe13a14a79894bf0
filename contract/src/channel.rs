//! Framing of the control channel: one byte stream (a virtio serial port, a socket) that carries many channels.
//!
//! Each frame is a 12-byte little-endian header (`channel u32, kind u32, length u32`) and, for `Data`, `length` bytes. A side may send at most as
//! many bytes on a channel as the other granted by `Credit`; both directions start at zero. Control frames are sent before data frames. A
//! frame that breaks the rules ends the connection: the peer is trusted for nothing.

/// Length of a frame's header.
pub const HEADER_LENGTH: usize = 12;
/// Longest data of one frame.
pub const MAX_DATA: u32 = 32 * 1024;

/// Channels with a fixed number.
pub mod well_known {
    /// Frames about the connection itself (`Hello`).
    pub const CONNECTION: u32 = 0;
    /// `services/images`, see [`crate::images`].
    pub const IMAGES: u32 = 1;
    /// `services/compartments`, see [`crate::compartments`].
    pub const COMPARTMENTS: u32 = 2;
    /// `services/root`: system status and authority, see [`crate::system`].
    pub const SYSTEM: u32 = 3;
    /// First channel the daemon may give to a compartment.
    pub const FIRST_COMPARTMENT: u32 = 16;
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First frame of each side, on channel 0: protocol version. Both sides forget all channels.
    Hello {
        /// [`crate::VERSION`] of the sender.
        version: u32,
    },
    /// `length` bytes follow on `channel`.
    Data {
        /// Channel.
        channel: u32,
        /// Number of bytes that follow, 1..=[`MAX_DATA`].
        length: u32,
    },
    /// The receiver may be sent this many more bytes.
    Credit {
        /// Channel.
        channel: u32,
        /// Bytes.
        bytes: u32,
    },
    /// From the daemon: it will send no more data on the channel. From the machine: the program behind it is gone, and with it the channel; what
    /// is under way to it is passed over.
    Close {
        /// Channel.
        channel: u32,
    },
}

/// Why a header was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The kind is unknown.
    UnknownKind(u32),
    /// A data frame is empty or longer than [`MAX_DATA`].
    BadLength(u32),
}

impl Frame {
    /// Encodes the header.
    #[must_use]
    pub fn encode(self) -> [u8; HEADER_LENGTH] {
        let (channel, kind, value) = match self {
            Self::Hello { version } => (0, 1u32, version),
            Self::Data { channel, length } => (channel, 2, length),
            Self::Credit { channel, bytes } => (channel, 3, bytes),
            Self::Close { channel } => (channel, 4, 0),
        };
        let mut header = [0; HEADER_LENGTH];
        for (place, word) in header.chunks_exact_mut(4).zip([channel, kind, value]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }

    /// Decodes and checks a header.
    ///
    /// # Errors
    /// [`FrameError::UnknownKind`] and [`FrameError::BadLength`].
    pub fn decode(header: [u8; HEADER_LENGTH]) -> Result<Self, FrameError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = header;
        let channel = u32::from_le_bytes([a, b, c, d]);
        let value = u32::from_le_bytes([i, j, k, l]);
        match u32::from_le_bytes([e, f, g, h]) {
            1 => Ok(Self::Hello { version: value }),
            2 if value == 0 || value > MAX_DATA => Err(FrameError::BadLength(value)),
            2 => Ok(Self::Data { channel, length: value }),
            3 => Ok(Self::Credit { channel, bytes: value }),
            4 => Ok(Self::Close { channel }),
            kind => Err(FrameError::UnknownKind(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives_encoding() {
        for frame in [
            Frame::Hello { version: 7 },
            Frame::Data { channel: 3, length: MAX_DATA },
            Frame::Credit { channel: u32::MAX, bytes: 1 },
            Frame::Close { channel: 16 },
        ] {
            assert_eq!(Frame::decode(frame.encode()), Ok(frame));
        }
    }

    #[test]
    fn bad_headers_are_refused() {
        let long = Frame::Data { channel: 1, length: MAX_DATA + 1 };
        assert_eq!(Frame::decode(long.encode()), Err(FrameError::BadLength(MAX_DATA + 1)));
        let mut unknown = Frame::Close { channel: 1 }.encode();
        unknown[4] = 9;
        assert_eq!(Frame::decode(unknown), Err(FrameError::UnknownKind(9)));
    }
}
