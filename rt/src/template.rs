//! Templates: what a program has written before it was told anything, as the memory that others of its kind begin with.
//!
//! A program that is launched with the value [`WANTED`] prepares itself and rests; whoever launched it copies what it has written into a Space that
//! is frozen, and launches others copy-on-write over that. The copy holds no capability and no randomness: a slot that the program remembers must mean
//! the same in those that follow, and everything else is asked for anew. Must not know: what the program prepares.

use crate::{Domain, Result, Space, Thread, startup};
use alloc::vec::Vec;
use kernel_abi::{
    Error, PAGE_SHIFT, PAGE_SIZE,
    layout::{HOME_SIZE, home},
    resource::Resource,
    space::{Access, MapMode, PageState, SpaceUse},
};

/// The value that asks a program to become a template.
pub const WANTED: &str = "template";
/// State of a thread that has ended, as the kernel tells it.
const DEAD: u64 = 3;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;
/// Most runs of pages that are looked at, and most writable pages.
const MOST_RUNS: u32 = 128;
const MOST_PAGES: u64 = 512;

/// Whether this program is to become one.
#[must_use]
pub fn is_wanted() -> bool {
    startup::value(WANTED).is_some()
}

/// Ends the calling thread, the program's only one, and leaves the Domain as it is.
pub fn rest() -> ! {
    crate::heap::trim();
    crate::start::end_thread()
}

/// A program that prepares itself.
#[derive(Debug, Default)]
pub struct Preparing {
    pub(crate) domain: Domain,
    pub(crate) home: Space,
    pub(crate) thread: Thread,
}

impl Preparing {
    /// Whether it rests: it has not ended its Domain, as a program that fails does.
    #[must_use]
    pub fn rests(&self) -> bool {
        // A Domain is marked dead before its threads are: one that lives has ended its thread itself.
        self.thread.stat().is_ok_and(|(_, state, _)| state == DEAD)
            && self.domain.stat(Resource::Frames).is_ok()
    }

    /// Keeps what it has written, paid for by a Domain.
    ///
    /// # Errors
    /// `OutOfFrames`, `BadArgument` when it is more than a template should hold, `NoCapability` when the program is gone.
    pub fn keep(&self, payer: Domain) -> Result<Memory> {
        let runs = written(self.home)?;
        let memory =
            Memory { space: Space::create(payer, SpaceUse::Hold, None)?, ranges: joined(&runs) };
        runs.iter().try_for_each(|run| memory.take(self.home, run))?;
        memory.space.freeze()?;
        Ok(memory)
    }
}

impl Drop for Preparing {
    fn drop(&mut self) {
        self.home.forget();
        self.thread.forget();
        if self.domain.destroy().is_err() {
            self.domain.forget();
        }
    }
}

/// Pages of one kind, writable by the program.
#[derive(Clone, Copy, Debug)]
struct Run {
    offset: u64,
    pages: u64,
    /// Demand-zero, never touched.
    is_zero: bool,
}

/// The writable pages of a home, without what every launch makes anew: stack and start-up block.
fn written(home_space: Space) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let (mut at, mut found, mut written) = (home::STACK_TOP, 0, 0);
    while at < HOME_SIZE {
        let (offset, word) = match home_space.query(at, (HOME_SIZE - at) >> PAGE_SHIFT) {
            Ok(found) => found,
            Err(Error::NotPresent) => break,
            Err(error) => return Err(error),
        };
        let pages = (word >> 32) + 1;
        at = offset + (pages << PAGE_SHIFT);
        let access = Access::from_bits_truncate((word >> 8) as u8);
        found += 1;
        if found > MOST_RUNS {
            return Err(Error::BadArgument);
        }
        if !access.contains(Access::WRITE) {
            continue;
        }
        let is_zero = word & 0xff == PageState::Zero as u64;
        written += pages;
        if written > MOST_PAGES {
            return Err(Error::BadArgument);
        }
        runs.push(Run { offset, pages, is_zero });
    }
    Ok(runs)
}

/// Runs that follow each other, joined: offsets and pages.
fn joined(runs: &[Run]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for run in runs {
        match ranges.last_mut() {
            Some((offset, pages)) if *offset + *pages * PAGE_SIZE == run.offset => {
                *pages += run.pages;
            }
            _ => ranges.push((run.offset, run.pages)),
        }
    }
    ranges
}

/// What a program has written: a frozen Space, whose offsets are those of the home.
#[derive(Debug)]
pub struct Memory {
    space: Space,
    ranges: Vec<(u64, u64)>,
}

impl Memory {
    fn take(&self, from: Space, run: &Run) -> Result<()> {
        let access = Access::READ | Access::WRITE;
        let Run { offset, pages, is_zero } = *run;
        self.space.zero(offset, pages, access, if is_zero { 0 } else { POPULATE })?;
        if is_zero { Ok(()) } else { self.space.copy_from(offset, from, offset, pages) }
    }

    /// Maps it into the home of a program that begins with it.
    pub(crate) fn map(&self, home_space: Space) -> Result<()> {
        let access = Access::READ | Access::WRITE;
        self.ranges.iter().try_for_each(|(offset, pages)| {
            home_space.map(*offset, self.space, *offset, *pages, MapMode::Private, access, false)
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Programs that began with it keep what they still borrow.
        self.space.forget();
    }
}
