//! `services/images`: the machine's store of layer blobs, each a frozen Space named by the SHA-256 of the blob.
//!
//! Two interfaces: the daemon's over the channel [`crate::channel::well_known::IMAGES`], and other services' by calls.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// SHA-256 of a blob.
pub type Digest = [u8; 32];

/// From the daemon. Answers come in the order of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// `length` raw bytes follow this message; they are stored, hashed and, if the digest is right, frozen and published.
    Put {
        /// Digest the blob must have.
        digest: Digest,
        /// Length in bytes.
        length: u64,
    },
    /// Lists the blobs held.
    List,
    /// Forgets a blob; compartments that use it keep it until they end.
    Remove {
        /// Which.
        digest: Digest,
    },
}

/// To the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The request was carried out.
    Done,
    /// Answer to `List`: digest and length.
    Blobs(Vec<(Digest, u64)>),
    /// The bytes do not have the digest; nothing was kept.
    WrongDigest {
        /// The digest they have.
        actual: Digest,
    },
    /// The store's budget does not allow the blob; nothing was kept.
    OutOfMemory,
    /// No such blob.
    Unknown,
    /// Anything else, for people.
    Refused(String),
}

/// Labels of calls through an images Gate.
pub mod call {
    /// Words: the digest (four little-endian words). Answer: one capability, the frozen Space (map-read, map-execute), word 0: length in bytes.
    pub const OPEN: u32 = 1;
    /// Answer label: there is no such blob.
    pub const UNKNOWN: u32 = 0x101;
}
