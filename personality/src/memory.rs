//! Memory maps: which parts of a guest's address space are what (mmap(2), brk(2), mprotect(2), mremap(2)).
//!
//! The kernel's Space is the truth about pages; the areas here say what the pages are for. Private memory is mapped when it is asked for: as demand-zero markers,
//! or from where a file's pages lie. Pages of a shared file come when they are touched ([`mapped`]), so a fault that reaches the personality is that, or an error of the
//! program.

pub mod mapped;

use crate::{
    file::{Node, lower},
    linux::{Errno, MAP_GROWSDOWN, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE},
    machine::pages::Page,
};
use alloc::{collections::BTreeMap, rc::Rc, vec::Vec};
use core::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicU64, Ordering},
};
use kernel_abi::{
    PAGE_SIZE,
    layout::{GUEST_MAX, GUEST_MIN},
    space::{Access, MapMode, PageState, SpaceUse},
};
use rt::{Domain, Space, startup::home_space};

const PAGE: u64 = PAGE_SIZE;
/// Flags of `SpaceZero`: `mprotect` may grant every access later.
const MAY_ALL: u64 = 1 << 10 | 1 << 11;
/// Bytes between two areas that fork passes over with them: looking at longer holes costs more than another operation.
const SHORT_GAP: u64 = 64 * PAGE;
/// Mappings from this length on end at a multiple of it, so that the kernel needs one word for many of their untouched pages.
const LARGE: u64 = 1 << 21;
/// Areas a process may have (vm.max_map_count).
const MAX_AREAS: usize = 65_530;

/// When a memory that programs ran in has ended last (TSC).
static LAST_END: AtomicU64 = AtomicU64::new(0);

/// A process is done with a memory.
pub fn leave(memory: Rc<Memory>) {
    if Rc::strong_count(&memory) == 1 && memory.space.slot() != 0 {
        LAST_END.store(rt::clock::now(), Ordering::Relaxed);
    }
    drop(memory);
}

/// When a memory that programs ran in has ended last (TSC): its frames may still be on their way back.
///
/// One that was not finished for want of frames does not count: whoever made it tries again and again.
#[must_use]
pub fn last_end() -> u64 {
    LAST_END.load(Ordering::Relaxed)
}

/// What an area is for.
#[derive(Clone, Debug)]
pub struct Area {
    /// One past its last byte.
    pub end: u64,
    /// PROT_ bits.
    pub protection: u64,
    /// MAP_ flags that matter later (shared, grows down).
    pub flags: u64,
    /// The file, and the offset of the area's first byte in it.
    pub file: Option<(Rc<Node>, u64)>,
    /// Shown in /proc/PID/maps for areas without a file.
    pub name: &'static str,
    /// Path of the file when it was mapped.
    pub path: Option<Rc<[u8]>>,
}

/// A guest's memory. The default is that of a process that has not begun or has ended: without a Space, so that nothing is or can be mapped.
#[derive(Debug, Default)]
pub struct Memory {
    space: Space,
    areas: RefCell<BTreeMap<u64, Area>>,
    /// Where the program's break begins, and where it is.
    pub break_start: Cell<u64>,
    /// See `break_start`.
    pub break_end: Cell<u64>,
    /// Where mappings are placed: below this.
    top: Cell<u64>,
    /// Bytes of arguments and environment, for /proc.
    pub arguments: Cell<(u64, u64)>,
    /// See `arguments`.
    pub environment: Cell<(u64, u64)>,
}

/// What to map.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// PROT_ bits.
    pub protection: u64,
    /// Shared with others, through the file or a fork.
    pub shared: bool,
    /// The file and the offset in it.
    pub file: Option<(Rc<Node>, u64)>,
    /// Flags to remember.
    pub flags: u64,
    /// Name without a file.
    pub name: &'static str,
    /// Path of the file.
    pub path: Option<Rc<[u8]>>,
}

