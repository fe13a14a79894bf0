//! Mappings of files: which of a file's pages a guest has, and what a touch of one it does not have comes to (mmap(2)).
//!
//! Linux makes a page of a shared file when it is touched, and so does this: a sparse file costs what is used of it, and a full file system is told to whoever touches too
//! much. A shared mapping begins with pages that the file has already, so that most programs never fault. A private mapping has everything from the beginning, for its
//! holes cost one marker however long they are.
//!
//! Invariant: a page of a shared mapping is the file's own page or a hole, so that nobody keeps what the file has given up.

use super::{Area, Memory, PAGE, access};
use crate::{
    file::{
        Kind, Node,
        data::{FileData, PageSource},
    },
    linux::{Errno, MAP_SHARED, PROT_READ, PROT_WRITE},
    machine::pages::Page,
};
use alloc::rc::Rc;
use kernel_abi::space::{Access, MapMode, PageState};
use rt::{Space, startup::home_space};

/// Pages that a shared mapping begins with at most.
const AT_ONCE: usize = 512;
/// Pages that a touch brings at most, if the file or the image has them: the one that was touched and those behind it.
const AROUND: u64 = 16;

/// How a guest wants to use a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To read it.
    Read,
    /// To write it.
    Write,
    /// To run what is in it.
    Execute,
}

impl Wish {
    const fn access(self) -> Access {
        match self {
            Self::Read => Access::READ,
            Self::Write => Access::WRITE,
            Self::Execute => Access::EXECUTE,
        }
    }
}

/// What a touch comes to that the kernel has not resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The page is there now.
    Filled,
    /// Nothing is mapped there.
    Unmapped,
    /// The mapping does not allow it.
    Refused,
    /// There is no page of the file, or no room for one in its file system.
    NoPage,
    /// The compartment has no memory left for it.
    NoMemory,
}

impl Memory {
    /// Maps what a file has from an offset. Pages beyond its end stay holes.
    pub(super) fn fill_file(
        &self,
        start: u64,
        pages: u64,
        (protection, shared): (u64, bool),
        node: &Node,
        offset: u64,
    ) -> Result<(), Errno> {
        let Kind::File(data) = &node.kind else { return Err(Errno::ENODEV) };
        let access = access(protection);
        let first = offset / PAGE;
        data.note_mapped();
        let pages = pages.min(data.size().div_ceil(PAGE).saturating_sub(first));
        if !shared {
            return self.fill_private(start, (first, pages), access, data);
        }
        let mut run = Run { memory: self, access, at: start, from: 0, pages: 0 };
        for (index, page) in data.pages_from(first, pages, AT_ONCE) {
            run.add(start + (index - first) * PAGE, &page)?;
        }
        run.finish()
    }

    /// Maps pages of a file privately, runs of them at once.
    fn fill_private(
        &self,
        start: u64,
        (first, pages): (u64, u64),
        access: Access,
        data: &FileData,
    ) -> Result<(), Errno> {
        let mut page = 0;
        while page < pages {
            let at = start + page * PAGE;
            let run = match data.page_source(first + page)? {
                PageSource::Own(own) => {
                    self.lend(at, home_space(), own.home_offset(), 1, access)?;
                    1
                }
                PageSource::Layer(space, begin) => {
                    let mut run = 1;
                    while page + run < pages
                        && matches!(data.page_source(first + page + run)?, PageSource::Layer(_, next) if next == begin + run * PAGE)
                    {
                        run += 1;
                    }
                    self.lend(at, space, begin, run, access)?;
                    run
                }
                PageSource::Zero(run) => {
                    let run = run.min(pages - page);
                    self.fill_zero(at, run, access)?;
                    run
                }
            };
            page += run;
        }
        Ok(())
    }

    /// Maps pages that are copied before they are written.
    fn lend(
        &self,
        at: u64,
        from: Space,
        offset: u64,
        pages: u64,
        access: Access,
    ) -> Result<(), Errno> {
        self.space.map(at, from, offset, pages, MapMode::Private, access, false)?;
        Ok(())
    }

    /// Does what a touch asks for, if it may: the page of a file is mapped, and made if there is none.
    #[must_use]
    pub fn touch(&self, address: u64, wish: Wish) -> Touch {
        let Some((start, area)) = self.area_at(address) else { return Touch::Unmapped };
        if !access(area.protection).contains(wish.access()) {
            return Touch::Refused;
        }
        let at = address & !(PAGE - 1);
        match (&area.file, self.space.query(at, 1)) {
            (Some((node, offset)), Err(_)) => {
                let behind = (area.end - at) / PAGE;
                self.bring(at, behind, &area, node, offset + (at - start))
            }
            // It lies where nothing may be run.
            (_, Ok((_, word))) if word >> 8 & u64::from(wish.access().bits()) == 0 => {
                Touch::Refused
            }
            // Another thread's touch of the same page came first.
            (_, Ok((_, word))) if is_ready(word & 0xff, wish) => Touch::Filled,
            // The page may be touched: the budget did not allow its frame.
            _ => Touch::NoMemory,
        }
    }

