//! Threads of a program.
//!
//! Every stack is [`STACK_SIZE`] long and aligned to it, so that the stack pointer leads to the thread's [`Block`] at its end without any register
//! that a guest could own:
//!
//! ```text
//! +0             guard: a hole
//! +4096          stack, growing down from the block, or from the state page of a thread that runs guests
//! end - 4096     the state page: the kernel uses its beginning, a handler of faults what is between that and the block as its stack
//! end - 64       the block
//! ```

use crate::{Domain, Result, Space, Thread, arch, heap, startup, sync::SpinLock, view};
use alloc::boxed::Box;
use core::{
    fmt, ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};
use kernel_abi::{
    Error, Operation, PAGE_SIZE, Slot,
    guest::StatePage,
    layout::{HOME_BASE, home::STACK_SIZE},
    space::Access,
};

/// Pages of a stack with everything that belongs to it.
const STACK_PAGES: u64 = STACK_SIZE / PAGE_SIZE;
/// Offset of the block; every thread's first stack pointer is at or below it.
const BLOCK: u64 = STACK_SIZE - arch::BLOCK_SIZE as u64;
/// Offset of the state page.
const STATE: u64 = STACK_SIZE - PAGE_SIZE;
/// Offset of the stack's lowest byte.
pub(crate) const STACK: u64 = PAGE_SIZE;
/// Pages at the end that have frames from the beginning, the state page among them: in a program that keeps a reserve, as many as it ever needs; in
/// one that began with a template's memory, as few as it needs for a short life.
const POPULATED: u64 = 3;
const POPULATED_WITH_RESERVE: u64 = 4;
const POPULATED_AFTER_TEMPLATE: u64 = 2;
/// State of a thread that has ended, as the kernel tells it.
const DEAD: u64 = 3;
/// Stacks kept for further threads.
const KEPT: usize = 32;
/// Flag of `SpaceZero`: frames at once.
const POPULATE: u64 = 1 << 8;

/// What belongs to one thread.
#[repr(C)]
pub struct Block {
    thread: AtomicU32,
    has_state: AtomicU32,
    /// For the program: whatever it wants to find from any function of the thread.
    pub local: AtomicPtr<()>,
    start: AtomicPtr<Start>,
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Block(thread {})", self.thread.load(Ordering::Relaxed))
    }
}

const _: () = assert!(size_of::<Block>() <= arch::BLOCK_SIZE);

struct Start {
    #[cfg_attr(
        not(target_os = "none"),
        expect(dead_code, reason = "only the first code of a thread on the machine runs it")
    )]
    run: Box<dyn FnOnce() + Send>,
}

struct Kept {
    stacks: [u64; KEPT],
    count: usize,
}

static KEPT_STACKS: SpinLock<Kept> = SpinLock::new(Kept { stacks: [0; KEPT], count: 0 });

/// The calling thread's block.
#[inline]
#[must_use]
pub fn block() -> &'static Block {
    #[cfg(target_os = "none")]
    let address = (arch::stack_pointer() & !(STACK_SIZE - 1)) + BLOCK;
    #[cfg(not(target_os = "none"))]
    let address = {
        let _ = arch::stack_pointer();
        std::thread_local!(static BLOCK: Block = const { Block { thread: AtomicU32::new(0), has_state: AtomicU32::new(0), local: AtomicPtr::new(ptr::null_mut()), start: AtomicPtr::new(ptr::null_mut()) } });
        BLOCK.with(|block| ptr::from_ref(block).expose_provenance()) as u64
    };
    // SAFETY: every stack has its block at its end, zeroed when the stack was made; all fields are atomics.
    unsafe { &*ptr::with_exposed_provenance::<Block>(address as usize) }
}

/// The slot of the calling thread.
#[inline]
#[must_use]
pub fn own_slot() -> Slot {
    block().thread.load(Ordering::Relaxed)
}

/// The calling thread's state page, if it can run guests.
#[must_use]
pub fn state_page() -> Option<*mut StatePage> {
    let block = block();
    (block.has_state.load(Ordering::Relaxed) != 0).then(|| {
        let address = ptr::from_ref(block).addr() & !(PAGE_SIZE as usize - 1);
        ptr::with_exposed_provenance_mut(address)
    })
}

/// Where the stack of a handler of the calling thread's faults begins, if the thread has a state page.
#[must_use]
pub fn fault_stack() -> u64 {
    ptr::from_ref(block()).addr() as u64
}

/// Notes the first thread's slot.
#[cfg_attr(
    not(target_os = "none"),
    expect(dead_code, reason = "programs begin on the machine only")
)]
pub(crate) fn set_up_first() {
    block().thread.store(kernel_abi::cap::root::THREAD, Ordering::Relaxed);
}

/// Lets other threads run.
pub fn yield_now() {
    let _ = arch::call(Operation::ThreadYield, [0; 6]);
    #[cfg(not(target_os = "none"))]
    std::thread::yield_now();
}

/// Blocks until unparked or kicked.
pub fn park() {
    let _ = park_until(u64::MAX);
}

/// Blocks until unparked, kicked or a deadline.
///
/// # Errors
/// `TimedOut`, `Kicked`.
pub fn park_until(deadline: u64) -> Result<()> {
    arch::call(Operation::ThreadPark, [deadline, 0, 0, 0, 0, 0]).map(|_| ())
}

/// Unparks a thread of the program.
pub fn unpark(slot: Slot) {
    // A thread that has ended needs no waking.
    let _ = Thread(slot).unpark();
}

