//! The fake machine: the interface over ordinary memory, for tests of the portable kernel on the host.
//!
//! [`Machine::start`] makes a machine with some frames and CPUs; while its guard lives, other tests wait. The test's thread is
//! CPU 0; [`on_cpu`] lets a thread act as another one. Inter-processor interrupts are recorded, the clock advances only when a test
//! says so, and nothing ever executes: a test reads and writes the registers of the context that was chosen.

mod context;

pub use context::Context;

use crate::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::types::{
    BootMemory, CpuId, Frame, FrameRange, Interrupt, Ipi, MAX_CPUS, MAX_RANGES, MachineError, Message,
    PowerAction, Roots, Table, Trigger, Vector,
};
use core::{cell::Cell, ptr};
use std::sync::{Condvar, Mutex, PoisonError};

/// Frames of a context's vector area.
pub const VECTOR_FRAMES: usize = 1;

/// Whether a machine runs, and who waits for its end.
static SERIAL: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());
static MEMORY: AtomicPtr<Table> = AtomicPtr::new(ptr::null_mut());
static FRAMES: AtomicU32 = AtomicU32::new(0);
static WORDS: AtomicPtr<[AtomicU64; 2]> = AtomicPtr::new(ptr::null_mut());
static CPUS: AtomicUsize = AtomicUsize::new(1);
static NOW: AtomicU64 = AtomicU64::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static VECTORS: AtomicUsize = AtomicUsize::new(32);
static MODULE: [AtomicU32; 2] = [const { AtomicU32::new(0) }; 2];

/// What a test sees of one CPU.
struct State {
    current: AtomicPtr<Context>,
    root: AtomicU32,
    timer: AtomicU64,
    pending: [AtomicBool; 2],
    idling: AtomicBool,
}

static STATES: [State; MAX_CPUS] = [const {
    State {
        current: AtomicPtr::new(ptr::null_mut()),
        root: AtomicU32::new(0),
        timer: AtomicU64::new(0),
        pending: [const { AtomicBool::new(false) }; 2],
        idling: AtomicBool::new(false),
    }
}; MAX_CPUS];

#[cfg(not(feature = "interleave"))]
thread_local! {
    static CPU: Cell<CpuId> = const { Cell::new(0) };
}
#[cfg(feature = "interleave")]
shuttle::thread_local! {
    static CPU: Cell<CpuId> = Cell::new(0);
}

/// A running fake machine.
#[derive(Debug)]
pub struct Machine {
    _turn: Turn,
}

/// The right to be the machine that runs; any thread may end it.
#[derive(Debug)]
struct Turn;

impl Turn {
    fn take() -> Self {
        let (is_taken, ended) = &SERIAL;
        let mut taken = is_taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            taken = ended.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *SERIAL.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        SERIAL.1.notify_one();
    }
}

impl Machine {
    /// Starts a machine with `frames` frames of RAM, of which frame 0 is never free.
    ///
    /// The memory is leaked on purpose: references into it are `'static`, and a machine outlives its test in the operating system's eyes.
    #[must_use]
    pub fn start(frames: u32, cpus: usize) -> Self {
        let turn = Turn::take();
        let layout =
            std::alloc::Layout::from_size_align(frames as usize * 4096, 4096).expect("size of the fake RAM");
        // SAFETY: the layout has a size above zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!memory.is_null(), "no memory for the fake RAM");
        MEMORY.store(memory.cast(), Ordering::Release);
        let words: Vec<[AtomicU64; 2]> =
            (0..frames).map(|_| [AtomicU64::new(0), AtomicU64::new(0)]).collect();
        WORDS.store(Vec::leak(words).as_mut_ptr(), Ordering::Release);
        FRAMES.store(frames, Ordering::Release);
        CPUS.store(cpus, Ordering::Release);
        NOW.store(1_000_000, Ordering::Release);
        MODULE[0].store(0, Ordering::Release);
        MODULE[1].store(0, Ordering::Release);
        VECTORS.store(32, Ordering::Release);
        for state in &STATES {
            state.current.store(ptr::null_mut(), Ordering::Release);
            state.root.store(0, Ordering::Release);
            state.timer.store(0, Ordering::Release);
            for pending in &state.pending {
                pending.store(false, Ordering::Release);
            }
        }
        CPU.with(|cpu| cpu.set(0));
        crate::object::reset();
        Self { _turn: turn }
    }

    /// Puts a boot module into the last frames of RAM.
    pub fn load_module(&self, bytes: &[u8]) {
        let count = u32::try_from(bytes.len().div_ceil(4096)).expect("module size");
        let start = FRAMES.load(Ordering::Acquire) - count;
        for (index, chunk) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let frame = Frame::new(start + u32::try_from(index / 512).expect("module size"));
            table(frame)[index % 512].store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        MODULE[0].store(start, Ordering::Release);
        MODULE[1].store(start + count, Ordering::Release);
    }

