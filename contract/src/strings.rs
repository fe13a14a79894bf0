//! Lists of byte strings whose bytes are read and written in one piece; on the wire they look like any list of lists.

use alloc::vec::Vec;
use serde::{Deserialize, Deserializer, Serializer};
use serde_bytes::{ByteBuf, Bytes};

/// For `#[serde(with)]`.
pub(crate) fn serialize<S: Serializer>(strings: &[Vec<u8>], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(strings.iter().map(|string| Bytes::new(string)))
}

/// For `#[serde(with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Vec<u8>>, D::Error> {
    let strings: Vec<ByteBuf> = Deserialize::deserialize(from)?;
    Ok(strings.into_iter().map(ByteBuf::into_vec).collect())
}
