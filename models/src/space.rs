//! What a Space means: every rule of the kernel's memory, page by page.
//!
//! A page is a hole, a promise of zeros, or a frame, and carries its history: the most that may be granted, copy-on-write, shared, borrowed, pinned.
//! The model knows no tables and no slices: an operation on a range deals with one page after the other and stops at the first error. It counts a
//! frame's references by looking for them. The kernel must end in the same state, with the same error, whatever it does in between.

use kernel_abi::{
    Error,
    space::{Access, MapMode, PageState, SpaceUse},
};

/// Pages of a model Space; offsets are relative to whatever the test calls its first page.
pub const PAGES: usize = 2048;

/// What backs a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Zeros, once somebody looks.
    Promise,
    /// The one page of zeros that everybody borrows.
    Zeros,
    /// A frame, by number.
    Frame(usize),
}

/// A page that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// What the owner may do.
    pub access: Access,
    /// The most that the owner may ever be granted.
    pub maximum: Access,
    /// Copied before it is written.
    pub is_cow: bool,
    /// Stays shared in a snapshot.
    pub is_shared: bool,
    /// The frame belongs to a frozen Space.
    pub is_borrowed: bool,
    /// A device may write the frame through this page.
    pub is_pinned: bool,
    /// What is behind it.
    pub backing: Backing,
}

/// A Space.
#[derive(Clone, Debug)]
pub struct Space {
    /// What it is for.
    pub used_for: SpaceUse,
    /// Who pays for it.
    pub domain: usize,
    /// Whether it can never be changed again.
    pub is_frozen: bool,
    pages: Vec<Option<Page>>,
}

/// A request to map one page range of a Space into another.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Destination: Space and first page.
    pub to: (usize, usize),
    /// Source: Space and first page.
    pub from: (usize, usize),
    /// Pages.
    pub pages: usize,
    /// How the two relate.
    pub mode: MapMode,
    /// Access of the destination's pages (share and private).
    pub access: Access,
    /// Whether the capability for the source allows executable mappings.
    pub may_execute: bool,
    /// Whether the destination's pages stay shared in snapshots.
    pub is_shared: bool,
}

/// How far an operation came, and what stopped it.
pub type Progress = (usize, Option<Error>);

/// All Spaces and the contents of all frames.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    spaces: Vec<Space>,
    contents: Vec<u64>,
}

const WRITE: Access = Access::READ.union(Access::WRITE);

impl Page {
    /// A promise of zeros.
    #[must_use]
    pub fn promise(access: Access, may_execute: bool, is_shared: bool) -> Self {
        let mut maximum = access | Access::READ;
        maximum.set(Access::EXECUTE, may_execute || access.contains(Access::EXECUTE));
        let backing = Backing::Promise;
        Self {
            access,
            maximum,
            is_cow: false,
            is_shared,
            is_borrowed: false,
            is_pinned: false,
            backing,
        }
    }

    /// The same rights on a frame of the Space's own.
    fn own(self, frame: usize) -> Self {
        let backing = Backing::Frame(frame);
        Self { is_cow: false, is_borrowed: false, is_pinned: false, backing, ..self }
    }

    /// What the kernel tells of it.
    #[must_use]
    pub const fn state(self) -> PageState {
        match self.backing {
            Backing::Promise => PageState::Zero,
            _ if self.is_borrowed => PageState::Borrowed,
            _ if self.is_cow => PageState::Cow,
            _ => PageState::Present,
        }
    }
}

impl Memory {
    /// Adds an empty Space; its number.
    pub fn create(&mut self, used_for: SpaceUse, domain: usize) -> usize {
        self.spaces.push(Space { used_for, domain, is_frozen: false, pages: vec![None; PAGES] });
        self.spaces.len() - 1
    }

    /// A Space.
    #[must_use]
    pub fn space(&self, space: usize) -> &Space {
        &self.spaces[space]
    }

    /// A page, unless it is a hole.
    #[must_use]
    pub fn page(&self, space: usize, page: usize) -> Option<Page> {
        self.spaces[space].pages[page]
    }

    fn set(&mut self, space: usize, page: usize, to: Option<Page>) {
        self.spaces[space].pages[page] = to;
    }

