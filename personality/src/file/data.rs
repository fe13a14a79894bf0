//! The contents of regular files: pages over the bytes of an image, or over nothing.

use super::{capacity::Capacity, layers::LowerFile, uses::Uses};
use crate::{
    linux::Errno,
    machine::{
        guest::{Sink, Source},
        pages::Page,
    },
};
use alloc::{collections::BTreeMap, rc::Rc, vec::Vec};
use core::cell::{Cell, OnceCell, RefCell};

const PAGE: u64 = 4096;
/// Largest file.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// A file's contents.
#[derive(Debug)]
pub struct FileData {
    pages: RefCell<BTreeMap<u64, Rc<Page>>>,
    size: Cell<u64>,
    lower: Option<LowerFile>,
    /// Bytes of the image that still show.
    lower_limit: Cell<u64>,
    /// The limit of the file system it is in, if that has one.
    capacity: OnceCell<Rc<Capacity>>,
    /// Seals of a memfd.
    pub seals: Cell<u32>,
    /// Whether it was ever mapped, so that mappings may have its pages.
    is_mapped: Cell<bool>,
    /// Who writes and what runs it.
    pub uses: Uses,
}

/// Where a page is, for mapping it.
#[derive(Clone, Debug)]
pub enum PageSource {
    /// A page of the personality's.
    Own(Rc<Page>),
    /// In an image layer.
    Layer(rt::Space, u64),
    /// All zeros so far, as are some pages from it on.
    Zero(u64),
}

