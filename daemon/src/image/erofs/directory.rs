//! Packs directory entries into blocks: entries sorted by name, each block its entries first and then their names.

use super::disk;

/// An entry before it has its place: the name, and the index of the node in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) node: usize,
}

/// Splits sorted entries into blocks; gives the end index of each block and the bytes used in the last.
pub(crate) fn split(entries: &[Entry]) -> (Vec<usize>, usize) {
    let mut ends = Vec::new();
    let mut used = 0;
    for (index, entry) in entries.iter().enumerate() {
        let need = disk::ENTRY + entry.name.len();
        if used + need > disk::BLOCK_LENGTH {
            ends.push(index);
            used = 0;
        }
        used += need;
    }
    ends.push(entries.len());
    (ends, used)
}

/// The bytes of one block, without padding. `number` and `kind` give each node's nid and file type.
pub(crate) fn encode(entries: &[Entry], lookup: impl Fn(usize) -> (u64, u8)) -> Vec<u8> {
    let mut block = Vec::with_capacity(disk::BLOCK_LENGTH);
    let mut name_offset = entries.len() * disk::ENTRY;
    for entry in entries {
        let (nid, kind) = lookup(entry.node);
        block.extend_from_slice(&nid.to_le_bytes());
        // A block has 4096 bytes, so every offset fits.
        block.extend_from_slice(&u16::try_from(name_offset).unwrap_or(u16::MAX).to_le_bytes());
        block.extend_from_slice(&[kind, 0]);
        name_offset += entry.name.len();
    }
    for entry in entries {
        block.extend_from_slice(&entry.name);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_filled_but_never_overfilled() {
        let entries: Vec<_> =
            (0..100).map(|node| Entry { name: vec![b'n'; 88 + node % 7], node }).collect();
        let (ends, last) = split(&entries);
        let mut start = 0;
        for end in &ends {
            let block = encode(&entries[start..*end], |node| (node as u64, 1));
            assert!(block.len() <= disk::BLOCK_LENGTH);
            start = *end;
        }
        assert_eq!(start, entries.len());
        assert_eq!(encode(&entries[ends[ends.len() - 2]..], |_| (0, 1)).len(), last);
    }
}
