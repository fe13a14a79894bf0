//! Spaces: the one abstraction of memory, a page-table tree that holds frames.
//!
//! Owns: trees, the state and history of every page, counts of frames, freezing, fault resolution, TLB consistency. Must not know: what the memory is
//! for (there is no list of regions; the history lies in the entries). The rules are those of `models::space`, against which the
//! property tests compare this code.
//!
//! Every operation on a range works in slices of bounded length: it returns the number of pages it has dealt with; an error is returned
//! only if that number is zero. A page is either wholly dealt with or untouched. What a slice takes out is released after
//! every TLB has forgotten it and after all locks are free ([`changes::Changes`]).

mod borrows;
pub mod changes;
pub mod edit;
pub mod entry;
pub mod fault;
pub mod freeze;
pub mod inspect;
pub mod map;
pub mod page;
pub mod shootdown;
mod teardown;
mod tree;

use crate::{
    domain::{self, Domain, Owner},
    lock, reaper,
};
use borrows::{Borrowers, Borrows};
use entry::{PageEntry, TABLE};
use kernel_abi::{
    Error, Kind, PAGE_SHIFT,
    layout::{GUEST_MAX, GUEST_MIN, HOME_BASE, HOME_SIZE, SPACE_SIZE},
    space::SpaceUse,
};
use kernel_machine::atomic::{AtomicBool, AtomicU8, Ordering};
use kernel_machine::{
    self as machine, Frame, Roots,
    object::{Borrow, Guard, Object, Ref, SpinLock, Work},
};
use tree::Tree;

pub use tree::check_range;

/// Word of a home Space in its run root.
const HOME_WORD: usize = 256;
/// Units of work in one slice.
pub const SLICE: u32 = 4096;
/// Cost of a page that only changes an entry.
const ENTRY_COST: u32 = 2;
/// Cost of a page whose frame is given, filled or copied.
const FRAME_COST: u32 = 48;
/// Cost of a table.
const TABLE_COST: u32 = 64;

/// How far freezing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Freezing {
    /// The Space can be changed.
    No = 0,
    /// Being checked; it cannot be changed meanwhile.
    Begun = 1,
    /// It can never be changed again.
    Frozen = 2,
    /// It is being torn down: nothing comes in or is lent any more.
    Gone = 3,
}

/// What a Space's lock guards beside its tree.
pub struct State {
    borrows: Borrows,
    /// The page where freezing goes on.
    checked: u64,
}

/// A Space.
pub struct Space {
    owner: Owner,
    used_for: SpaceUse,
    is_device: bool,
    tree: Tree,
    run_root: Option<Frame>,
    home: Option<Ref<Self>>,
    freezing: AtomicU8,
    borrowers: Borrowers,
    /// Whether its Domain's end waits for the memory.
    is_awaited: AtomicBool,
    space_lock: SpinLock<State>,
}

/// The frames of a new Space's topmost tables.
struct TopTables {
    root: Frame,
    run_root: Option<Frame>,
}

impl Space {
    /// Creates a Space; a guest Space belongs to a home Space.
    ///
    /// # Errors
    /// As [`domain::create`]; `BadArgument` if `home` does not fit the use.
    pub fn create(
        domain: &Ref<Domain>,
        used_for: SpaceUse,
        home: Option<Ref<Self>>,
        is_device: bool,
    ) -> Result<Ref<Self>, Error> {
        let fits = match used_for {
            SpaceUse::Guest => home.as_ref().is_some_and(|home| home.used_for == SpaceUse::Home),
            SpaceUse::Hold | SpaceUse::Home => home.is_none(),
        };
        if !fits {
            return Err(Error::BadArgument);
        }
        let tables = Self::create_tables(domain, used_for, home.as_ref())?;
        let (mirror, levels) = match used_for {
            SpaceUse::Home => (None, 3),
            SpaceUse::Guest => (tables.run_root, 4),
            SpaceUse::Hold => (None, 4),
        };
        let made = domain::create(domain, |owner| Self {
            owner,
            used_for,
            is_device,
            tree: Tree::new(tables.root, mirror, levels),
            run_root: tables.run_root,
            home,
            freezing: AtomicU8::new(Freezing::No as u8),
            borrowers: Borrowers::default(),
            is_awaited: AtomicBool::new(false),
            space_lock: SpinLock::new(lock::SPACE, State { borrows: Borrows::default(), checked: 0 }),
        });
        made.inspect_err(|_| tables.free(domain))
    }

    fn create_tables(
        domain: &Ref<Domain>,
        used_for: SpaceUse,
        home: Option<&Ref<Self>>,
    ) -> Result<TopTables, Error> {
        let root = tree::allocate_table(domain)?;
        if used_for == SpaceUse::Hold {
            return Ok(TopTables { root, run_root: None });
        }
        let run_root = tree::allocate_table(domain).inspect_err(|_| domain.give_frame(root))?;
        let run_table = machine::table(run_root);
        machine::kernel_entries(run_table);
        let home_table = home.map_or(root, |home| home.tree.root());
        run_table[HOME_WORD].store(home_table.address() | TABLE, Ordering::Relaxed);
        if used_for == SpaceUse::Guest {
            machine::kernel_entries(machine::table(root));
        }
        Ok(TopTables { root, run_root: Some(run_root) })
    }

