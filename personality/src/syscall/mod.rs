//! System calls: the table of all of them, and what each does.
//!
//! A handler reads its arguments from the guest's registers, checks them, and returns a value, an error, or that it waits; a call that waits is begun anew
//! from the start, so nothing may have been changed by then but what [`crate::task::Call`] remembers.

mod descriptors;
mod files;
mod futexes;
mod identity;
mod io;
mod ioctl;
mod limits;
mod memory;
mod messages;
mod metadata;
mod notify;
mod opening;
mod poll;
mod process;
mod scheduling;
mod signals;
mod sizes;
mod socket_options;
mod sockets;
mod splice;
pub mod system_information;
pub mod table;
mod time;
mod xattr;

use crate::{
    file::{OpenFile, open::Io, path::Walker},
    linux::{AT_FDCWD, Errno, PATH_MAX},
    machine::guest,
    system::System,
    task::{Place, Task, credentials::Credentials, signal},
    wait::Stop,
};
use alloc::{rc::Rc, vec::Vec};
use core::cell::{Cell, RefCell};

pub use system_information::RELEASE;
pub use table::{dispatch, is_uninterruptible, restarts};

/// What a handler returns.
pub type Outcome = Result<u64, Stop>;

/// A call under way.
pub struct Call<'a> {
    /// The shared state.
    pub system: &'a mut System,
    /// The caller.
    pub task: &'a Rc<Task>,
}

impl core::fmt::Debug for Call<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Call")
    }
}

impl Call<'_> {
    /// An argument.
    #[inline]
    #[must_use]
    pub fn argument(&self, index: usize) -> u64 {
        let state = self.task.state;
        match index {
            0 => state.rdi(),
            1 => state.rsi(),
            2 => state.rdx(),
            3 => state.r10(),
            4 => state.r8(),
            _ => state.r9(),
        }
    }
    /// An argument that is a C `int`.
    #[must_use]
    pub fn int(&self, index: usize) -> i32 {
        self.argument(index) as i32
    }
    /// An argument that is a path.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub fn path(&self, index: usize) -> Result<Vec<u8>, Errno> {
        guest::read_string(self.argument(index), PATH_MAX - 1)
    }
    /// The open file of a descriptor argument.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn file(&self, index: usize) -> Result<Rc<OpenFile>, Errno> {
        self.file_of(self.int(index))
    }
    /// The open file of a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn file_of(&self, fd: i32) -> Result<Rc<OpenFile>, Errno> {
        self.task.files.borrow().borrow().get(fd).cloned()
    }
    /// Puts a new file into the table.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn install(&self, file: Rc<OpenFile>, close_on_exec: bool) -> Result<u64, Errno> {
        let limit = self.task.process.limit(crate::linux::RLIMIT_NOFILE);
        self.task
            .files
            .borrow()
            .borrow_mut()
            .insert(file, close_on_exec, 0, limit)
            .map(|fd| fd as u64)
    }
    /// What reads and writes need to know of the caller.
    #[must_use]
    pub fn io(&self) -> Io<'_> {
        Io { task: self.task, signals: RefCell::new(Vec::new()), told: Cell::new(false) }
    }
    /// Sends the signals that reads and writes have caused, and tells the daemon.
    pub fn settle(&self, signals: Vec<(i32, u8)>, told: bool) {
        for (group, signo) in signals {
            self.system.signal_group(group, signo, signal::info_from_kernel(signo));
        }
        if told {
            crate::session::mark_dirty();
        }
    }
    /// Sends the caller a signal.
    pub fn signal_self(&self, signo: u8) {
        signal::send_to_task(
            self.task,
            signo,
            signal::info_from(signo, crate::linux::SI_USER, self.task.process.pid, 0),
        );
    }
    /// Resolves a descriptor and a path with a function.
    ///
    /// # Errors
    /// Those of the function, and `EBADF`, `ENOTDIR`.
    pub fn at<R>(
        &self,
        fd: i32,
        path: &[u8],
        with: impl FnOnce(&Walker<'_>) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let place: Rc<Place> = self.task.place();
        let credentials: Rc<Credentials> = self.task.credentials();
        let start = if path.first() == Some(&b'/') || fd == AT_FDCWD {
            None
        } else {
            let file = self.file_of(fd)?;
            let node = file.node.clone().ok_or(Errno::ENOTDIR)?;
            if !node.is_directory() && !path.is_empty() {
                return Err(Errno::ENOTDIR);
            }
            Some(node)
        };
        with(&Walker { place: &place, credentials: &credentials, start })
    }
    /// The node of a descriptor and path with the flags `AT_EMPTY_PATH` and following or not.
    ///
    /// # Errors
    /// Those of path resolution.
    pub fn node_at(
        &self,
        fd: i32,
        path: &[u8],
        follow: bool,
        may_be_empty: bool,
    ) -> Result<Rc<crate::file::Node>, Errno> {
        if path.is_empty() && may_be_empty {
            if fd == AT_FDCWD {
                return Ok(self.task.place().working.borrow().clone());
            }
            return self.file_of(fd)?.node.clone().ok_or(Errno::EBADF);
        }
        self.at(fd, path, |walker| walker.find(path, follow))
    }
}

/// Reads an array of `iovec`s.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn read_vectors(address: u64, count: u64) -> Result<Vec<(u64, u64)>, Errno> {
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let mut pieces = Vec::with_capacity(count as usize);
    let mut total = 0_u64;
    for index in 0..count {
        let piece: crate::linux::layouts::Iovec = guest::read(address + 16 * index)?;
        total = total
            .checked_add(piece.length)
            .filter(|total| *total <= i64::MAX as u64)
            .ok_or(Errno::EINVAL)?;
        pieces.push((piece.base, piece.length));
    }
    Ok(pieces)
}