    /// What a page contains, unless it is a hole.
    #[must_use]
    pub fn contents(&self, space: usize, page: usize) -> Option<u64> {
        self.page(space, page).map(|page| match page.backing {
            Backing::Frame(frame) => self.contents[frame],
            Backing::Promise | Backing::Zeros => 0,
        })
    }

    fn frame(&mut self, contents: u64) -> usize {
        self.contents.push(contents);
        self.contents.len() - 1
    }

    fn users(&self, frame: usize) -> impl Iterator<Item = Page> {
        let pages = self.spaces.iter().flat_map(|space| space.pages.iter().flatten().copied());
        pages.filter(move |page| page.backing == Backing::Frame(frame) && !page.is_borrowed)
    }

    /// Whether a page is the only one that refers to its frame, and no device does.
    fn is_sole(&self, page: Page) -> bool {
        let Backing::Frame(frame) = page.backing else { return false };
        !page.is_borrowed && self.users(frame).count() == 1 && !self.is_pinned(page)
    }

    fn is_pinned(&self, page: Page) -> bool {
        matches!(page.backing, Backing::Frame(frame) if self.users(frame).any(|user| user.is_pinned))
    }

    fn check_open(&self, space: usize) -> Result<(), Error> {
        if self.spaces[space].is_frozen { Err(Error::Frozen) } else { Ok(()) }
    }

    /// Promises zeros in holes, or gives them at once.
    pub fn zero(
        &mut self,
        space: usize,
        first: usize,
        pages: usize,
        promise: Page,
        populate: bool,
    ) -> Progress {
        if let Err(error) = self.check_open(space) {
            return (0, Some(error));
        }
        let keeps_execute = self.spaces[space].used_for == SpaceUse::Hold;
        for done in 0..pages {
            if self.page(space, first + done).is_some() {
                return (done, Some(Error::Overlap));
            }
            let mut page = promise;
            page.maximum
                .set(Access::EXECUTE, keeps_execute || promise.maximum.contains(Access::EXECUTE));
            if populate {
                page = page.own(self.frame(0));
            }
            self.set(space, first + done, Some(page));
        }
        (pages, None)
    }

    /// Changes what the owner may do, within each page's maximum.
    pub fn protect(
        &mut self,
        space: usize,
        first: usize,
        pages: usize,
        access: Access,
    ) -> Progress {
        self.each(space, first, pages, |memory, at, page| {
            if !page.maximum.contains(access) {
                return Err(Error::MissingRight);
            }
            memory.set(space, at, Some(Page { access, ..page }));
            Ok(())
        })
    }

    /// Makes holes.
    pub fn unmap(&mut self, space: usize, first: usize, pages: usize) -> Progress {
        self.each(space, first, pages, |memory, at, page| {
            if page.is_pinned {
                return Err(Error::FrameInUse);
            }
            memory.set(space, at, None);
            Ok(())
        })
    }

    /// Gives frames back: what has one becomes a promise of zeros with the same rights.
    pub fn discard(&mut self, space: usize, first: usize, pages: usize) -> Progress {
        self.each(space, first, pages, |memory, at, page| {
            if page.is_pinned {
                return Err(Error::FrameInUse);
            }
            let promise = Page::promise(page.access, false, page.is_shared);
            memory.set(space, at, Some(Page { maximum: page.maximum, ..promise }));
            Ok(())
        })
    }

    /// Changes every page of a range that is not a hole, until one cannot be.
    fn each(
        &mut self,
        space: usize,
        first: usize,
        pages: usize,
        mut change: impl FnMut(&mut Self, usize, Page) -> Result<(), Error>,
    ) -> Progress {
        if let Err(error) = self.check_open(space) {
            return (0, Some(error));
        }
        for done in 0..pages {
            if let Some(page) = self.page(space, first + done)
                && let Err(error) = change(self, first + done, page)
            {
                return (done, Some(error));
            }
        }
        (pages, None)
    }

