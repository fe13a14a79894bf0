//! Domains: the unit of account and of death.
//!
//! Owns: the tree of Domains, what each may use and uses, its capability table, the list of objects charged to it. Must not know: what those objects
//! do. A Domain that dies stays as a tombstone while something is still charged to it; since charges are drawn from the
//! parent, they then count for the nearest live ancestor without being moved.

mod ledger;
pub mod schedule;
mod table;

pub use ledger::{Amounts, FRAME_UNITS};
pub use table::Capability;

use crate::{frames, ipc::Notification, lock, reaper};
use kernel_abi::{Error, Kind, Rights, Slot, resource::UNLIMITED};
use kernel_machine::atomic::{AtomicU32, AtomicU64, Ordering};
use kernel_machine::{
    self as machine, Frame,
    object::{AnyRef, Borrow, Entry, Members, Object, Ref, SpinLock, Work},
};
use ledger::Ledger;
use schedule::Schedule;
use table::Table;

/// Deepest nesting of Domains; it bounds every walk to the root.
const MAX_DEPTH: u8 = 12;
/// Bytes a compartment may log in a second, all its Domains together: less than a serial line carries, which is waited for (11.5 KiB at 115,200 baud).
const LOG_ALLOWANCE: u64 = 4 * 1024;

/// A Domain.
pub struct Domain {
    owner: Option<Owner>,
    parent: Option<Ref<Self>>,
    depth: u8,
    /// Its parent is no service's, so it competes there.
    is_rival: bool,
    ledger: SpinLock<Ledger>,
    table: Table,
    members: SpinLock<Members>,
    /// How its threads are scheduled.
    pub schedule: Schedule,
    threads: AtomicU32,
    /// Spaces whose memory the reaper still gives back.
    teardowns: AtomicU32,
    watch: SpinLock<Option<Watch>>,
    /// Bytes it may still write to the kernel log in the current second, and that second.
    pub log_allowance: AtomicU64,
}

/// Who is told when a Domain dies.
struct Watch {
    notification: Ref<Notification>,
    bit: u8,
    told_dead: bool,
}

/// A charge for one object, given back when the object is dropped.
pub struct Owner {
    domain: Ref<Domain>,
    amounts: Amounts,
}

impl Owner {
    /// The Domain that pays.
    #[must_use]
    pub const fn domain(&self) -> &Ref<Domain> {
        &self.domain
    }
    /// Takes the object off its Domain's list; part of every object's `reclaim`.
    pub fn leave<T: Object>(&self, object: Borrow<'_, T>) {
        self.domain.members.lock().remove(object.any());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.domain.discharge(self.amounts);
    }
}

/// Makes an object that `domain` pays for.
///
/// A value that was made when storing it fails is dropped without being reclaimed: what it holds beyond itself is the caller's to free, after every error.
///
/// # Errors
/// `OutOfFrames` or `OutOfObjects` when the budget does not allow it, `DomainDead`.
pub fn create<T: Object>(domain: &Ref<Domain>, make: impl FnOnce(Owner) -> T) -> Result<Ref<T>, Error> {
    // Held to the end: a Domain that dies now finds the object among its members.
    let mut members = domain.members.lock();
    if domain.borrow().is_dead() {
        return Err(Error::DomainDead);
    }
    let amounts = Amounts {
        units: (Ref::<T>::size() / 64) as u64,
        objects: 1,
        slots: 0,
        threads: u64::from(matches!(T::KIND, Kind::Thread)),
    };
    domain.charge(amounts)?;
    let owner = Owner { domain: domain.clone(), amounts };
    let object = Ref::new(make(owner), frames::allocate).ok_or(Error::OutOfFrames)?;
    members.push(object.borrow());
    Ok(object)
}

impl Domain {
    /// Makes the root Domain, which owns everything.
    #[must_use]
    pub fn root(frames: u64) -> Option<Ref<Self>> {
        let limits = Amounts {
            units: frames.saturating_mul(FRAME_UNITS),
            objects: UNLIMITED,
            slots: UNLIMITED,
            threads: UNLIMITED,
        };
        let domain = Self::make(None, None, 0, limits);
        domain.schedule.set_service();
        Ref::new(domain, frames::allocate)
    }

    /// Makes a child.
    ///
    /// # Errors
    /// As [`create`]; `BadArgument` when nested too deeply.
    pub fn child(parent: &Ref<Self>, limits: Amounts) -> Result<Ref<Self>, Error> {
        let depth = parent.depth + 1;
        if depth > MAX_DEPTH {
            return Err(Error::BadArgument);
        }
        create(parent, |owner| Self::make(Some(owner), Some(parent.clone()), depth, limits))
    }