/// Access for PROT_ bits.
#[must_use]
pub fn access(protection: u64) -> Access {
    let mut access = Access::empty();
    access.set(Access::READ, protection & (PROT_READ | PROT_WRITE) != 0);
    access.set(Access::WRITE, protection & PROT_WRITE != 0);
    access.set(Access::EXECUTE, protection & PROT_EXEC != 0);
    if !access.is_empty() {
        access |= Access::READ;
    }
    access
}

/// Rounds a length up to pages; `EINVAL` for none, `ENOMEM` for too many.
fn whole_pages(length: u64) -> Result<u64, Errno> {
    if length == 0 {
        return Err(Errno::EINVAL);
    }
    length.checked_next_multiple_of(PAGE).filter(|length| *length < GUEST_MAX).ok_or(Errno::ENOMEM)
}

impl Memory {
    /// Empty memory; mappings without an address go below one.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(top: u64) -> Result<Self, Errno> {
        let space = Space::create(Domain::OWN, SpaceUse::Guest, Some(home_space()))?;
        let mut memory = Self::default();
        memory.space = space;
        memory.top.set(top);
        Ok(memory)
    }

    /// The kernel's Space.
    #[must_use]
    pub const fn space(&self) -> Space {
        self.space
    }

    /// A copy for fork(2): pages are copied when they are written.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Self, Errno> {
        let space = Space::create(Domain::OWN, SpaceUse::Guest, Some(home_space()))?;
        let copy = Self {
            space,
            areas: RefCell::new(self.areas.borrow().clone()),
            break_start: self.break_start.clone(),
            break_end: self.break_end.clone(),
            top: self.top.clone(),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
        };
        let mut run = (0, 0);
        for (start, area) in &*self.areas.borrow() {
            // A short gap costs less than another operation.
            if start - run.1 <= SHORT_GAP && run.1 != 0 {
                run.1 = area.end;
                continue;
            }
            self.snapshot(space, run)?;
            run = (*start, area.end);
        }
        self.snapshot(space, run)?;
        Ok(copy)
    }

    /// Gives another Space a range's pages, which both copy before they write.
    fn snapshot(&self, to: Space, (start, end): (u64, u64)) -> Result<(), Errno> {
        if start == end {
            return Ok(());
        }
        let pages = (end - start) / PAGE;
        to.map(start, self.space, start, pages, MapMode::Snapshot, Access::empty(), false)?;
        Ok(())
    }

    /// The area that holds an address.
    #[must_use]
    pub fn area_at(&self, address: u64) -> Option<(u64, Area)> {
        let areas = self.areas.borrow();
        let (start, area) = areas.range(..=address).next_back()?;
        (address < area.end).then(|| (*start, area.clone()))
    }

    /// Calls a function with every area.
    pub fn each_area(&self, mut each: impl FnMut(u64, &Area)) {
        for (start, area) in &*self.areas.borrow() {
            each(*start, area);
        }
    }

    fn is_free(&self, start: u64, end: u64) -> bool {
        let areas = self.areas.borrow();
        areas.range(..end).next_back().is_none_or(|(_, area)| area.end <= start)
    }

    /// A free range, from the top down.
    fn find_free(&self, length: u64) -> Result<u64, Errno> {
        let areas = self.areas.borrow();
        let alignment = if length >= LARGE { LARGE } else { PAGE };
        let mut end = self.top.get();
        loop {
            end &= !(alignment - 1);
            let start =
                end.checked_sub(length).filter(|start| *start >= GUEST_MIN).ok_or(Errno::ENOMEM)?;
            match areas.range(..end).next_back() {
                Some((area_start, area)) if area.end > start => end = *area_start,
                _ => return Ok(start),
            }
        }
    }

    /// Maps something at an address, or where there is room (`hint` 0 or taken). `fixed` replaces what is there.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, `EEXIST` (`no_replace`), `EACCES`, errors of the file.
    pub fn map(
        &self,
        hint: u64,
        length: u64,
        fixed: bool,
        no_replace: bool,
        mapping: &Mapping,
    ) -> Result<u64, Errno> {
        let length = whole_pages(length)?;
        let start = if fixed {
            if !hint.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL);
            }
            if hint < GUEST_MIN || hint.checked_add(length).is_none_or(|end| end > GUEST_MAX) {
                return Err(if hint < GUEST_MIN { Errno::EPERM } else { Errno::ENOMEM });
            }
            if no_replace && !self.is_free(hint, hint + length) {
                return Err(Errno::EEXIST);
            }
            self.unmap_range(hint, hint + length)?;
            hint
        } else {
            let hint = hint & !(PAGE - 1);
            let fits = hint >= GUEST_MIN
                && hint
                    .checked_add(length)
                    .is_some_and(|end| end <= GUEST_MAX && self.is_free(hint, end));
            if fits { hint } else { self.find_free(length)? }
        };
        if self.is_full() {
            return Err(Errno::ENOMEM);
        }
        if let Err(errno) = self.fill(start, length / PAGE, mapping) {
            let _ = self.space.unmap(start, length / PAGE);
            return Err(errno);
        }
        self.insert(
            start,
            Area {
                end: start + length,
                protection: mapping.protection,
                flags: mapping.flags | if mapping.shared { MAP_SHARED } else { 0 },
                file: mapping.file.clone(),
                name: mapping.name,
                path: mapping.path.clone(),
            },
        );
        Ok(start)
    }

    /// Maps a page of code of the personality's where there is room: it can be read and run, never written.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn map_code(&self, page: &Page, name: &'static str) -> Result<u64, Errno> {
        let start = self.find_free(PAGE)?;
        let access = Access::READ | Access::EXECUTE;
        self.space.map(start, home_space(), page.home_offset(), 1, MapMode::Share, access, true)?;
        let area = Area {
            end: start + PAGE,
            protection: PROT_READ | PROT_EXEC,
            flags: 0,
            file: None,
            name,
            path: None,
        };
        self.insert(start, area);
        Ok(start)
    }

    /// Adds an area, joined with its neighbours where they are alike.
    fn insert(&self, start: u64, area: Area) {
        let mut areas = self.areas.borrow_mut();
        let joins = |before: &Area, area: &Area| {
            before.file.is_none()
                && area.file.is_none()
                && before.protection == area.protection
                && before.flags == area.flags
                && before.flags & (MAP_SHARED | MAP_GROWSDOWN) == 0
                && before.name == area.name
        };
        let (mut start, mut area) = (start, area);
        if let Some((before_start, before)) = areas.range(..start).next_back()
            && before.end == start
            && joins(before, &area)
        {
            start = *before_start;
        }
        if let Some(after) = areas.get(&area.end)
            && joins(after, &area)
        {
            let end = area.end;
            area.end = after.end;
            areas.remove(&end);
        }
        areas.insert(start, area);
    }

    fn fill(&self, start: u64, pages: u64, mapping: &Mapping) -> Result<(), Errno> {
        match &mapping.file {
            Some((node, offset)) => {
                self.fill_file(start, pages, (mapping.protection, mapping.shared), node, *offset)
            }
            None => self.fill_zero(start, pages, access(mapping.protection)),
        }
    }

    fn fill_zero(&self, start: u64, pages: u64, access: Access) -> Result<(), Errno> {
        self.space.zero(start, pages, access, MAY_ALL)?;
        Ok(())
    }

    /// Unmaps a range.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn unmap(&self, start: u64, length: u64) -> Result<(), Errno> {
        if !start.is_multiple_of(PAGE) || length == 0 {
            return Err(Errno::EINVAL);
        }
        let end = start
            .checked_add(length)
            .and_then(|end| end.checked_next_multiple_of(PAGE))
            .ok_or(Errno::EINVAL)?;
        if end > GUEST_MAX {
            return Err(Errno::EINVAL);
        }
        // A hole inside an area makes two of it.
        let is_inside = |(area_start, area): (u64, Area)| area_start < start && end < area.end;
        if self.is_full() && self.area_at(start).is_some_and(is_inside) {
            return Err(Errno::ENOMEM);
        }
        self.unmap_range(start.max(GUEST_MIN), end)
    }

    /// Whether there are as many areas as there may be.
    fn is_full(&self) -> bool {
        self.areas.borrow().len() >= MAX_AREAS
    }

    fn unmap_range(&self, start: u64, end: u64) -> Result<(), Errno> {
        if start >= end || self.is_free(start, end) {
            return Ok(());
        }
        self.split(start);
        self.split(end);
        let keys: Vec<u64> =
            self.areas.borrow().range(start..end).map(|(start, _)| *start).collect();
        for key in keys {
            let area = self.areas.borrow_mut().remove(&key);
            if let Some(area) = area {
                self.space.unmap(key, (area.end - key) / PAGE)?;
            }
        }
        Ok(())
    }

    /// Makes an address the beginning of an area, if it lies inside one.
    fn split(&self, at: u64) {
        let mut areas = self.areas.borrow_mut();
        let Some((start, area)) = areas.range_mut(..at).next_back() else { return };
        if area.end <= at {
            return;
        }
        let mut rest = area.clone();
        area.end = at;
        if let Some((_, offset)) = &mut rest.file {
            *offset += at - start;
        }
        areas.insert(at, rest);
    }

    /// Changes the protection of a range.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM` (not all mapped), `EACCES`.
    pub fn protect(&self, start: u64, length: u64, protection: u64) -> Result<(), Errno> {
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        let end = start
            .checked_add(length)
            .and_then(|end| end.checked_next_multiple_of(PAGE))
            .ok_or(Errno::ENOMEM)?;
        if start == end {
            return Ok(());
        }
        if !self.is_mapped(start, end) {
            return Err(Errno::ENOMEM);
        }
        let is_bad = |area: &Area| area.end > start && lower::is_not_to_be_run(area.file.as_ref());
        if protection & PROT_EXEC != 0
            && self.areas.borrow().range(..end).any(|(_, area)| is_bad(area))
        {
            return Err(Errno::EACCES);
        }
        let is_split = |at| self.area_at(at).is_some_and(|(area_start, _)| area_start < at);
        if self.is_full() && (is_split(start) || is_split(end)) {
            return Err(Errno::ENOMEM);
        }
        self.split(start);
        self.split(end);
        let result = self.space.protect(start, (end - start) / PAGE, access(protection));
        if let Err(error) = result {
            return Err(if error == kernel_abi::Error::MissingRight {
                Errno::EACCES
            } else {
                Errno::ENOMEM
            });
        }
        for (_, area) in self.areas.borrow_mut().range_mut(start..end) {
            area.protection = protection;
        }
        Ok(())
    }

    /// Whether every page of a range is in an area.
    #[must_use]
    pub fn is_mapped(&self, start: u64, end: u64) -> bool {
        let areas = self.areas.borrow();
        let mut at = start;
        while at < end {
            match areas.range(..=at).next_back() {
                Some((_, area)) if area.end > at => at = area.end,
                _ => return false,
            }
        }
        true
    }

    /// Makes private pages of a range zero again (MADV_DONTNEED).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn forget(&self, start: u64, end: u64) -> Result<(), Errno> {
        let parts: Vec<(u64, u64, Area)> = self
            .areas
            .borrow()
            .range(..end)
            .filter(|(_, area)| area.end > start)
            .map(|(key, area)| {
                ((*key).max(start), area.end.min(end), Area { end: *key, ..area.clone() })
            })
            .collect();
        for (from, to, area) in parts {
            if area.flags & MAP_SHARED != 0 {
                continue;
            }
            let key = area.end;
            if area.file.is_none() {
                self.space.discard(from, (to - from) / PAGE)?;
                continue;
            }
            self.space.unmap(from, (to - from) / PAGE)?;
            let file = area.file.map(|(node, offset)| (node, offset + (from - key)));
            let mapping = Mapping {
                protection: area.protection,
                shared: false,
                file,
                flags: 0,
                name: "",
                path: None,
            };
            self.fill(from, (to - from) / PAGE, &mapping)?;
        }
        Ok(())
    }

    /// Moves or resizes a mapping (mremap(2)).
    ///
    /// # Errors
    /// `EFAULT` (not one mapping), `ENOMEM`, `EINVAL`.
    pub fn remap(
        &self,
        old: u64,
        old_length: u64,
        new_length: u64,
        may_move: bool,
        fixed: Option<u64>,
    ) -> Result<u64, Errno> {
        let new_length = whole_pages(new_length)?;
        let old_length =
            if old_length == 0 { return Err(Errno::EINVAL) } else { whole_pages(old_length)? };
        let (start, area) = self
            .area_at(old)
            .filter(|(_, area)| old + old_length <= area.end)
            .ok_or(Errno::EFAULT)?;
        if fixed.is_none() && new_length <= old_length {
            self.unmap_range(old + new_length, old + old_length)?;
            return Ok(old);
        }
        let grown = Mapping {
            protection: area.protection,
            shared: area.flags & MAP_SHARED != 0,
            file: area
                .file
                .clone()
                .map(|(node, offset)| (node, offset + (old - start) + old_length)),
            flags: area.flags & MAP_GROWSDOWN,
            name: area.name,
            path: area.path.clone(),
        };
        let end = old + old_length;
        let extra = new_length.saturating_sub(old_length);
        if fixed.is_none()
            && end == area.end
            && end + extra <= GUEST_MAX
            && self.is_free(end, end + extra)
        {
            self.map(end, extra, true, true, &grown)?;
            return Ok(old);
        }
        if !may_move && fixed.is_none() {
            return Err(Errno::ENOMEM);
        }
        let target = match fixed {
            Some(target) => {
                let overlaps = target < end && old < target.saturating_add(new_length);
                if target % PAGE != 0
                    || overlaps
                    || target.checked_add(new_length).is_none_or(|end| end > GUEST_MAX)
                {
                    return Err(Errno::EINVAL);
                }
                self.unmap_range(target, target + new_length)?;
                target
            }
            None => self.find_free(new_length)?,
        };
        let moved = old_length.min(new_length);
        self.space.map(
            target,
            self.space,
            old,
            moved / PAGE,
            MapMode::Move,
            Access::empty(),
            false,
        )?;
        self.split(old);
        self.split(end);
        let area = self.areas.borrow_mut().remove(&old).ok_or(Errno::EFAULT)?;
        self.space.unmap(old, old_length / PAGE)?;
        self.insert(target, Area { end: target + moved, ..area });
        if extra > 0 {
            self.map(target + moved, extra, true, true, &grown)?;
        }
        Ok(target)
    }

    /// Moves the program break; where it is afterwards.
    pub fn set_break(&self, wanted: u64, limit: u64) -> u64 {
        let (start, current) = (self.break_start.get(), self.break_end.get());
        if wanted < start || wanted - start > limit || wanted > self.top.get() {
            return current;
        }
        let (old, new) = (current.next_multiple_of(PAGE), wanted.next_multiple_of(PAGE));
        if new > old {
            let mapping = Mapping {
                protection: PROT_READ | PROT_WRITE,
                shared: false,
                file: None,
                flags: 0,
                name: "[heap]",
                path: None,
            };
            if self.map(old, new - old, true, true, &mapping).is_err() {
                return current;
            }
        } else if new < old && self.unmap_range(new, old).is_err() {
            return current;
        }
        self.break_end.set(wanted);
        wanted
    }

    /// Pages that have a frame, the image's own among them, as mincore(2) sees them.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.areas.borrow().iter().map(|(start, area)| self.resident_in(*start, area.end)).sum()
    }
    /// As [`Self::resident`], of a range.
    #[must_use]
    pub fn resident_in(&self, start: u64, end: u64) -> u64 {
        let (mut at, mut pages) = (start, 0);
        while at < end {
            let Ok((found, word)) = self.space.query(at, (end - at) / PAGE) else { break };
            let run = ((word >> 32) + 1).min(end.saturating_sub(found) / PAGE);
            if word & 0xff >= PageState::Present as u64 {
                pages += run;
            }
            at = found.saturating_add(run.max(1) * PAGE);
        }
        pages
    }
    /// Bytes in areas.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.areas.borrow().iter().map(|(start, area)| area.end - start).sum()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.space.slot() != 0 {
            let _ = self.space.destroy();
        }
    }
}
