//! Starting a program of the boot module in a Domain: its home Space, stack, start-up block, capabilities and first thread.

use crate::{
    Domain, Notification, Result, Space, Thread,
    module::Image,
    object, startup,
    sync::SpinLock,
    template::{self, Memory, Preparing},
    view::View,
};
use alloc::{borrow::Cow, vec::Vec};
use contract::startup::{Bytes, Startup};
use kernel_abi::{
    Error, PAGE_SHIFT, PAGE_SIZE, Rights, Slot,
    cap::root,
    layout::{HOME_BASE, home},
    space::{Access, MapMode, SpaceUse},
};

/// Names of capabilities and of numbers that most programs are handed at most.
const USUAL: usize = 8;
/// Bytes of a start-up block beside its payload, usually.
const STARTUP_USUAL: usize = 768;
/// First slot of what a program is handed beyond its Domain, home and thread, whose slots are those of root.
const FIRST_SLOT: Slot = root::THREAD + 1;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;
/// Pages at the top of the stack that have frames from the beginning; of a program that begins with a template's memory, whose start has to be cheap.
const STACK_POPULATED: u64 = 4;
const STACK_POPULATED_EARLY: u64 = 1;
/// Pages below the stack that are holes.
const GUARD_PAGES: u64 = 1;

/// A program being launched.
#[derive(Debug)]
pub struct Launch<'a> {
    domain: Domain,
    image: Image<'a>,
    program: &'a str,
    capabilities: Vec<(Cow<'a, str>, Slot)>,
    values: Vec<(Cow<'a, str>, u64)>,
    payload: Vec<u8>,
    next: Slot,
    memory: Option<&'a Memory>,
}

impl<'a> Launch<'a> {
    /// Begins with an empty Domain.
    #[must_use]
    pub fn new(domain: Domain, name: &'a str, image: Image<'a>) -> Self {
        Self {
            domain,
            image,
            program: name,
            capabilities: Vec::with_capacity(USUAL),
            values: Vec::with_capacity(USUAL),
            payload: Vec::new(),
            next: FIRST_SLOT,
            memory: None,
        }
    }

    /// Begins with what a template of the same image has written, instead of the image's own data.
    pub fn begin_with(&mut self, memory: &'a Memory) {
        self.memory = Some(memory);
    }

    /// Hands a capability over, with some of its rights, under a name.
    ///
    /// # Errors
    /// As `CapCopy`.
    pub fn grant(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        slot: Slot,
        rights: Rights,
    ) -> Result<()> {
        self.grant_at(name.into(), slot, self.next, rights)?;
        self.next += 1;
        Ok(())
    }

    fn grant_at(
        &mut self,
        name: Cow<'a, str>,
        slot: Slot,
        target: Slot,
        rights: Rights,
    ) -> Result<()> {
        object::copy(slot, self.domain, target, rights)?;
        self.capabilities.push((name, target));
        Ok(())
    }

    /// Creates a Notification that the Domain pays for and hands it over.
    ///
    /// # Errors
    /// As `NotificationCreate`.
    pub fn grant_notification(
        &mut self,
        name: impl Into<Cow<'a, str>>,
        keep: Rights,
    ) -> Result<Notification> {
        let notification = Notification::create(self.domain)?;
        self.grant(name, notification.slot(), keep).inspect_err(|_| notification.forget())?;
        Ok(notification)
    }

    /// Tells a number under a name.
    pub fn value(&mut self, name: impl Into<Cow<'a, str>>, value: u64) {
        self.values.push((name.into(), value));
    }

    /// Says what the program is to do.
    pub fn payload(&mut self, payload: Vec<u8>) {
        self.payload = payload;
    }

    /// Builds the home Space and starts the first thread.
    ///
    /// # Errors
    /// Of any operation on the way; the Domain is then the caller's to destroy.
    pub fn start(mut self) -> Result<()> {
        let space = Space::create(self.domain, SpaceUse::Home, None)?;
        let thread = self.fill_and_start(space);
        space.forget();
        thread.map(Thread::forget)
    }

    /// The same for a program that is to become a template.
    ///
    /// # Errors
    /// As `start`; the Domain is destroyed.
    pub fn prepare(mut self) -> Result<Preparing> {
        self.value(template::WANTED, 1);
        let mut preparing = Preparing { domain: self.domain, ..Preparing::default() };
        preparing.home = Space::create(self.domain, SpaceUse::Home, None)?;
        preparing.thread = self.fill_and_start(preparing.home)?;
        Ok(preparing)
    }

    fn fill_and_start(&mut self, space: Space) -> Result<Thread> {
        if let Some(memory) = self.memory {
            memory.map(space)?;
        }
        for segment in self.image.segments {
            let access = Access::from_bits(segment.access).ok_or(Error::BadArgument)?;
            if self.memory.is_some() && access.contains(Access::WRITE) {
                continue;
            }
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
        self.hand_over(space, thread).inspect_err(|_| thread.forget())?;
        Ok(thread)
    }

    fn make_stack(&self, space: Space) -> Result<()> {
        let access = Access::READ | Access::WRITE;
        let low = home::STACK_TOP - home::STACK_SIZE + GUARD_PAGES * PAGE_SIZE;
        let populated = if self.memory.is_some() { STACK_POPULATED_EARLY } else { STACK_POPULATED };
        let demand = home::STACK_SIZE / PAGE_SIZE - GUARD_PAGES - populated;
        space.zero(low, demand, access, 0)?;
        space.zero(home::STACK_TOP - populated * PAGE_SIZE, populated, access, POPULATE)
    }

    fn hand_over(&mut self, space: Space, thread: Thread) -> Result<()> {
        self.grant_at(
            "domain".into(),
            self.domain.slot(),
            root::DOMAIN,
            Rights::DESTROY | Rights::INSPECT,
        )?;
        let home_rights =
            Rights::RUN | Rights::EDIT | Rights::MAP_READ | Rights::MAP_WRITE | Rights::MAP_EXECUTE;
        self.grant_at("home".into(), space.slot(), root::HOME, home_rights)?;
        self.grant_at("thread".into(), thread.slot(), root::THREAD, Rights::CONTROL)?;
        let (low, high) =
            crate::arch::call(kernel_abi::Operation::Random, [0; 6]).map(|(_, a, b)| (a, b))?;
        let mut seed = [0; 32];
        let words = [low, high, low ^ high.rotate_left(17), high ^ low.rotate_left(29)];
        for (place, word) in seed.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let startup = Startup {
            program: self.program,
            capabilities: self
                .capabilities
                .iter()
                .map(|(name, slot)| (Bytes::new(name.as_bytes()), *slot))
                .collect(),
            first_free_slot: self.next,
            values: self
                .values
                .iter()
                .map(|(name, value)| (Bytes::new(name.as_bytes()), *value))
                .collect(),
            seed: seed.into(),
            payload: &self.payload,
        };
        let mut block = Vec::with_capacity(self.payload.len() + STARTUP_USUAL);
        contract::wire::encode(&startup, &mut block).map_err(|_| Error::BadArgument)?;
        write_startup(space, &block)?;
        thread.start(self.image.entry, HOME_BASE + home::STACK_TOP, block.len() as u64)
    }
}

/// Where start-up blocks are written before whole pages are copied: all zero between two.
static DESK: SpinLock<Option<View>> = SpinLock::new(None);

/// Puts the start-up block where the program finds it.
fn write_startup(space: Space, block: &[u8]) -> Result<()> {
    let length = block.len() as u64;
    if length > home::STARTUP_SIZE {
        return Err(Error::BadArgument);
    }
    let pages = length.div_ceil(PAGE_SIZE);
    space.zero(home::STARTUP, pages, Access::READ | Access::WRITE, POPULATE)?;
    let mut desk = DESK.lock();
    let desk = match &mut *desk {
        Some(desk) => desk,
        none => none.insert(View::zeroed(home::STARTUP_SIZE / PAGE_SIZE)?),
    };
    desk.write(0, block)?;
    let copied = space.copy_from(home::STARTUP, startup::home_space(), desk.offset(), pages);
    // What it says is for that program alone. Few blocks are longer than a page.
    desk.clear(block.len())?;
    if pages > 1 {
        startup::home_space().discard(desk.offset() + PAGE_SIZE, pages - 1)?;
    }
    copied?;
    space.protect(home::STARTUP, pages, Access::READ)
}