    /// Makes a Space immutable for ever, if nobody else has a hand on its frames.
    ///
    /// # Errors
    /// `BadArgument` for a Space that threads run in, `FrameInUse`.
    pub fn freeze(&mut self, space: usize) -> Result<(), Error> {
        if self.spaces[space].used_for != SpaceUse::Hold {
            return Err(Error::BadArgument);
        }
        for at in 0..PAGES {
            let Some(page) = self.page(space, at) else { continue };
            if self.spaces[space].is_frozen || page.is_borrowed || page.backing == Backing::Promise
            {
                continue;
            }
            if !self.is_sole(page) {
                return Err(Error::FrameInUse);
            }
            self.set(space, at, Some(Page { is_cow: false, ..page }));
        }
        self.spaces[space].is_frozen = true;
        Ok(())
    }

    /// Does what a touch needs.
    ///
    /// # Errors
    /// `Frozen`, `Hole`, `MissingRight`.
    pub fn touch(&mut self, space: usize, at: usize, wanted: Access) -> Result<(), Error> {
        self.check_open(space)?;
        let page = self.page(space, at).ok_or(Error::Hole)?;
        if !page.access.contains(wanted) {
            return Err(Error::MissingRight);
        }
        let writes = wanted.contains(Access::WRITE);
        let new = match page.backing {
            Backing::Promise
                if !writes && !page.is_shared && self.spaces[space].used_for == SpaceUse::Guest =>
            {
                Page { is_cow: true, is_borrowed: true, backing: Backing::Zeros, ..page }
            }
            Backing::Promise => page.own(self.frame(0)),
            _ if writes && page.is_cow => self.broken(space, at, page),
            _ => page,
        };
        self.set(space, at, Some(new));
        Ok(())
    }

    /// A copy-on-write page after it is no more.
    fn broken(&mut self, space: usize, at: usize, page: Page) -> Page {
        if self.is_sole(page) {
            return Page { is_cow: false, ..page };
        }
        let contents = self.contents(space, at).unwrap_or(0);
        page.own(self.frame(contents))
    }

    /// Writes a page that a touch has made writable.
    ///
    /// # Errors
    /// As [`Self::touch`].
    pub fn write(&mut self, space: usize, at: usize, value: u64) -> Result<(), Error> {
        self.touch(space, at, WRITE)?;
        if let Some(Page { backing: Backing::Frame(frame), .. }) = self.page(space, at) {
            self.contents[frame] = value;
        }
        Ok(())
    }

    /// Copies the contents of one page to another.
    ///
    /// # Errors
    /// As [`Self::touch`] for the destination; `Hole` for the source.
    pub fn copy(&mut self, to: (usize, usize), from: (usize, usize)) -> Result<(), Error> {
        self.touch(to.0, to.1, WRITE)?;
        let contents = self.contents(from.0, from.1).ok_or(Error::Hole)?;
        self.write(to.0, to.1, contents)
    }

    /// Lets a device use a page's frame.
    ///
    /// # Errors
    /// `Frozen`, `Hole`, `FrameInUse` for a page that is not this Space's alone to decide about.
    pub fn pin(&mut self, space: usize, at: usize) -> Result<(), Error> {
        self.check_open(space)?;
        let page = self.page(space, at).ok_or(Error::Hole)?;
        if page.backing == Backing::Promise {
            return Err(Error::Hole);
        }
        if page.is_cow || page.is_borrowed {
            return Err(Error::FrameInUse);
        }
        self.set(space, at, Some(Page { is_pinned: true, ..page }));
        Ok(())
    }

    /// Maps a range.
    pub fn map(&mut self, mapping: Mapping) -> Progress {
        let ((to, to_first), (from, from_first)) = (mapping.to, mapping.from);
        if to == from && to_first.abs_diff(from_first) < mapping.pages {
            return (0, Some(Error::Overlap));
        }
        let writes = mapping.mode == MapMode::Share && mapping.access.contains(Access::WRITE);
        let changes_source = matches!(mapping.mode, MapMode::Snapshot | MapMode::Move) || writes;
        if self.spaces[to].is_frozen || (changes_source && self.spaces[from].is_frozen) {
            return (0, Some(Error::Frozen));
        }
        for done in 0..mapping.pages {
            if let Err(error) = self.map_page(mapping, to_first + done, from_first + done) {
                return (done, Some(error));
            }
        }
        (mapping.pages, None)
    }