    /// Lets time pass.
    pub fn advance(&self, ticks: u64) {
        NOW.fetch_add(ticks, Ordering::AcqRel);
    }

    /// The deadline this CPU's timer is set to (0: none).
    #[must_use]
    pub fn timer(&self) -> u64 {
        STATES[cpu()].timer.load(Ordering::Acquire)
    }

    /// Takes this CPU's oldest pending interrupt: an IPI, or its timer if that is due.
    #[must_use]
    pub fn take_interrupt(&self) -> Option<Interrupt> {
        let state = &STATES[cpu()];
        if state.pending[1].swap(false, Ordering::AcqRel) {
            return Some(Interrupt::Shootdown);
        }
        if state.pending[0].swap(false, Ordering::AcqRel) {
            return Some(Interrupt::Reschedule);
        }
        let deadline = state.timer.load(Ordering::Acquire);
        if deadline != 0 && deadline <= now() {
            state.timer.store(0, Ordering::Release);
            return Some(Interrupt::Timer);
        }
        None
    }

    /// The context this CPU would run.
    #[must_use]
    pub fn current(&self) -> Option<&'static Context> {
        // SAFETY: core keeps a chosen context's thread alive while it is chosen, and fake memory is never freed.
        unsafe { STATES[cpu()].current.load(Ordering::Acquire).as_ref() }
    }

    /// The root this CPU has loaded.
    #[must_use]
    pub fn root(&self) -> Frame {
        Frame::new(STATES[cpu()].root.load(Ordering::Acquire))
    }
}

/// Acts as another CPU for the length of a closure.
pub fn on_cpu<R>(id: CpuId, act: impl FnOnce() -> R) -> R {
    let before = CPU.with(|cpu| cpu.replace(id));
    let result = act();
    CPU.with(|cpu| cpu.set(before));
    result
}

/// The calling CPU.
#[inline]
#[must_use]
pub fn cpu() -> CpuId {
    CPU.with(Cell::get)
}

/// Number of CPUs.
#[must_use]
pub fn cpu_count() -> usize {
    CPUS.load(Ordering::Acquire)
}

/// Sends an inter-processor interrupt.
pub fn interrupt(target: CpuId, ipi: Ipi) {
    let index = match ipi {
        Ipi::Reschedule => 0,
        Ipi::Shootdown => 1,
    };
    STATES[target].pending[index].store(true, Ordering::Release);
}

/// Waits for an interrupt: a test's CPU only notes that it would.
pub fn idle() {
    STATES[cpu()].idling.store(true, Ordering::Release);
}

/// Lets pending interrupts in.
pub fn poll_interrupts() {}

/// Eases a spin loop.
pub fn relax() {
    #[cfg(not(feature = "interleave"))]
    std::thread::yield_now();
    #[cfg(feature = "interleave")]
    shuttle::thread::yield_now();
}

/// The time stamp counter.
#[must_use]
pub fn now() -> u64 {
    NOW.load(Ordering::Acquire)
}

/// Ticks of [`now`] in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    1_000_000_000
}

/// Sets this CPU's one-shot timer to an absolute deadline; 0 stops it.
pub fn set_timer(deadline: u64) {
    STATES[cpu()].timer.store(deadline, Ordering::Release);
}

/// A frame as words.
///
/// # Panics
/// If the frame is not RAM.
#[inline]
#[must_use]
pub fn table(frame: Frame) -> &'static Table {
    assert!(frame.number() < FRAMES.load(Ordering::Acquire), "frame is not RAM");
    let base = MEMORY.load(Ordering::Acquire);
    // SAFETY: the frame lies inside the leaked allocation.
    let place = unsafe { base.add(frame.number() as usize) };
    // SAFETY: its words are atomics for their whole life.
    unsafe { &*place }
}

/// Address of a frame's first byte in the kernel.
#[must_use]
pub fn frame_pointer(frame: Frame) -> *mut u8 {
    ptr::from_ref(table(frame)).cast_mut().cast()
}

/// The frame that a kernel address lies in.
#[must_use]
pub fn frame_of(pointer: *const u8) -> Frame {
    let base = MEMORY.load(Ordering::Acquire).addr();
    Frame::new(u32::try_from((pointer.addr() - base) / 4096).unwrap_or(0))
}

/// Fills a frame with zeros, in one step.
pub fn zero(frame: Frame) {
    // SAFETY: the pointer is to a whole frame of the leaked allocation, whose users see words that any value is defined for.
    unsafe { ptr::write_bytes(frame_pointer(frame), 0, 4096) };
}

/// Copies a whole frame, in one step.
pub fn copy(to: Frame, from: Frame) {
    // SAFETY: as for `zero`; the two are different frames, or the same one.
    unsafe { ptr::copy(frame_pointer(from), frame_pointer(to), 4096) };
}

