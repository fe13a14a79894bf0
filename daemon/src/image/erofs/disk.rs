//! EROFS's on-disk structures, as far as the writer and the reader use them: numbers and byte positions, no behaviour.
//!
//! All integers are little-endian. A node's number (nid) is its inode's offset from the metadata area in units of 32 bytes.

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4096;
/// Bytes of a block, as a length in memory.
pub(crate) const BLOCK_LENGTH: usize = 4096;
/// Where the superblock is in block 0.
pub(crate) const SUPERBLOCK_OFFSET: usize = 1024;
/// The superblock's first word.
pub(crate) const MAGIC: u32 = 0xe0f5_e1e2;
/// Length of an extended inode.
pub(crate) const INODE: u64 = 64;
/// Unit of a nid.
pub(crate) const INODE_SLOT: u64 = 32;
/// Length of a directory entry without its name.
pub(crate) const ENTRY: usize = 12;
/// Length of the header before the extended attributes of an inode.
pub(crate) const XATTR_HEADER: usize = 12;
/// Length of an extended attribute's header.
pub(crate) const XATTR_ENTRY: usize = 4;

/// Compatible feature: the superblock has a checksum.
pub(crate) const FEATURE_CHECKSUM: u32 = 1;
/// Compatible feature: inodes have their own modification times.
pub(crate) const FEATURE_MTIME: u32 = 2;

/// Data layout: whole blocks only.
pub(crate) const LAYOUT_PLAIN: u16 = 0;
/// Data layout: the last, partial block follows the inode.
pub(crate) const LAYOUT_INLINE: u16 = 2;
/// Bit of the format that marks an extended inode.
pub(crate) const FORMAT_EXTENDED: u16 = 1;

/// File type bits of a Linux mode.
pub(crate) mod mode {
    pub(crate) const DIRECTORY: u16 = 0o040_000;
    pub(crate) const FILE: u16 = 0o100_000;
    pub(crate) const SYMLINK: u16 = 0o120_000;
    pub(crate) const CHARACTER: u16 = 0o020_000;
    pub(crate) const BLOCK: u16 = 0o060_000;
    pub(crate) const FIFO: u16 = 0o010_000;
    pub(crate) const SOCKET: u16 = 0o140_000;
    pub(crate) const TYPE: u16 = 0o170_000;
}

/// File types in directory entries.
pub(crate) fn entry_type(mode: u16) -> u8 {
    match mode & mode::TYPE {
        mode::FILE => 1,
        mode::DIRECTORY => 2,
        mode::CHARACTER => 3,
        mode::BLOCK => 4,
        mode::FIFO => 5,
        mode::SOCKET => 6,
        mode::SYMLINK => 7,
        _ => 0,
    }
}

/// Prefixes of attribute names that the format abbreviates to a number.
pub(crate) const XATTR_PREFIXES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// Linux's encoding of a device number in 32 bits.
pub(crate) fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & !0xff) << 12)
}

/// CRC-32C without the final inversion, as the superblock's checksum uses it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn device_numbers_have_linux_encoding() {
        assert_eq!(device(1, 3), 0x103);
        assert_eq!(device(259, 300), (300 & 0xff) | (259 << 8) | (0x100 << 12));
    }
}