    fn map_page(&mut self, mapping: Mapping, to_at: usize, from_at: usize) -> Result<(), Error> {
        let (to, from) = (mapping.to.0, mapping.from.0);
        let Some(page) = self.page(from, from_at) else {
            let crosses = self.spaces[to].domain != self.spaces[from].domain;
            return if mapping.mode == MapMode::Share && crosses {
                Err(Error::Hole)
            } else {
                Ok(())
            };
        };
        if self.page(to, to_at).is_some() {
            return Err(Error::Overlap);
        }
        let needed = match mapping.mode {
            MapMode::Share => mapping.access,
            MapMode::Private => mapping.access - Access::WRITE,
            MapMode::Snapshot | MapMode::Move => Access::empty(),
        };
        if !page.maximum.contains(needed) {
            return Err(Error::MissingRight);
        }
        let new = match mapping.mode {
            MapMode::Share => self.shared(mapping, from_at, page),
            MapMode::Private => Self::private(mapping, page, self.spaces[from].is_frozen),
            MapMode::Snapshot => self.snapshot(from, from_at, page),
            MapMode::Move if page.is_pinned => return Err(Error::FrameInUse),
            MapMode::Move => {
                self.set(from, from_at, None);
                page
            }
        };
        self.set(to, to_at, Some(new));
        Ok(())
    }

    /// Share: both see one frame, which the source gets first if it has none of its own.
    fn shared(&mut self, mapping: Mapping, at: usize, page: Page) -> Page {
        let from = mapping.from.0;
        let is_frozen = self.spaces[from].is_frozen;
        let source = match page.backing {
            Backing::Promise if is_frozen => {
                Page { is_borrowed: true, backing: Backing::Zeros, ..page }
            }
            Backing::Promise => page.own(self.frame(0)),
            // What a frozen Space has is never written, so it is lent as it is.
            _ if page.is_cow && !is_frozen => self.broken(from, at, page),
            _ => page,
        };
        if !is_frozen {
            self.set(from, at, Some(source));
        }
        let mut maximum = mapping.access | Access::READ;
        let may_execute = mapping.may_execute && page.maximum.contains(Access::EXECUTE);
        maximum.set(Access::EXECUTE, may_execute);
        Page {
            access: mapping.access,
            maximum,
            is_cow: false,
            is_shared: mapping.is_shared,
            is_borrowed: source.is_borrowed || is_frozen,
            is_pinned: false,
            backing: source.backing,
        }
    }

    /// Private: only the destination is copy-on-write, and may be granted write whatever the source may.
    fn private(mapping: Mapping, page: Page, from_is_frozen: bool) -> Page {
        let mut maximum = WRITE;
        let may_execute = mapping.may_execute && page.maximum.contains(Access::EXECUTE);
        maximum.set(Access::EXECUTE, may_execute);
        let has_frame = page.backing != Backing::Promise;
        Page {
            access: mapping.access,
            maximum,
            is_cow: has_frame,
            is_shared: mapping.is_shared,
            is_borrowed: has_frame && (page.is_borrowed || from_is_frozen),
            is_pinned: false,
            backing: page.backing,
        }
    }

    /// Snapshot: both sides become copy-on-write, but shared pages stay shared and a device's pages are copied.
    fn snapshot(&mut self, from: usize, at: usize, page: Page) -> Page {
        if page.backing == Backing::Promise && !page.is_shared {
            return page;
        }
        if page.backing == Backing::Promise {
            let source = page.own(self.frame(0));
            self.set(from, at, Some(source));
            return source;
        }
        let never_written = !page.maximum.contains(Access::WRITE) && !page.is_cow;
        if page.is_shared || page.is_borrowed || never_written {
            return Page { is_pinned: false, ..page };
        }
        if self.is_pinned(page) {
            let contents = self.contents(from, at).unwrap_or(0);
            return page.own(self.frame(contents));
        }
        let both = Page { is_cow: true, ..page };
        self.set(from, at, Some(both));
        both
    }
}
