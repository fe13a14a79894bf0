//! The start-up block: what a native program was handed, by name.
//!
//! The creator writes a [`crate::wire`] encoding of [`Startup`] into pages mapped read-only at `kernel_abi::layout::home::STARTUP`.

use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Contents of the block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup {
    /// Program name, for logs.
    pub program: String,
    /// Named capabilities: name, slot in the program's own table.
    pub capabilities: Vec<(String, u32)>,
    /// First slot that is free.
    pub first_free_slot: u32,
    /// Named numbers (sizes, bits of notifications), for example `port.bits`.
    pub values: Vec<(String, u64)>,
    /// Pages of the program's budget that its heap may use.
    pub heap_pages: u64,
    /// 256 bits of randomness for this program alone.
    pub seed: [u8; 32],
    /// What the program is to do (for a personality: an encoded [`crate::compartment::Spec`]).
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}
