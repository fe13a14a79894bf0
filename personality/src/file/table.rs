//! Tables of file descriptors.

use super::OpenFile;
use crate::linux::Errno;
use alloc::{rc::Rc, vec::Vec};

/// Most descriptors of a table.
pub const MAX_FILES: usize = 1 << 20;

/// A table.
#[derive(Clone, Debug, Default)]
pub struct FileTable {
    slots: Vec<Option<(Rc<OpenFile>, bool)>>,
    /// No free descriptor is below this.
    lowest: usize,
}

impl FileTable {
    /// The open file of a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<&Rc<OpenFile>, Errno> {
        let slot = usize::try_from(fd).ok().and_then(|fd| self.slots.get(fd));
        slot.and_then(Option::as_ref).map(|(file, _)| file).ok_or(Errno::EBADF)
    }
    /// Puts a file at the lowest free descriptor at or above a number.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn insert(
        &mut self,
        file: Rc<OpenFile>,
        close_on_exec: bool,
        from: usize,
        limit: u64,
    ) -> Result<i32, Errno> {
        let mut fd = from.max(if from <= self.lowest { self.lowest } else { from });
        while self.slots.get(fd).is_some_and(Option::is_some) {
            fd += 1;
        }
        if fd as u64 >= limit || fd >= MAX_FILES {
            return Err(Errno::EMFILE);
        }
        if from <= self.lowest {
            self.lowest = fd + 1;
        }
        self.put(fd, file, close_on_exec);
        Ok(fd as i32)
    }
    fn put(&mut self, fd: usize, file: Rc<OpenFile>, close_on_exec: bool) -> Option<Rc<OpenFile>> {
        if fd >= self.slots.len() {
            self.slots.resize_with(fd + 1, || None);
        }
        let place = self.slots.get_mut(fd)?;
        place.replace((file, close_on_exec)).map(|(before, _)| before)
    }
    /// Puts a file at a certain descriptor; what was there.
    ///
    /// # Errors
    /// `EBADF` beyond the limit.
    pub fn replace(
        &mut self,
        fd: i32,
        file: Rc<OpenFile>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Rc<OpenFile>>, Errno> {
        let fd = usize::try_from(fd)
            .ok()
            .filter(|fd| (*fd as u64) < limit && *fd < MAX_FILES)
            .ok_or(Errno::EBADF)?;
        Ok(self.put(fd, file, close_on_exec))
    }
    /// Takes a descriptor away.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&mut self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let (file, _) = self.slots.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)?;
        self.lowest = self.lowest.min(index);
        Ok(file)
    }
    /// The close-on-exec flag.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close_on_exec(&self, fd: i32) -> Result<bool, Errno> {
        let slot = usize::try_from(fd).ok().and_then(|fd| self.slots.get(fd));
        slot.and_then(Option::as_ref).map(|(_, flag)| *flag).ok_or(Errno::EBADF)
    }
    /// Sets the close-on-exec flag.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&mut self, fd: i32, flag: bool) -> Result<(), Errno> {
        let slot =
            usize::try_from(fd).ok().and_then(|fd| self.slots.get_mut(fd)).and_then(Option::as_mut);
        slot.ok_or(Errno::EBADF)?.1 = flag;
        Ok(())
    }
    /// Takes everything away that is closed on exec.
    pub fn take_close_on_exec(&mut self) -> Vec<Rc<OpenFile>> {
        let mut closed = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(|(_, flag)| *flag)
                && let Some((file, _)) = slot.take()
            {
                self.lowest = self.lowest.min(index);
                closed.push(file);
            }
        }
        closed
    }
    /// Open descriptors in order.
    pub fn descriptors(&self) -> impl Iterator<Item = (i32, &Rc<OpenFile>)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| slot.as_ref().map(|(file, _)| (index as i32, file)))
    }
    /// One past the highest descriptor that was used.
    #[must_use]
    pub fn length(&self) -> i32 {
        self.slots.len() as i32
    }
}
