//! Encodes the extended attributes that follow an inode.

use super::disk;
use crate::image::tree::Xattrs;

/// Splits a name into the number of its prefix and the rest.
fn abbreviate(name: &[u8]) -> Option<(u8, &[u8])> {
    disk::XATTR_PREFIXES
        .iter()
        .find_map(|(prefix, index)| Some((*index, name.strip_prefix(*prefix)?)))
}

/// Whether the format, and Linux, can hold the attribute.
pub(crate) fn is_storable(name: &[u8], value: &[u8]) -> bool {
    abbreviate(name).is_some_and(|(index, rest)| {
        let named = if matches!(index, 2 | 3) { rest.is_empty() } else { !rest.is_empty() };
        named && rest.len() <= 255 && value.len() <= usize::from(u16::MAX)
    })
}

/// The header and the entries; empty without attributes. Attributes that are not storable are left out; so is what exceeds the 64 KiB
/// Linux allows per file.
pub(crate) fn encode(xattrs: &Xattrs) -> Vec<u8> {
    const LIMIT: usize = 64 * 1024;
    let mut bytes = vec![0; disk::XATTR_HEADER];
    for (name, value) in xattrs.iter().filter(|(name, value)| is_storable(name, value)) {
        let Some((index, rest)) = abbreviate(name) else { continue };
        let (Ok(name_length), Ok(value_length)) =
            (u8::try_from(rest.len()), u16::try_from(value.len()))
        else {
            continue;
        };
        if bytes.len() + disk::XATTR_ENTRY + rest.len() + value.len() > LIMIT {
            continue;
        }
        bytes.extend_from_slice(&[name_length, index]);
        bytes.extend_from_slice(&value_length.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if bytes.len() == disk::XATTR_HEADER { Vec::new() } else { bytes }
}

/// The inode's count field for encoded attributes.
pub(crate) fn count(encoded: &[u8]) -> u16 {
    match encoded.len().checked_sub(disk::XATTR_HEADER) {
        None => 0,
        Some(entries) => u16::try_from(1 + entries / 4).unwrap_or(u16::MAX),
    }
}