/// A frame's 16 bytes of metadata.
///
/// # Panics
/// If the frame is not RAM.
#[inline]
#[must_use]
pub fn frame_words(frame: Frame) -> &'static [AtomicU64; 2] {
    assert!(frame.number() < FRAMES.load(Ordering::Acquire), "frame is not RAM");
    let base = WORDS.load(Ordering::Acquire);
    // SAFETY: the leaked array has an element for each frame.
    let place = unsafe { base.add(frame.number() as usize) };
    // SAFETY: its words are atomics for their whole life.
    unsafe { &*place }
}

/// What boot found: all frames but 0 and the module's are free.
#[must_use]
pub fn boot_memory() -> BootMemory {
    let limit = FRAMES.load(Ordering::Acquire);
    let module =
        FrameRange { start: MODULE[0].load(Ordering::Acquire), end: MODULE[1].load(Ordering::Acquire) };
    let has_module = module.end != 0;
    let mut free = [FrameRange { start: 0, end: 0 }; MAX_RANGES];
    free[0] = FrameRange { start: 1, end: if has_module { module.start } else { limit } };
    BootMemory {
        free,
        free_count: 1,
        frame_limit: limit,
        module: has_module.then_some(module),
        command_line: b"test",
        first_instruction: 1,
        pci_window: Some(0xb000_0000),
        virtio_mmio: None,
        tsc_is_clock: true,
    }
}

/// Words for the kernel's own tables, zeroed, kept for ever.
#[must_use]
pub fn boot_words(count: usize) -> &'static [AtomicU64] {
    Vec::leak((0..count).map(|_| AtomicU64::new(0)).collect())
}

/// Fills the kernel's half (entries 384 to 511) of a new root.
pub fn kernel_entries(root: &Table) {
    for word in root.iter().skip(384) {
        word.store(0, Ordering::Relaxed);
    }
}

/// Flushes one page from this CPU's TLB.
pub fn flush_page(_address: u64) {}

/// Flushes this CPU's TLB but for global entries.
pub fn flush_all() {}

/// Makes a context this CPU's current one and loads its root, see the notes of the interface.
pub fn resume(context: &Context, roots: Roots) {
    let root = if context.in_guest() { roots.guest.unwrap_or(roots.run) } else { roots.run };
    let state = &STATES[cpu()];
    state.current.store(ptr::from_ref(context).cast_mut(), Ordering::Release);
    state.root.store(root.number(), Ordering::Release);
}

/// Leaves this CPU without a current context, on the kernel's root.
pub fn resume_none() {
    let state = &STATES[cpu()];
    state.current.store(ptr::null_mut(), Ordering::Release);
    state.root.store(0, Ordering::Release);
}

/// Routes an interrupt line to a new vector.
///
/// # Errors
/// [`MachineError::NotPresent`] for lines above 23.
pub fn irq_route(line: u32, _trigger: Trigger) -> Result<Vector, MachineError> {
    if line > 23 { Err(MachineError::NotPresent) } else { Ok(Vector::try_from(line).unwrap_or(0) + 200) }
}

/// Takes a vector for message-signalled interrupts.
#[must_use]
pub fn irq_vector() -> Option<Message> {
    let vector =
        Vector::try_from(VECTORS.fetch_add(1, Ordering::AcqRel)).ok().filter(|vector| *vector < 200)?;
    Some(Message { vector, address: 0xfee0_0000, data: u32::from(vector) })
}

/// Lets a level-triggered line fire again.
pub fn irq_unmask(_vector: Vector) {}

/// Gives a vector (and its line) back.
pub fn irq_free(_vector: Vector) {}

/// Appends to the log.
pub fn log_bytes(_bytes: &[u8]) {}

/// A random word.
#[must_use]
pub fn random() -> u64 {
    RANDOM.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::AcqRel)
}

/// Every protection: the fake machine runs no code that could break one.
#[must_use]
pub fn protections() -> kernel_abi::operation::Protection {
    kernel_abi::operation::Protection::all()
}

/// Ends the machine.
///
/// # Panics
/// Always: a test that ends the machine by mistake fails.
pub fn power(action: PowerAction) -> ! {
    panic!("the machine ended: {action:?}");
}

/// Reads or writes an I/O port.
///
/// # Errors
/// [`MachineError::NotPresent`] for every port but 0x80.
pub fn port_access(port: u16, _width: u8, write: Option<u32>) -> Result<u32, MachineError> {
    if port == 0x80 { Ok(write.unwrap_or(0)) } else { Err(MachineError::NotPresent) }
}

/// Whether a physical range is device memory that user programs may be handed.
#[must_use]
pub fn device_range_allowed(address: u64, pages: u64) -> bool {
    let ram = u64::from(FRAMES.load(Ordering::Acquire)) << 12;
    address >= ram && pages.checked_mul(4096).and_then(|size| address.checked_add(size)).is_some()
}
