//! Starting a program of the boot module in a Domain: its home Space, stack, start-up block, capabilities and first thread.

use crate::{Domain, Notification, Result, Space, Thread, module::Image, object, view::View};
use alloc::{borrow::ToOwned, vec::Vec};
use contract::startup::Startup;
use kernel_abi::{
    Error, PAGE_SHIFT, PAGE_SIZE, Rights, Slot,
    cap::root,
    layout::{HOME_BASE, home},
    space::{Access, MapMode, SpaceUse},
};

/// First slot of what a program is handed beyond its Domain, home and thread, whose slots are those of root.
const FIRST_SLOT: Slot = root::THREAD + 1;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;
/// Pages at the top of the stack that have frames from the beginning.
const STACK_POPULATED: u64 = 4;
/// Pages below the stack that are holes.
const GUARD_PAGES: u64 = 1;

/// A program being launched.
#[derive(Debug)]
pub struct Launch<'a> {
    domain: Domain,
    image: Image<'a>,
    startup: Startup,
    next: Slot,
}

impl<'a> Launch<'a> {
    /// Begins with an empty Domain.
    #[must_use]
    pub fn new(domain: Domain, name: &str, image: Image<'a>) -> Self {
        Self {
            domain,
            image,
            startup: Startup { program: name.to_owned(), ..Startup::default() },
            next: FIRST_SLOT,
        }
    }

    /// Hands a capability over, with some of its rights, under a name.
    ///
    /// # Errors
    /// As `CapCopy`.
    pub fn grant(&mut self, name: &str, slot: Slot, rights: Rights) -> Result<()> {
        self.grant_at(name, slot, self.next, rights)?;
        self.next += 1;
        Ok(())
    }

    fn grant_at(&mut self, name: &str, slot: Slot, target: Slot, rights: Rights) -> Result<()> {
        object::copy(slot, self.domain, target, rights)?;
        self.startup.capabilities.push((name.to_owned(), target));
        Ok(())
    }

    /// Creates a Notification that the Domain pays for and hands it over.
    ///
    /// # Errors
    /// As `NotificationCreate`.
    pub fn grant_notification(&mut self, name: &str, keep: Rights) -> Result<Notification> {
        let notification = Notification::create(self.domain)?;
        self.grant(name, notification.slot(), keep).inspect_err(|_| notification.forget())?;
        Ok(notification)
    }

    /// Tells a number under a name.
    pub fn value(&mut self, name: &str, value: u64) {
        self.startup.values.push((name.to_owned(), value));
    }

    /// Says what the program is to do.
    pub fn payload(&mut self, payload: Vec<u8>) {
        self.startup.payload = payload;
    }

    /// Builds the home Space and starts the first thread.
    ///
    /// # Errors
    /// Of any operation on the way; the Domain is then the caller's to destroy.
    pub fn start(mut self) -> Result<()> {
        let space = Space::create(self.domain, SpaceUse::Home, None)?;
        let result = self.fill_and_start(space);
        space.forget();
        result
    }

    fn fill_and_start(&mut self, space: Space) -> Result<()> {
        for segment in self.image.segments {
            let access = Access::from_bits(segment.access).ok_or(Error::BadArgument)?;
            let mode =
                if access.contains(Access::WRITE) { MapMode::Private } else { MapMode::Share };
            if segment.file_pages > 0 {
                space.map(
                    segment.home_offset,
                    self.image.space,
                    segment.file_offset,
                    segment.file_pages,
                    mode,
                    access,
                    false,
                )?;
            }
            let rest =
                segment.memory_pages.checked_sub(segment.file_pages).ok_or(Error::BadArgument)?;
            if rest > 0 {
                space.zero(
                    segment.home_offset + (segment.file_pages << PAGE_SHIFT),
                    rest,
                    access,
                    0,
                )?;
            }
        }
        self.make_stack(space)?;
        let thread = Thread::create(self.domain, space, 0)?;
        let result = self.hand_over(space, thread);
        thread.forget();
        result
    }

    fn make_stack(&self, space: Space) -> Result<()> {
        let access = Access::READ | Access::WRITE;
        let low = home::STACK_TOP - home::STACK_SIZE + GUARD_PAGES * PAGE_SIZE;
        let demand = home::STACK_SIZE / PAGE_SIZE - GUARD_PAGES - STACK_POPULATED;
        space.zero(low, demand, access, 0)?;
        space.zero(home::STACK_TOP - STACK_POPULATED * PAGE_SIZE, STACK_POPULATED, access, POPULATE)
    }

    fn hand_over(&mut self, space: Space, thread: Thread) -> Result<()> {
        self.grant_at(
            "domain",
            self.domain.slot(),
            root::DOMAIN,
            Rights::DESTROY | Rights::INSPECT,
        )?;
        let home_rights =
            Rights::RUN | Rights::EDIT | Rights::MAP_READ | Rights::MAP_WRITE | Rights::MAP_EXECUTE;
        self.grant_at("home", space.slot(), root::HOME, home_rights)?;
        self.grant_at("thread", thread.slot(), root::THREAD, Rights::CONTROL)?;
        self.startup.first_free_slot = self.next;
        let (low, high) =
            crate::arch::call(kernel_abi::Operation::Random, [0; 6]).map(|(_, a, b)| (a, b))?;
        for (place, word) in self.startup.seed.chunks_exact_mut(8).zip([
            low,
            high,
            low ^ high.rotate_left(17),
            high ^ low.rotate_left(29),
        ]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut block = Vec::new();
        contract::wire::encode(&self.startup, &mut block).map_err(|_| Error::BadArgument)?;
        write_startup(space, &block)?;
        thread.start(self.image.entry, HOME_BASE + home::STACK_TOP, block.len() as u64)
    }
}

/// Puts the start-up block where the program finds it.
fn write_startup(space: Space, block: &[u8]) -> Result<()> {
    let length = block.len() as u64;
    if length > home::STARTUP_SIZE {
        return Err(Error::BadArgument);
    }
    let pages = length.div_ceil(PAGE_SIZE);
    space.zero(home::STARTUP, pages, Access::READ | Access::WRITE, POPULATE)?;
    {
        let view = View::map(space, home::STARTUP, pages, Access::READ | Access::WRITE)?;
        // SAFETY: the view is as long as the block at least, and the program that will read it has not begun.
        unsafe { core::ptr::copy_nonoverlapping(block.as_ptr(), view.pointer(), block.len()) };
    }
    space.protect(home::STARTUP, pages, Access::READ)
}