    fn make(owner: Option<Owner>, parent: Option<Ref<Self>>, depth: u8, limits: Amounts) -> Self {
        Self {
            owner,
            is_rival: parent.as_ref().is_some_and(|parent| !parent.schedule.is_service()),
            parent,
            depth,
            ledger: SpinLock::new(lock::LEDGER, Ledger::new(limits)),
            table: Table::new(),
            members: SpinLock::new(lock::MEMBERS, Members::default()),
            schedule: Schedule::new(),
            threads: AtomicU32::new(0),
            teardowns: AtomicU32::new(0),
            watch: SpinLock::new(lock::WATCH, None),
            log_allowance: AtomicU64::new(0),
        }
    }

    /// The Domain it was created in.
    #[must_use]
    pub const fn parent(&self) -> Option<&Ref<Self>> {
        self.parent.as_ref()
    }

    /// It and its ancestors, from itself to the root.
    pub fn line(&self) -> impl Iterator<Item = &Self> {
        core::iter::successors(Some(self), |domain| domain.parent.as_deref())
    }

    /// The Domain among whose children and threads this one competes; none for a compartment (or a tenant), whose parent is a service's.
    #[must_use]
    pub fn rival_parent(&self) -> Option<&Self> {
        self.parent.as_deref().filter(|_| self.is_rival)
    }

    /// The compartment (or tenant) that this Domain is part of: what it has in common with others, however many Domains it makes.
    #[must_use]
    pub fn compartment(&self) -> &Self {
        let mut top = self;
        while let Some(parent) = top.rival_parent() {
            top = parent;
        }
        top
    }

    /// CPUs its threads may run on: none but those of the Domain it is part of.
    #[must_use]
    pub fn cpus(&self) -> u64 {
        let own = self.schedule.cpus();
        let Some(bounds) = self.rival_parent().map(Self::cpus) else { return own };
        if own & bounds == 0 { bounds } else { own & bounds }
    }

    /// Whether that many bytes more may go to the kernel log in this second; they count then. A service's always may.
    #[must_use]
    pub fn may_log(&self, length: u64) -> bool {
        if self.schedule.is_service() {
            return true;
        }
        let word = &self.compartment().log_allowance;
        let second = (machine::now() / machine::ticks_per_second().max(1)) & u64::from(u32::MAX);
        let before = word.load(Ordering::Relaxed);
        let used = length + if before >> 32 == second { before & u64::from(u32::MAX) } else { 0 };
        let is_allowed = used <= LOG_ALLOWANCE;
        if is_allowed {
            word.store(second << 32 | used, Ordering::Relaxed);
        }
        is_allowed
    }

