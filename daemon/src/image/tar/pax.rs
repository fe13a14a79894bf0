//! PAX extended headers: records `LENGTH KEY=VALUE\n` that override header fields. Values are binary.

use super::{Member, MemberKind, TarError, sparse::PaxMap};

/// What the headers before a member say about it.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxMap,
}

impl Extensions {
    /// Adds the records of one extended header.
    pub(crate) fn parse(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        const BAD: TarError = TarError::Damaged("a malformed extended header");
        while !bytes.is_empty() {
            // Some writers pad with zeros.
            if bytes.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or(BAD)?;
            let (length, _) = bytes.split_at(space);
            let length: usize = decimal(length).ok_or(BAD)?;
            let (record, rest) = bytes.split_at_checked(length).ok_or(BAD)?;
            let record = record.get(space + 1..).and_then(|r| r.strip_suffix(b"\n")).ok_or(BAD)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
            let (key, value) = record.split_at(equals);
            self.record(key, value.get(1..).unwrap_or_default()).ok_or(BAD)?;
            bytes = rest;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.modified = Some(timestamp(value)?),
            _ => match key.strip_prefix(b"SCHILY.xattr.") {
                Some(name) => self.xattrs.push((name.to_vec(), value.to_vec())),
                None => self.sparse.record(key, value)?,
            },
        }
        Some(())
    }

    /// Overrides what the header says; gives the sparse map if there is one.
    pub(crate) fn apply(self, member: &mut Member) -> Option<PaxMap> {
        if let Some(path) = self.path {
            member.path = path;
        }
        if let (Some(link), MemberKind::HardLink(target) | MemberKind::Symlink(target)) =
            (self.link, &mut member.kind)
        {
            *target = link;
        }
        member.uid = self.uid.unwrap_or(member.uid);
        member.gid = self.gid.unwrap_or(member.gid);
        if let Some((seconds, nanoseconds)) = self.modified {
            (member.modified, member.modified_nanoseconds) = (seconds, nanoseconds);
        }
        member.xattrs = self.xattrs;
        self.sparse.is_present().then_some(self.sparse)
    }
}

/// A decimal number.
pub(super) fn decimal<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, also before 1970.
fn timestamp(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if seconds.starts_with('-') && nanoseconds > 0 {
        return Some((whole.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((whole, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_round_down() {
        assert_eq!(timestamp(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(timestamp(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(timestamp(b"7"), Some((7, 0)));
        assert_eq!(timestamp(b"7.x"), None);
    }

    #[test]
    fn values_may_hold_newlines_and_equals_signs() {
        let mut extensions = Extensions::default();
        extensions.parse(b"28 SCHILY.xattr.user.a=\n=\n\n\n").unwrap();
        assert_eq!(extensions.xattrs, [(b"user.a".to_vec(), b"\n=\n\n".to_vec())]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [&b"x"[..], b"99 path=a\n", b"3 a\n", b"9 path=abc", b"11 size=-5\n\n"] {
            assert!(Extensions::default().parse(bytes).is_err());
        }
    }
}