    /// Brings the page of a file that lies at an offset.
    fn bring(&self, at: u64, behind: u64, area: &Area, node: &Node, within: u64) -> Touch {
        let Kind::File(data) = &node.kind else { return Touch::NoPage };
        if within >= data.size() {
            return Touch::NoPage;
        }
        let access = access(area.protection);
        let index = within / PAGE;
        let result = if area.flags & MAP_SHARED == 0 {
            self.fill_private(at, (index, 1), access, data)
        } else {
            let here = data.page_for_sharing(index).and_then(|page| self.share(at, &page, access));
            if here.is_ok() {
                self.bring_behind(at, behind.min(AROUND), access, data, index);
            }
            here
        };
        match result {
            Ok(()) => Touch::Filled,
            Err(Errno::ENOSPC) => Touch::NoPage,
            Err(_) => Touch::NoMemory,
        }
    }

    /// Brings the pages behind one that was touched, as far as they are there already. What cannot be brought now is when it is touched.
    fn bring_behind(&self, at: u64, pages: u64, access: Access, data: &FileData, index: u64) {
        for next in 1..pages {
            if !data.has(index + next) {
                return;
            }
            let Ok(page) = data.page_for_sharing(index + next) else { return };
            if self.share(at + next * PAGE, &page, access).is_err() {
                return;
            }
        }
    }

    fn share(&self, at: u64, page: &Page, access: Access) -> Result<(), Errno> {
        let mut run = Run { memory: self, access, at, from: 0, pages: 0 };
        run.add(at, page)?;
        run.finish()
    }

    /// Whether a page is in memory: this process has it, or the file (mincore(2)).
    #[must_use]
    pub fn is_resident(&self, at: u64) -> bool {
        if self.space.query(at, 1).is_ok_and(|(_, word)| word & 0xff >= PageState::Present as u64) {
            return true;
        }
        let Some((start, Area { file: Some((node, offset)), .. })) = self.area_at(at) else {
            return false;
        };
        matches!(&node.kind, Kind::File(data) if data.has((offset + (at - start)) / PAGE))
    }

    /// Takes some of a file's pages out of every mapping of it, so that touching them asks the file again.
    /// Private copies go only if `and_copies`: those of a file's part that is no more.
    pub fn forget_file(&self, node: &Rc<Node>, first: u64, count: u64, and_copies: bool) {
        let behind = first.saturating_add(count);
        for (start, area) in &*self.areas.borrow() {
            let Some((_, offset)) =
                area.file.as_ref().filter(|(mapped, _)| Rc::ptr_eq(mapped, node))
            else {
                continue;
            };
            if area.flags & MAP_SHARED == 0 && !and_copies {
                continue;
            }
            let begin = offset / PAGE;
            let end = begin + (area.end - start) / PAGE;
            let (from, to) = (first.clamp(begin, end), behind.clamp(begin, end));
            if from < to {
                // Holes stay holes; nothing else can fail here.
                let _ = self.space.unmap(start + (from - begin) * PAGE, to - from);
            }
        }
    }
}

/// Whether a page in a state, as `SpaceQuery` tells it, needs no frame for a use.
const fn is_ready(state: u64, wish: Wish) -> bool {
    let (present, borrowed) = (PageState::Present as u64, PageState::Borrowed as u64);
    state == present || (state > present && state <= borrowed && !matches!(wish, Wish::Write))
}

/// Pages of the personality that lie side by side and are shared with one operation.
struct Run<'a> {
    memory: &'a Memory,
    access: Access,
    /// Where the first goes.
    at: u64,
    /// Where the first is.
    from: u64,
    pages: u64,
}

impl Run<'_> {
    /// Adds a page, after mapping what it does not continue.
    fn add(&mut self, at: u64, page: &Page) -> Result<(), Errno> {
        let from = page.home_offset();
        let length = self.pages * PAGE;
        if self.pages > 0 && at == self.at + length && from == self.from + length {
            self.pages += 1;
            return Ok(());
        }
        self.finish()?;
        (self.at, self.from, self.pages) = (at, from, 1);
        Ok(())
    }

    /// Maps what was added.
    fn finish(&mut self) -> Result<(), Errno> {
        let pages = core::mem::take(&mut self.pages);
        if pages == 0 {
            return Ok(());
        }
        // With everything the file allows, so that mprotect may grant it later.
        let full = access(PROT_READ | PROT_WRITE);
        let space = self.memory.space;
        space.map(self.at, home_space(), self.from, pages, MapMode::Share, full, true)?;
        if self.access != full {
            space.protect(self.at, pages, self.access)?;
        }
        Ok(())
    }
}
