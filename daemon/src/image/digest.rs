//! Content digests as OCI writes them (`sha256:…`), and a reader that computes one on the way.

use super::error::ImageError;
use sha2::{Digest as _, Sha256, Sha512};
use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

/// A digest: an algorithm and its lower-case hexadecimal value, checked to be well-formed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

/// The hash functions OCI registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Digest {
    /// The SHA-256 of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_sha256(&Sha256::digest(bytes))
    }

    /// A digest from the raw value of a SHA-256.
    #[must_use]
    pub fn from_sha256(raw: &[u8]) -> Self {
        Self { algorithm: Algorithm::Sha256, hex: hex(raw) }
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal value.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The raw value of a SHA-256, as the machine names blobs.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        let mut raw = [0; 32];
        if self.algorithm != Algorithm::Sha256 || self.hex.len() != 64 {
            return None;
        }
        for (place, pair) in raw.iter_mut().zip(self.hex.as_bytes().chunks(2)) {
            *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(raw)
    }
}

/// Lower-case hexadecimal digits of some bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl FromStr for Digest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let bad = || ImageError::BadDigest(text.to_owned());
        let (algorithm, hex) = text.split_once(':').ok_or_else(bad)?;
        let (algorithm, length) = match algorithm {
            "sha256" => (Algorithm::Sha256, 64),
            "sha512" => (Algorithm::Sha512, 128),
            _ => return Err(bad()),
        };
        let digits = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !digits || hex.len() != length {
            return Err(bad());
        }
        Ok(Self { algorithm, hex: hex.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithm = match self.algorithm {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        };
        write!(f, "{algorithm}:{}", self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A hash in progress.
#[derive(Clone, Debug)]
enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// Passes bytes through and hashes and counts them.
#[derive(Debug)]
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> HashingReader<R> {
    /// Hashes what is read from `inner`.
    pub(crate) fn new(inner: R, algorithm: Algorithm) -> Self {
        let hasher = match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        };
        Self { inner, hasher, count: 0 }
    }

    /// Reads to the end and gives the digest of all bytes and their number.
    pub(crate) fn finish(mut self) -> io::Result<(Digest, u64)> {
        let mut buffer = vec![0; 64 * 1024];
        while self.read(&mut buffer)? > 0 {}
        Ok(match self.hasher {
            Hasher::Sha256(hasher) => (Digest::from_sha256(&hasher.finalize()), self.count),
            Hasher::Sha512(hasher) => {
                let hex = hex(&hasher.finalize());
                (Digest { algorithm: Algorithm::Sha512, hex }, self.count)
            }
        })
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let bytes = buffer.get(..length).unwrap_or_default();
        match &mut self.hasher {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
        self.count += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_digests_are_refused() {
        for text in ["", "sha256", "sha256:", "md5:abc", "sha256:../../etc/passwd", "sha256:ABCD"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let upper = format!("sha256:{}", "A".repeat(64));
        assert!(upper.parse::<Digest>().is_err());
    }

    #[test]
    fn a_digest_survives_text() {
        let digest = Digest::of(b"hello");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert_eq!(hex(&digest.sha256().unwrap()), digest.hex());
    }

    #[test]
    fn the_reader_counts_and_hashes_what_nobody_read() {
        let reader = HashingReader::new(&b"hello"[..], Algorithm::Sha256);
        assert_eq!(reader.finish().unwrap(), (Digest::of(b"hello"), 5));
    }
}
