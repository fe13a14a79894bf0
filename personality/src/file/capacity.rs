//! How much a mounted memory file system may hold (`--tmpfs PATH:size=...`, tmpfs(5)): the pages of its files.

use crate::linux::Errno;
use core::cell::Cell;

/// The limit of one file system, and what its files have.
#[derive(Debug)]
pub struct Capacity {
    limit: u64,
    used: Cell<u64>,
}

impl Capacity {
    /// Room for a number of pages.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { limit, used: Cell::new(0) }
    }
    /// Pages it may hold.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }
    /// Pages that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used.get())
    }
    /// Takes a page.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn take(&self) -> Result<(), Errno> {
        if self.left() == 0 {
            return Err(Errno::ENOSPC);
        }
        self.add(1);
        Ok(())
    }
    /// Counts pages that a file brings with it.
    pub fn add(&self, pages: u64) {
        self.used.set(self.used.get().saturating_add(pages));
    }
    /// Gives pages back.
    pub fn give_back(&self, pages: u64) {
        self.used.set(self.used.get().saturating_sub(pages));
    }
}