/// Starts a thread; `with_state` gives it a state page. Its capability is the program's to keep or to forget.
///
/// # Errors
/// When memory, objects or threads are exhausted.
pub fn spawn(with_state: bool, run: impl FnOnce() + Send + 'static) -> Result<Thread> {
    let prepared = prepare(with_state)?;
    prepared.start(run)
}

/// A thread with everything it needs, not yet started.
#[derive(Debug)]
pub struct Prepared {
    base: u64,
    thread: Thread,
}

/// Makes a thread ready to be started.
///
/// # Errors
/// When memory, objects or threads are exhausted.
pub fn prepare(with_state: bool) -> Result<Prepared> {
    let base = take_stack()?;
    let state = if with_state { base + STATE } else { 0 };
    match Thread::create(Domain::OWN, startup::home_space(), state) {
        Ok(thread) => {
            let prepared = Prepared { base, thread };
            prepared.block().thread.store(thread.slot(), Ordering::Relaxed);
            prepared.block().has_state.store(u32::from(with_state), Ordering::Relaxed);
            Ok(prepared)
        }
        Err(error) => {
            keep_stack(base);
            Err(error)
        }
    }
}

impl Prepared {
    fn block(&self) -> &'static Block {
        // SAFETY: as in `block`.
        unsafe { &*ptr::with_exposed_provenance::<Block>((HOME_BASE + self.base + BLOCK) as usize) }
    }
    /// Its capability.
    #[must_use]
    pub const fn thread(&self) -> Thread {
        self.thread
    }
    /// Its state page.
    #[must_use]
    pub fn state_page(&self) -> *mut StatePage {
        ptr::with_exposed_provenance_mut((HOME_BASE + self.base + STATE) as usize)
    }
    /// Starts it.
    ///
    /// # Errors
    /// `DomainDead`.
    pub fn start(self, run: impl FnOnce() + Send + 'static) -> Result<Thread> {
        let start = Box::into_raw(Box::new(Start { run: Box::new(run) }));
        self.block().start.store(start, Ordering::Release);
        let has_state = self.block().has_state.load(Ordering::Relaxed) != 0;
        let top = self.base + if has_state { STATE } else { BLOCK };
        self.thread.start(arch::thread_entry(), HOME_BASE + top, 0)?;
        Ok(self.thread)
    }
    /// Gives everything back.
    pub fn abandon(self) {
        let _ = self.thread.destroy();
        keep_stack(self.base);
    }
}

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn rt_thread_start() -> ! {
    let start = block().start.swap(ptr::null_mut(), Ordering::AcqRel);
    if !start.is_null() {
        // SAFETY: the pointer came from `Box::into_raw` in `Prepared::start` and is taken once.
        let start = unsafe { Box::from_raw(start) };
        (start.run)();
    }
    finish()
}

/// Ends the calling thread; its stack serves another one once the kernel says that it has ended.
pub fn finish() -> ! {
    let block = block();
    let slot = block.thread.load(Ordering::Relaxed);
    let base = (ptr::from_ref(block).addr() as u64).wrapping_sub(HOME_BASE + BLOCK);
    let mut retired = RETIRED.lock();
    if retired.iter().all(|(base, _)| *base != 0) {
        collect(&mut retired);
    }
    if let Some(place) = retired.iter_mut().find(|(base, _)| *base == 0) {
        *place = (base, slot);
    }
    drop(retired);
    crate::start::end_thread()
}

/// Stacks and threads of those that are about to end.
static RETIRED: SpinLock<[(u64, Slot); KEPT]> = SpinLock::new([(0, 0); KEPT]);

/// Takes the stacks back whose threads have ended.
fn collect(retired: &mut [(u64, Slot); KEPT]) {
    for (base, slot) in retired.iter_mut().filter(|(base, _)| *base != 0) {
        if Thread(*slot).stat().is_ok_and(|(_, state, _)| state != DEAD) {
            continue;
        }
        crate::object::delete(*slot);
        keep_stack(*base);
        (*base, *slot) = (0, 0);
    }
}

fn take_stack() -> Result<u64> {
    if KEPT_STACKS.lock().count == 0 {
        collect(&mut RETIRED.lock());
    }
    {
        let mut kept = KEPT_STACKS.lock();
        if let Some(count) = kept.count.checked_sub(1) {
            kept.count = count;
            return kept.stacks.get(count).copied().ok_or(Error::OutOfFrames);
        }
    }
    make_stack()
}

fn make_stack() -> Result<u64> {
    let base = view::reserve(STACK_PAGES)?;
    let home = startup::home_space();
    let result = fill_stack(home, base);
    if result.is_err() {
        let _ = home.unmap(base, STACK_PAGES);
        view::give_back(base, STACK_PAGES);
    }
    result.map(|()| base)
}

fn fill_stack(home: Space, base: u64) -> Result<()> {
    let access = Access::READ | Access::WRITE;
    let populated = match (heap::has_reserve(), heap::is_copied()) {
        (true, _) => POPULATED_WITH_RESERVE,
        (false, true) => POPULATED_AFTER_TEMPLATE,
        (false, false) => POPULATED,
    };
    let top = STACK_SIZE - populated * PAGE_SIZE;
    home.zero(base + STACK, (top - STACK) / PAGE_SIZE, access, 0)?;
    home.zero(base + top, populated, access, POPULATE)
}

fn keep_stack(base: u64) {
    let mut kept = KEPT_STACKS.lock();
    let count = kept.count;
    if let Some(place) = kept.stacks.get_mut(count) {
        *place = base;
        kept.count += 1;
        return;
    }
    drop(kept);
    if startup::home_space().unmap(base, STACK_PAGES).is_ok() {
        view::give_back(base, STACK_PAGES);
    }
}