    /// A number that names the Space while it lives.
    #[must_use]
    pub const fn identity(&self) -> u64 {
        self.tree.root().number() as u64
    }
    /// The Domain that pays for it.
    #[must_use]
    pub const fn domain(&self) -> &Ref<Domain> {
        self.owner.domain()
    }
    /// What it is for.
    #[must_use]
    pub const fn used_for(&self) -> SpaceUse {
        self.used_for
    }
    /// The home Space of a guest Space.
    #[must_use]
    pub const fn home(&self) -> Option<&Ref<Self>> {
        self.home.as_ref()
    }
    /// The roots to run a thread on, with this home Space and perhaps a guest Space.
    #[must_use]
    pub fn roots(&self, guest: Option<&Self>) -> Option<Roots> {
        match guest {
            Some(guest) => Some(Roots { run: guest.run_root?, guest: Some(guest.tree.root()) }),
            None => Some(Roots { run: self.run_root?, guest: None }),
        }
    }
    /// Offsets a range may have in it: the first, and one past the last.
    #[must_use]
    pub const fn bounds(&self) -> (u64, u64) {
        match self.used_for {
            SpaceUse::Hold => (0, SPACE_SIZE),
            SpaceUse::Home => (0, HOME_SIZE),
            SpaceUse::Guest => (GUEST_MIN, GUEST_MAX),
        }
    }
    /// Checks that a range lies inside; its first page.
    ///
    /// # Errors
    /// `BadArgument`.
    pub fn check(&self, offset: u64, pages: u64) -> Result<u64, Error> {
        let (low, high) = self.bounds();
        let (first, _) = check_range(offset, pages, high)?;
        if offset < low { Err(Error::BadArgument) } else { Ok(first) }
    }
    /// The address at which a page appears to the hardware.
    #[must_use]
    pub const fn address_of(&self, page: u64) -> u64 {
        match self.used_for {
            SpaceUse::Home => HOME_BASE + (page << PAGE_SHIFT),
            SpaceUse::Hold | SpaceUse::Guest => page << PAGE_SHIFT,
        }
    }
    /// Whether it can never be changed again.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.freezing.load(Ordering::Acquire) == Freezing::Frozen as u8
    }
    /// Whether it can be changed; asked under its lock.
    fn is_open(&self) -> bool {
        self.freezing.load(Ordering::Acquire) == Freezing::No as u8
    }
    /// Locks the Space for a change.
    ///
    /// # Errors
    /// `Frozen`.
    fn lock_for_edit(&self) -> Result<Guard<'_, State>, Error> {
        let guard = self.space_lock.lock();
        if self.is_open() { Ok(guard) } else { Err(Error::Frozen) }
    }

    /// Destroys a Space: threads that run in it end, the reaper gives its memory back, unless others borrow it.
    pub fn destroy(this: Borrow<'_, Self>) {
        // Without a reference no reaper would ever end what the Domain waits for; it is being reclaimed then as it is.
        let Some(space) = this.to_ref() else { return };
        if this.mark_dead() {
            shootdown::users(&this).for_each(crate::sched::interrupt);
            this.is_awaited.store(true, Ordering::Release);
            this.domain().count_teardown(true);
            reaper::add(space.into_any());
        }
    }

    /// One slice of giving a destroyed Space's memory back: whether there is nothing left to do now.
    pub fn reap(this: Borrow<'_, Self>, work: &mut Work) -> bool {
        if !this.close() {
            // The last borrower calls the reaper again. The Domain does not wait for that.
            this.release_domain();
            return true;
        }
        if shootdown::is_used(&this) || !this.tear_down(work) {
            return false;
        }
        this.release_domain();
        true
    }

    /// Lets nothing in or out any more, unless others borrow from the Space; whether that is so. An operation that found the Space
    /// alive has its pages noted before this, under the same lock, or finds it gone.
    fn close(&self) -> bool {
        let _state = self.space_lock.lock();
        let is_free = self.borrowers.is_empty();
        if is_free {
            self.freezing.store(Freezing::Gone as u8, Ordering::Release);
        }
        is_free
    }

    /// The Domain's end need not wait for this Space any longer.
    fn release_domain(&self) {
        if self.is_awaited.swap(false, Ordering::AcqRel) {
            self.domain().count_teardown(false);
        }
    }
}

impl TopTables {
    fn free(&self, domain: &Ref<Domain>) {
        domain.give_frame(self.root);
        if let Some(run_root) = self.run_root {
            domain.give_frame(run_root);
        }
    }
}

impl Object for Space {
    const KIND: Kind = Kind::Space;
    fn reclaim(this: &Borrow<'_, Self>, work: &mut Work) -> bool {
        if shootdown::is_used(this) || !this.tear_down(work) {
            return false;
        }
        let tables = TopTables { root: this.tree.root(), run_root: this.run_root };
        tables.free(this.domain());
        this.owner.leave(*this);
        true
    }
}

/// The states of two Spaces, locked in the order of their identities.
struct Pair<'a> {
    one: Guard<'a, State>,
    /// Nothing if both are the same Space.
    other: Option<Guard<'a, State>>,
}

fn lock_pair<'a>(one: &'a Space, other: &'a Space) -> Pair<'a> {
    if one.identity() == other.identity() {
        return Pair { one: one.space_lock.lock(), other: None };
    }
    if one.identity() < other.identity() {
        let guard = one.space_lock.lock();
        return Pair { one: guard, other: Some(other.space_lock.lock_second()) };
    }
    let guard = other.space_lock.lock();
    Pair { one: one.space_lock.lock_second(), other: Some(guard) }
}

/// The entry in a leaf word.
fn load(word: &kernel_machine::atomic::AtomicU64) -> PageEntry {
    PageEntry(word.load(Ordering::Relaxed))
}

/// Writes a leaf word.
fn store(word: &kernel_machine::atomic::AtomicU64, entry: PageEntry) {
    // ORDERING: Release, so that a hardware walk that sees the frame sees what it was filled with.
    word.store(entry.0, Ordering::Release);
}