impl FileData {
    /// An empty file.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            pages: RefCell::new(BTreeMap::new()),
            size: Cell::new(0),
            lower: None,
            lower_limit: Cell::new(0),
            capacity: OnceCell::new(),
            seals: Cell::new(0),
            is_mapped: Cell::new(false),
            uses: Uses::none(),
        }
    }
    /// A file of an image.
    #[must_use]
    pub fn over(lower: LowerFile) -> Self {
        let size = lower.size();
        Self {
            size: Cell::new(size),
            lower_limit: Cell::new(size),
            lower: Some(lower),
            pages: RefCell::new(BTreeMap::new()),
            capacity: OnceCell::new(),
            seals: Cell::new(0),
            is_mapped: Cell::new(false),
            uses: Uses::none(),
        }
    }
    /// Bytes it has.
    #[inline]
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size.get()
    }
    /// Blocks of 512 bytes it takes.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        let lower = self.lower_limit.get().div_ceil(PAGE);
        let pages = self.pages.borrow();
        // A file without an image below knows its number of pages.
        let own = if lower == 0 { pages.len() } else { pages.range(lower..).count() };
        (lower + own as u64) * 8
    }

    /// Counts its pages with those of a file system from here on; it stays with the first.
    pub fn belong(&self, capacity: &Rc<Capacity>) {
        if self.capacity.set(capacity.clone()).is_ok() {
            capacity.add(self.pages.borrow().len() as u64);
        }
    }
    /// The limit of the file system it is in.
    #[must_use]
    pub fn capacity(&self) -> Option<&Rc<Capacity>> {
        self.capacity.get()
    }
    fn give_back(&self, pages: usize) {
        if let Some(capacity) = self.capacity.get() {
            capacity.give_back(pages as u64);
        }
    }

    /// Drops a page that could not be filled: it must not show what its frame held before, nor hide what the image has.
    fn forget_page(&self, index: u64) {
        if self.pages.borrow_mut().remove(&index).is_some() {
            self.give_back(1);
        }
    }

    fn page(&self, index: u64) -> Option<Rc<Page>> {
        self.pages.borrow().get(&index).cloned()
    }

    /// Bytes of the image from an offset, as far as they show.
    fn lower_bytes(&self, offset: u64, length: usize) -> Result<&[u8], Errno> {
        let Some(lower) = &self.lower else { return Ok(&[]) };
        let shown = self.lower_limit.get().saturating_sub(offset);
        let length = length.min(usize::try_from(shown).unwrap_or(usize::MAX));
        if length == 0 { Ok(&[]) } else { lower.data(offset, length) }
    }

    /// Reads from an offset until the sink is full or the file ends; bytes read.
    ///
    /// # Errors
    /// `EFAULT`, `EIO`.
    pub fn read(&self, offset: u64, sink: &mut Sink<'_>) -> Result<usize, Errno> {
        let mut at = offset;
        let size = self.size.get();
        let begun = sink.done();
        while at < size && sink.room() > 0 {
            let within = at % PAGE;
            let length = (sink.room() as u64).min(size - at);
            let in_page = length.min(PAGE - within) as usize;
            let step = if let Some(page) = self.page(at / PAGE) {
                sink.put_page(&page, within as usize, in_page).map(|()| in_page)
            } else {
                // Image bytes lie together: as far as no page of ours covers them.
                let next = self
                    .pages
                    .borrow()
                    .range(at / PAGE..)
                    .next()
                    .map_or(u64::MAX, |(index, _)| index.saturating_mul(PAGE));
                let length = usize::try_from(length.min(next - at)).unwrap_or(usize::MAX);
                let bytes = self.lower_bytes(at, length)?;
                if bytes.is_empty() {
                    let zeros = length.min(1 << 20);
                    sink.put_zeros(zeros).map(|()| zeros)
                } else {
                    sink.put(bytes).map(|()| bytes.len())
                }
            };
            match step {
                Ok(count) => at += count as u64,
                Err(errno) if sink.done() == begun => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(sink.done() - begun)
    }

    /// The page with an index, made if it is not there, with what shows of the image in it.
    fn own_page(&self, index: u64, will_be_overwritten: bool) -> Result<Rc<Page>, Errno> {
        if let Some(page) = self.page(index) {
            return Ok(page);
        }
        let page = if will_be_overwritten { Page::uninitialised()? } else { Page::zeroed()? };
        if !will_be_overwritten {
            self.show_lower(&page, index, 0)?;
        }
        let page = Rc::new(page);
        if let Some(capacity) = self.capacity.get() {
            capacity.take()?;
        }
        self.pages.borrow_mut().insert(index, page.clone());
        Ok(page)
    }

    /// Copies what shows of the image into a page from some byte on.
    fn show_lower(&self, page: &Page, index: u64, from: u64) -> Result<(), Errno> {
        let mut done = from;
        while done < PAGE {
            let bytes = self.lower_bytes(index * PAGE + done, (PAGE - done) as usize)?;
            if bytes.is_empty() {
                break;
            }
            page.write(done as usize, bytes);
            done += bytes.len() as u64;
        }
        Ok(())
    }

    /// Writes into one page; bytes written, and how it ended if they are not all.
    fn write_page(
        &self,
        (index, within): (u64, usize),
        length: usize,
        source: &mut Source<'_>,
    ) -> (usize, Result<(), Errno>) {
        let is_new = self.page(index).is_none();
        let is_whole = length as u64 == PAGE;
        let page = match self.own_page(index, is_whole) {
            Ok(page) => page,
            Err(errno) => return (0, Err(errno)),
        };
        let begun = source.done();
        let mut result = source.take_page(&page, within, length);
        let taken = source.done() - begun;
        if result.is_err() && is_new {
            if taken == 0 {
                self.forget_page(index);
            } else if is_whole {
                page.zero(taken, length - taken);
                result = result.and(self.show_lower(&page, index, taken as u64));
            }
        }
        (taken, result)
    }

    /// Writes at an offset until the source is empty or the file as large as a limit allows; bytes written.
    ///
    /// # Errors
    /// `EFBIG`, `ENOSPC` (memory is exhausted), `EFAULT`; if some was written, that is returned instead.
    pub fn write(&self, offset: u64, source: &mut Source<'_>, limit: u64) -> Result<usize, Errno> {
        let limit = limit.min(MAX_SIZE);
        let mut at = offset;
        let begun = source.done();
        while source.left() > 0 {
            if at >= limit {
                return if source.done() == begun {
                    Err(Errno::EFBIG)
                } else {
                    Ok(source.done() - begun)
                };
            }
            let within = at % PAGE;
            let length = (source.left() as u64).min(PAGE - within).min(limit - at) as usize;
            let (taken, result) = self.write_page((at / PAGE, within as usize), length, source);
            at += taken as u64;
            if taken > 0 && at > self.size.get() {
                self.size.set(at);
            }
            if let Err(errno) = result {
                let errno = if errno == Errno::ENOMEM { Errno::ENOSPC } else { errno };
                return if source.done() == begun { Err(errno) } else { Ok(source.done() - begun) };
            }
        }
        Ok(source.done() - begun)
    }

    /// Changes the size.
    ///
    /// # Errors
    /// `EFBIG`, `ENOSPC`.
    pub fn truncate(&self, size: u64) -> Result<(), Errno> {
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let old = self.size.get();
        if size < old {
            let first_gone = size.div_ceil(PAGE);
            let gone = self.pages.borrow_mut().split_off(&first_gone);
            self.give_back(gone.len());
            drop(gone);
            let within = size % PAGE;
            if within != 0 && (self.lower_limit.get() > size || self.page(size / PAGE).is_some()) {
                let page = self.own_page(size / PAGE, false)?;
                page.zero(within as usize, (PAGE - within) as usize);
            }
            self.lower_limit.set(self.lower_limit.get().min(size));
        }
        self.size.set(size);
        Ok(())
    }

    /// Gives a range frames (fallocate); grows the file unless told not to.
    ///
    /// # Errors
    /// `ENOSPC`, `EFBIG`.
    pub fn allocate(&self, offset: u64, length: u64, keep_size: bool) -> Result<(), Errno> {
        let end = offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(Errno::EFBIG)?;
        let range = offset / PAGE..end.div_ceil(PAGE);
        if let Some(capacity) = self.capacity.get() {
            // All or nothing, as far as the limit can tell.
            let there = self.pages.borrow().range(range.clone()).count() as u64;
            if (range.end - range.start).saturating_sub(there) > capacity.left() {
                return Err(Errno::ENOSPC);
            }
        }
        let mut made = Vec::new();
        for index in range {
            let is_new = self.page(index).is_none();
            if self.own_page(index, false).is_err() {
                made.into_iter().for_each(|index| self.forget_page(index));
                return Err(Errno::ENOSPC);
            }
            if is_new {
                made.push(index);
            }
        }
        if !keep_size && end > self.size.get() {
            self.size.set(end);
        }
        Ok(())
    }

    /// Makes a range zero.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn punch(&self, offset: u64, length: u64) -> Result<(), Errno> {
        let end = offset.saturating_add(length).min(self.size.get());
        let mut at = offset;
        while at < end {
            let within = at % PAGE;
            let now = (PAGE - within).min(end - at);
            let shows_lower = self.lower_limit.get() > at;
            if now == PAGE && !shows_lower {
                let whole = (end - at) / PAGE;
                self.remove_pages(at / PAGE, whole);
                at += whole * PAGE;
                continue;
            }
            if shows_lower || self.page(at / PAGE).is_some() {
                self.own_page(at / PAGE, false)
                    .map_err(|_| Errno::ENOSPC)?
                    .zero(within as usize, now as usize);
            }
            at += now;
        }
        Ok(())
    }

    /// Removes the pages that exist among some: the work is that of those, however large the hole is.
    fn remove_pages(&self, first: u64, count: u64) {
        let mut pages = self.pages.borrow_mut();
        let next = |pages: &BTreeMap<u64, _>| {
            pages.range(first..first.saturating_add(count)).next().map(|(index, _)| *index)
        };
        while let Some(index) = next(&pages) {
            pages.remove(&index);
            self.give_back(1);
        }
    }

    /// The next offset with data (or without, if `hole`) at or after an offset.
    #[must_use]
    pub fn seek_data(&self, offset: u64, hole: bool) -> Option<u64> {
        let size = self.size.get();
        if offset >= size {
            return None;
        }
        let (first, shown) = (offset / PAGE, self.lower_limit.get().div_ceil(PAGE));
        let pages = self.pages.borrow();
        if hole {
            let mut index = first.max(shown);
            while pages.contains_key(&index) {
                index += 1;
            }
            return Some((index * PAGE).clamp(offset, size));
        }
        if first < shown {
            return Some(offset);
        }
        let found = pages.range(first..).next().map(|(index, _)| (index * PAGE).max(offset));
        found.filter(|at| *at < size)
    }

    /// Notes that mappings may have its pages from here on.
    pub fn note_mapped(&self) {
        self.is_mapped.set(true);
    }
    /// Whether mappings may have its pages.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        self.is_mapped.get()
    }

    /// Whether a page is there: the file's own, or one of the image.
    #[must_use]
    pub fn has(&self, index: u64) -> bool {
        self.lower_limit.get() > index.saturating_mul(PAGE)
            || self.pages.borrow().contains_key(&index)
    }

    /// Its own pages among some, with their indices: the first so many.
    #[must_use]
    pub fn pages_from(&self, first: u64, count: u64, most: usize) -> Vec<(u64, Rc<Page>)> {
        let pages = self.pages.borrow();
        let range = pages.range(first..first.saturating_add(count)).take(most);
        range.map(|(index, page)| (*index, page.clone())).collect()
    }

    /// A page as the file's own, which everybody who shares it sees.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC`, `EIO`.
    pub fn page_for_sharing(&self, index: u64) -> Result<Rc<Page>, Errno> {
        self.own_page(index, false)
    }

    /// Where a page is.
    ///
    /// # Errors
    /// `ENOMEM`, `EIO`.
    pub fn page_source(&self, index: u64) -> Result<PageSource, Errno> {
        if let Some(page) = self.page(index) {
            return Ok(PageSource::Own(page));
        }
        let start = index * PAGE;
        let shown = self.lower_limit.get();
        if shown <= start {
            let next = self.pages.borrow().range(index..).next().map(|(next, _)| *next);
            return Ok(PageSource::Zero(next.unwrap_or(u64::MAX) - index));
        }
        let is_whole =
            shown >= start + PAGE || shown == self.lower.as_ref().map_or(0, LowerFile::size);
        match self.lower.as_ref().and_then(|lower| lower.page_at(index)).filter(|_| is_whole) {
            Some((space, at)) => Ok(PageSource::Layer(space, at)),
            None => self.own_page(index, false).map(PageSource::Own),
        }
    }
}

impl Default for FileData {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for FileData {
    fn drop(&mut self) {
        let pages = self.pages.get_mut().len();
        self.give_back(pages);
    }
}