    /// A thread was started (true) or has ended.
    pub fn count_thread(&self, started: bool) {
        if started {
            self.threads.fetch_add(1, Ordering::Relaxed);
        } else if self.threads.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.tell_dead();
        }
    }

    /// A Space's memory goes to the reaper (true) or has been given back.
    pub fn count_teardown(&self, begun: bool) {
        if begun {
            self.teardowns.fetch_add(1, Ordering::Relaxed);
        } else {
            self.teardowns.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Registers who is told of the death, with `bit` when the threads have stopped and `bit + 1` when all is given back.
    ///
    /// # Errors
    /// `WrongState` if there is a watch already.
    pub fn watch(this: Borrow<'_, Self>, notification: Ref<Notification>, bit: u8) -> Result<(), Error> {
        let mut watch = this.watch.lock();
        if watch.is_some() {
            return Err(Error::WrongState);
        }
        *watch = Some(Watch { notification, bit, told_dead: false });
        drop(watch);
        if this.is_dead() && this.threads.load(Ordering::Acquire) == 0 {
            this.tell_dead();
        }
        Ok(())
    }

    /// Tells the watcher that all threads have stopped, once, if the Domain is dead.
    fn tell_dead(&self) {
        let mut watch = self.watch.lock();
        let Some(watch) = watch.as_mut().filter(|watch| !watch.told_dead && self.schedule.is_dying()) else {
            return;
        };
        watch.told_dead = true;
        watch.notification.signal(1 << watch.bit);
    }

    /// Marks the Domain dead: its threads stop at once, the reaper takes all that is in it.
    pub fn destroy(this: Borrow<'_, Self>) {
        if !this.mark_dead() {
            return;
        }
        this.schedule.set_dying();
        crate::sched::interrupt_domain(this);
        if this.threads.load(Ordering::Acquire) == 0 {
            this.tell_dead();
        }
        if let Some(domain) = this.to_ref() {
            reaper::add(domain.into_any());
        }
    }

    /// One slice of taking a dead Domain apart: whether it is done.
    pub fn reap(this: Borrow<'_, Self>, entry: &Entry, work: &mut Work) -> bool {
        loop {
            if !work.spend(16) {
                return false;
            }
            let Some(member) = this.members.lock().pop() else { break };
            if let Some(object) = member {
                crate::operation::destroy_object(object.borrow(), entry);
            }
        }
        if !this.table.clear(&this, work) {
            return false;
        }
        let threads = this.threads.load(Ordering::Acquire);
        if threads != 0 || this.teardowns.load(Ordering::Acquire) != 0 {
            return false;
        }
        this.tell_dead();
        let watch = this.watch.lock().take();
        if let Some(watch) = watch {
            watch.notification.signal(2 << watch.bit);
        }
        true
    }

    // Accounts.

    /// Charges amounts against this Domain's limits and, through it, its ancestors'.
    ///
    /// # Errors
    /// `OutOfFrames` or `OutOfObjects`; nothing is charged then.
    pub fn charge(&self, amounts: Amounts) -> Result<(), Error> {
        self.ledger.lock_second().charge(amounts, self.parent())
    }

    /// Gives amounts back.
    pub fn discharge(&self, amounts: Amounts) {
        self.ledger.lock_second().discharge(amounts, self.parent());
    }

    /// Takes a frame on this Domain's account. Its contents are undefined.
    ///
    /// # Errors
    /// `OutOfFrames`.
    pub fn take_frame(&self) -> Result<Frame, Error> {
        let mut ledger = self.ledger.lock_second();
        if !ledger.charge_drawn_frame() {
            ledger.charge(Amounts::frames(1), self.parent())?;
        }
        drop(ledger);
        frames::allocate().ok_or_else(|| {
            self.discharge(Amounts::frames(1));
            Error::OutOfFrames
        })
    }

    /// Gives a frame back.
    pub fn give_frame(&self, frame: Frame) {
        frames::free(frame);
        self.discharge(Amounts::frames(1));
    }

    /// Use, limit and peak of the resource with an index in [`Amounts`].
    #[must_use]
    pub fn account(&self, index: usize) -> (u64, u64, u64) {
        self.ledger.lock().account(index)
    }

    /// Changes a limit.
    pub fn set_limit(&self, index: usize, limit: u64) {
        self.ledger.lock().set_limit(index, limit);
    }

    // Capabilities.

    /// What a slot holds; a destroyed object counts as nothing.
    ///
    /// # Errors
    /// `NoCapability`.
    #[inline]
    pub fn lookup<'e>(&self, slot: u64, entry: &'e Entry) -> Result<Capability<'e>, Error> {
        self.table.lookup(slot, entry)
    }

    /// Puts a capability into an empty slot.
    ///
    /// # Errors
    /// `BadArgument`, `SlotOccupied`, `OutOfFrames`, `OutOfObjects`, `DomainDead`.
    pub fn install(
        this: Borrow<'_, Self>,
        slot: u64,
        object: AnyRef,
        rights: Rights,
        entry: &Entry,
    ) -> Result<(), Error> {
        if this.is_dead() {
            return Err(Error::DomainDead);
        }
        this.table.install(&this, slot, object, rights, entry)?;
        if this.is_dead() {
            this.table.remove(&this, slot);
            return Err(Error::DomainDead);
        }
        Ok(())
    }

    /// Checks that a capability could be installed, and prepares the table for it.
    ///
    /// # Errors
    /// As [`Self::install`].
    pub fn prepare_slot(this: Borrow<'_, Self>, slot: u64, entry: &Entry) -> Result<(), Error> {
        if this.is_dead() { Err(Error::DomainDead) } else { this.table.prepare(&this, slot, entry) }
    }

    /// Empties a slot; whether it held something.
    pub fn remove(this: Borrow<'_, Self>, slot: u64) -> bool {
        this.table.remove(&this, slot)
    }

    /// The next occupied slot, or only where to go on after a slice; `None` after the last one.
    pub fn next<'e>(&self, slot: u64, entry: &'e Entry) -> Option<(Slot, Option<Capability<'e>>)> {
        self.table.next(slot, entry)
    }
}

impl Object for Domain {
    const KIND: Kind = Kind::Domain;
    fn reclaim(this: &Borrow<'_, Self>, work: &mut Work) -> bool {
        if !this.table.clear(this, work) || !this.table.free(this, work) {
            return false;
        }
        if let Some(owner) = &this.owner {
            owner.leave(*this);
        }
        true
    }
}
