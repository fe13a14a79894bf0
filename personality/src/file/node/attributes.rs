//! What stat(2), statx(2) and the calls for extended attributes (xattr(7)) tell of a node.

use super::{Kind, Node, major, minor};
use crate::{
    file::watch,
    linux::{
        Errno, S_IFREG, S_ISGID, S_ISUID,
        layouts::{Stat, Statx, StatxTimestamp},
    },
    task::{Task, credentials::CAP_FSETID},
};
use alloc::vec::Vec;

impl Node {
    /// Fills stat(2)'s structure.
    #[must_use]
    pub fn stat(&self) -> Stat {
        let meta = self.meta.get();
        let size = self.size();
        Stat {
            dev: self.device,
            ino: self.id,
            nlink: meta.nlink.into(),
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            rdev: meta.rdev,
            size: size.cast_signed(),
            blksize: 4096,
            blocks: self.blocks(size).cast_signed(),
            atime: meta.accessed.0,
            atime_nsec: meta.accessed.1.into(),
            mtime: meta.modified.0,
            mtime_nsec: meta.modified.1.into(),
            ctime: meta.changed.0,
            ctime_nsec: meta.changed.1.into(),
            ..Stat::default()
        }
    }

    fn blocks(&self, size: u64) -> u64 {
        match &self.kind {
            Kind::File(data) => data.blocks(),
            Kind::Directory(_) => 0,
            _ => size.div_ceil(4096) * 8,
        }
    }

    /// Fills statx(2)'s structure.
    #[must_use]
    pub fn statx(&self) -> Statx {
        let stat = self.stat();
        let moment = |seconds, nanoseconds: i64| StatxTimestamp {
            seconds,
            nanoseconds: nanoseconds as u32,
            reserved: 0,
        };
        Statx {
            mask: 0x7ff,
            blksize: 4096,
            nlink: stat.nlink as u32,
            uid: stat.uid,
            gid: stat.gid,
            mode: stat.mode as u16,
            ino: stat.ino,
            size: stat.size as u64,
            blocks: stat.blocks as u64,
            atime: moment(stat.atime, stat.atime_nsec),
            ctime: moment(stat.ctime, stat.ctime_nsec),
            mtime: moment(stat.mtime, stat.mtime_nsec),
            rdev_major: major(stat.rdev),
            rdev_minor: minor(stat.rdev),
            dev_minor: stat.dev as u32,
            ..Statx::default()
        }
    }

    /// What a change of its contents by a task takes from a regular file: set-user-ID and set-group-ID, unless the task may keep them.
    #[inline]
    pub fn lose_set_ids(&self, by: &Task) {
        if self.meta.get().mode & (S_ISUID | S_ISGID) != 0 && self.file_type() == S_IFREG {
            self.take_set_ids(by);
        }
    }

    #[cold]
    fn take_set_ids(&self, by: &Task) {
        let credentials = by.credentials();
        if !credentials.has(CAP_FSETID) {
            self.change(|meta| meta.mode = credentials.without_set_ids(meta.mode, meta.gid));
        }
    }

    /// Reads an extended attribute by its full name.
    #[must_use]
    pub fn xattr(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.xattrs.borrow().iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
    /// Sets an extended attribute; with flags 1 it must not exist, with 2 it must.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA`.
    pub fn set_xattr(&self, name: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let mut xattrs = self.xattrs.borrow_mut();
        match xattrs.iter_mut().find(|(known, _)| known == name) {
            Some(_) if flags & 1 != 0 => return Err(Errno::EEXIST),
            Some((_, old)) => *old = value.to_vec(),
            None if flags & 2 != 0 => return Err(Errno::ENODATA),
            None => xattrs.push((name.to_vec(), value.to_vec())),
        }
        drop(xattrs);
        self.change(|_| {});
        watch::tell(self, watch::ATTRIBUTES);
        Ok(())
    }
    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`.
    pub fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        let mut xattrs = self.xattrs.borrow_mut();
        let index = xattrs.iter().position(|(known, _)| known == name).ok_or(Errno::ENODATA)?;
        xattrs.remove(index);
        Ok(())
    }
    /// Names of the extended attributes.
    #[must_use]
    pub fn xattr_names(&self) -> Vec<Vec<u8>> {
        self.xattrs.borrow().iter().map(|(name, _)| name.clone()).collect()
    }
}
