//! A tar header block: fixed fields, octal or binary numbers, and a checksum.

use super::{Member, MemberKind, TarError};

/// Length of a header, and the unit of an archive.
pub(crate) const BLOCK: usize = 512;

/// A header whose checksum is right.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    block: [u8; BLOCK],
}

impl Header {
    /// Checks a block.
    pub(crate) fn new(block: [u8; BLOCK]) -> Result<Self, TarError> {
        let header = Self { block };
        let stated = header.number(148, 8)?;
        let in_sum = |index: usize| (148..156).contains(&index);
        let byte = |(index, byte): (usize, &u8)| if in_sum(index) { b' ' } else { *byte };
        let unsigned: i64 = block.iter().enumerate().map(|b| i64::from(byte(b))).sum();
        let signed: i64 = block.iter().enumerate().map(|b| i64::from(byte(b).cast_signed())).sum();
        if stated != unsigned && stated != signed {
            return Err(TarError::Damaged("a header has a wrong checksum"));
        }
        Ok(header)
    }

    /// Bytes of a field.
    pub(crate) fn field(&self, offset: usize, length: usize) -> &[u8] {
        self.block.get(offset..offset + length).unwrap_or_default()
    }

    /// A text field: up to the first zero.
    fn text(&self, offset: usize, length: usize) -> &[u8] {
        self.field(offset, length).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// A number field.
    fn number(&self, offset: usize, length: usize) -> Result<i64, TarError> {
        number(self.field(offset, length))
    }

    fn unsigned(&self, offset: usize, length: usize) -> Result<u32, TarError> {
        u32::try_from(self.number(offset, length)?)
            .map_err(|_| TarError::Damaged("a number is out of range"))
    }

    /// The type flag.
    pub(crate) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// The length of what follows the header.
    pub(crate) fn size(&self) -> Result<u64, TarError> {
        u64::try_from(self.number(124, 12)?).map_err(|_| TarError::Damaged("a negative size"))
    }

    fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        // Only POSIX archives have a prefix; GNU uses the place for other things.
        let prefix = if self.field(257, 6) == b"ustar\0" { self.text(345, 155) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The member as the header alone describes it.
    pub(crate) fn member(&self) -> Result<Member, TarError> {
        let device = || Ok::<_, TarError>((self.unsigned(329, 8)?, self.unsigned(337, 8)?));
        let link = self.text(157, 100).to_vec();
        let kind = match self.kind() {
            b'0' | 0 | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink(link),
            b'2' => MemberKind::Symlink(link),
            b'3' => device().map(|(major, minor)| MemberKind::CharacterDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| MemberKind::BlockDevice { major, minor })?,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            _ => return Err(TarError::Damaged("a member of an unknown type")),
        };
        let permissions = u16::try_from(self.number(100, 8)? & 0o7777).unwrap_or_default();
        Ok(Member {
            path: self.path(),
            kind,
            size: 0,
            permissions,
            uid: self.unsigned(108, 8)?,
            gid: self.unsigned(116, 8)?,
            modified: self.number(136, 12)?,
            modified_nanoseconds: 0,
            xattrs: Vec::new(),
            segments: None,
        })
    }
}

/// A number in octal digits, or in base 256 when the first bit is set.
pub(crate) fn number(field: &[u8]) -> Result<i64, TarError> {
    let bad = TarError::Damaged("a number field is malformed");
    let (first, rest) = field.split_first().ok_or(TarError::Damaged("an empty field"))?;
    if first & 0x80 != 0 {
        // The sign is the bit below the marker.
        let start = if first & 0x40 == 0 { i128::from(first & 0x3f) } else { -1 };
        let value = rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256).map(|value| value | i128::from(*byte))
        });
        return value.and_then(|value| i64::try_from(value).ok()).ok_or(bad);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let digits = field.iter().skip_while(|byte| blank(byte)).take_while(|byte| !blank(byte));
    digits
        .into_iter()
        .try_fold(0i64, |value, byte| match byte {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
            _ => None,
        })
        .ok_or(bad)
}
