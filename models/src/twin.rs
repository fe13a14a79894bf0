//! The kernel's Spaces and the model's side by side: every operation is done to both, and both must end alike.

use crate::{
    space::{Mapping, Memory, PAGES, Page, Progress},
    world::{LedgerState, Use, World, use_of},
};
use kernel_abi::{
    Error,
    space::{Access, MapMode, PageState, SpaceUse},
};
use kernel_core::{
    domain::Domain,
    space::{self as real, Space, edit::ZeroOptions, inspect, map},
};
use kernel_machine::{
    self as machine, Frame,
    object::{Ref, epoch},
};
use std::sync::atomic::Ordering;

/// First page of the model's window in every real Space: a boundary of tables, above the lowest guest address.
pub const FIRST: u64 = 1 << 18;
const WRITE: Access = Access::READ.union(Access::WRITE);

/// Both.
pub struct Twin {
    /// The model.
    pub memory: Memory,
    spaces: Vec<Ref<Space>>,
    homes: Vec<Ref<Space>>,
    domains: Vec<Ref<Domain>>,
    /// One page through which contents are read.
    scratch: Ref<Space>,
    scratch_frame: Frame,
    before: LedgerState,
    world: World,
}

/// Does a real operation in slices until it is over.
fn whole(pages: usize, mut slice: impl FnMut(u64, u64) -> Result<u64, Error>) -> Progress {
    let mut done = 0;
    while done < pages {
        match slice(done as u64, (pages - done) as u64) {
            Ok(0) => panic!("a slice that does nothing"),
            Ok(step) => done += usize::try_from(step).expect("a number of pages"),
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

impl Twin {
    /// Domains and Spaces: each Space's use and the Domain that pays for it.
    ///
    /// # Panics
    /// If the kernel refuses.
    #[must_use]
    pub fn new(spaces: &[(SpaceUse, usize)]) -> Self {
        let world = World::boot(16_384, 1);
        let before = world.ledger();
        let count = spaces.iter().map(|(_, domain)| domain + 1).max().unwrap_or(1);
        let domains: Vec<_> = (0..count).map(|_| world.domain()).collect();
        let homes: Vec<_> = domains.iter().map(|domain| world.home(domain)).collect();
        let scratch = Space::create(&world.root, SpaceUse::Hold, None, false).expect("a Space");
        let scratch_frame = {
            let options = ZeroOptions { populate: true, ..ZeroOptions::default() };
            scratch.zero(0, 1, WRITE, options).expect("a page");
            frame_of(&scratch, 0)
        };
        let mut memory = Memory::default();
        let mut twins = Vec::new();
        for (used_for, domain) in spaces {
            let home = (*used_for == SpaceUse::Guest).then(|| homes[*domain].clone());
            memory.create(*used_for, *domain);
            twins.push(Space::create(&domains[*domain], *used_for, home, false).expect("a Space"));
        }
        Self { memory, spaces: twins, homes, domains, scratch, scratch_frame, before, world }
    }

    /// What a Domain uses: frames, objects, slots, threads.
    #[must_use]
    pub fn use_of(&self, domain: usize) -> Use {
        use_of(&self.domains[domain])
    }

    /// `SpaceZero`.
    pub fn zero(
        &mut self,
        space: usize,
        first: usize,
        pages: usize,
        promise: Page,
        populate: bool,
    ) -> Progress {
        let options = ZeroOptions { populate, shared: promise.is_shared, maximum: promise.maximum };
        let expected = self.memory.zero(space, first, pages, promise, populate);
        let at = FIRST + first as u64;
        let found = whole(pages, |done, rest| {
            self.spaces[space].zero(at + done, rest, promise.access, options)
        });
        same(expected, found)
    }

    /// `SpaceProtect`.
    pub fn protect(
        &mut self,
        space: usize,
        first: usize,
        pages: usize,
        access: Access,
    ) -> Progress {
        let expected = self.memory.protect(space, first, pages, access);
        let at = FIRST + first as u64;
        same(
            expected,
            whole(pages, |done, rest| Space::protect(&self.spaces[space], at + done, rest, access)),
        )
    }

    /// `SpaceUnmap`.
    pub fn unmap(&mut self, space: usize, first: usize, pages: usize) -> Progress {
        let expected = self.memory.unmap(space, first, pages);
        let at = FIRST + first as u64;
        same(expected, whole(pages, |done, rest| self.spaces[space].unmap(at + done, rest)))
    }

    /// `SpaceDiscard`.
    pub fn discard(&mut self, space: usize, first: usize, pages: usize) -> Progress {
        let expected = self.memory.discard(space, first, pages);
        let at = FIRST + first as u64;
        same(expected, whole(pages, |done, rest| self.spaces[space].discard(at + done, rest)))
    }

    /// `SpaceMap`.
    pub fn map(&mut self, mapping: Mapping) -> Progress {
        let expected = self.memory.map(mapping);
        let (to, from) = (&self.spaces[mapping.to.0], &self.spaces[mapping.from.0]);
        // The kernel compares whole ranges; what is left of one in a later slice may overlap less.
        let overlaps =
            mapping.to.0 == mapping.from.0 && mapping.to.1.abs_diff(mapping.from.1) < mapping.pages;
        let found = whole(mapping.pages, |done, rest| {
            let request = map::Mapping {
                to: FIRST + mapping.to.1 as u64 + done,
                from: FIRST + mapping.from.1 as u64 + done,
                pages: if overlaps { mapping.pages as u64 } else { rest },
                mode: mapping.mode,
                access: mapping.access,
                may_execute: mapping.may_execute,
                shared: mapping.is_shared,
            };
            map::map(to.borrow(), from.borrow(), request, &epoch::enter())
        });
        same(expected, found)
    }

    /// `SpaceFreeze`.
    ///
    /// # Errors
    /// The error of both.
    pub fn freeze(&mut self, space: usize) -> Result<(), Error> {
        let expected = self.memory.freeze(space);
        let found = loop {
            match self.spaces[space].freeze() {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
        };
        same(expected, found)
    }

    /// A fault, or `SpaceResolve`.
    ///
    /// # Errors
    /// The error of both.
    pub fn touch(&mut self, space: usize, page: usize, wanted: Access) -> Result<(), Error> {
        let expected = self.memory.touch(space, page, wanted);
        same(expected, self.spaces[space].resolve(FIRST + page as u64, wanted))
    }

    /// A store by whoever has the Space mapped.
    ///
    /// # Errors
    /// The error of both.
    pub fn write(&mut self, space: usize, page: usize, value: u64) -> Result<(), Error> {
        let expected = self.memory.write(space, page, value);
        let found = self.spaces[space].resolve(FIRST + page as u64, WRITE).map(|()| {
            let frame = frame_of(&self.spaces[space], FIRST + page as u64);
            machine::table(frame)[0].store(value, Ordering::Relaxed);
        });
        same(expected, found)
    }

    /// `SpaceCopy` of one page.
    ///
    /// # Errors
    /// The error of both.
    pub fn copy(&mut self, to: (usize, usize), from: (usize, usize)) -> Result<(), Error> {
        if to == from {
            return Ok(());
        }
        let expected = self.memory.copy(to, from);
        let (target, source) = (&self.spaces[to.0], &self.spaces[from.0]);
        let at = (FIRST + to.1 as u64, FIRST + from.1 as u64);
        same(expected, inspect::copy(target.borrow(), at.0, source.borrow(), at.1, 1).map(|_| ()))
    }

    /// `SpacePin`.
    ///
    /// # Errors
    /// The error of both.
    pub fn pin(&mut self, space: usize, page: usize) -> Result<(), Error> {
        let expected = self.memory.pin(space, page);
        same(expected, self.spaces[space].pin(FIRST + page as u64).map(|_| ()))
    }

    /// What a page contains for whoever reads it, the same in both.
    ///
    /// # Panics
    /// If they differ.
    #[must_use]
    pub fn read(&self, space: usize, page: usize) -> Option<u64> {
        let source = &self.spaces[space];
        let copied =
            inspect::copy(self.scratch.borrow(), 0, source.borrow(), FIRST + page as u64, 1);
        let found =
            copied.is_ok().then(|| machine::table(self.scratch_frame)[0].load(Ordering::Relaxed));
        assert_eq!(
            self.memory.contents(space, page),
            found,
            "contents of page {page} of Space {space}"
        );
        found
    }

    /// Compares state and access of every page of every Space, and the contents of those around the boundaries of tables.
    ///
    /// # Panics
    /// If they differ.
    pub fn compare(&self) {
        for (number, space) in self.spaces.iter().enumerate() {
            let mut page = 0;
            while page < PAGES {
                let rest = (PAGES - page) as u64;
                let (holes, run) = match space.query(FIRST + page as u64, rest) {
                    Err(error) => {
                        assert_eq!(error, Error::NotPresent);
                        (PAGES - page, 0)
                    }
                    Ok(found) => {
                        let holes = usize::try_from(found.page - FIRST).expect("a page") - page;
                        // A slice that found only holes tells where to go on.
                        let run = match found.state {
                            PageState::Hole => 0,
                            _ => usize::try_from(found.following).expect("a page") + 1,
                        };
                        for at in page + holes..page + holes + run {
                            let model = self
                                .memory
                                .page(number, at)
                                .map(|page| (page.state(), page.access));
                            assert_eq!(
                                model,
                                Some((found.state, found.access)),
                                "page {at} of Space {number}"
                            );
                            if at % 512 < 6 || at % 512 >= 508 {
                                let _ = self.read(number, at);
                            }
                        }
                        (holes, run)
                    }
                };
                for at in page..page + holes {
                    assert_eq!(self.memory.page(number, at), None, "page {at} of Space {number}");
                }
                page += holes + run;
            }
            assert_eq!(self.memory.space(number).is_frozen, space.is_frozen(), "Space {number}");
        }
    }

    /// Destroys everything; the kernel's ledger must be what it was.
    ///
    /// # Panics
    /// If something is left.
    pub fn finish(self) {
        self.compare();
        let Self { spaces, homes, domains, scratch, before, world, .. } = self;
        for domain in &domains {
            Domain::destroy(domain.borrow());
        }
        Space::destroy(scratch.borrow());
        drop((spaces, homes, domains, scratch));
        assert_eq!(world.ledger(), before, "frames, objects, slots, threads");
    }
}

/// A page's frame that its Space may write.
fn frame_of(space: &Ref<Space>, page: u64) -> Frame {
    let frame = space.writable_frame(page).expect("a writable page");
    real::page::release(frame);
    frame
}

fn same<T: PartialEq + core::fmt::Debug>(expected: T, found: T) -> T {
    assert_eq!(expected, found, "the model and the kernel");
    found
}

/// A mapping of one page number to the same in another Space.
#[must_use]
pub const fn mapping(
    to: usize,
    from: usize,
    page: usize,
    pages: usize,
    mode: MapMode,
    access: Access,
) -> Mapping {
    Mapping {
        to: (to, page),
        from: (from, page),
        pages,
        mode,
        access,
        may_execute: true,
        is_shared: false,
    }
}
