//! Interrupt controllers: each CPU's local one and the I/O ones, and the allocation of vectors.
//!
//! Source: Intel SDM volume 3, chapter 11; 82093AA data sheet. Registers are 32 bits wide and uncached.

use super::{acpi::Facts, instruction, memory};
use crate::{
    counter::{self, Counter},
    object::{Once, SpinLock},
    types::{CpuId, Ipi, MachineError, Message, Trigger, Vector},
};
use core::{
    ptr,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
use kernel_abi::PAGE_SIZE;

/// Vector of each CPU's timer.
pub(super) const TIMER: u8 = 0xf0;
/// Vector of [`Ipi::Reschedule`].
pub(super) const RESCHEDULE: u8 = 0xf1;
/// Vector of [`Ipi::Shootdown`].
pub(super) const SHOOTDOWN: u8 = 0xf2;
/// Vector of interrupts that vanished.
pub(super) const SPURIOUS: u8 = 0xff;
/// Vectors for devices.
const DEVICES: core::ops::Range<u8> = 0x30..0xf0;

const ID: u64 = 0x20;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS_VECTOR: u64 = 0xf0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const TIMER_ENTRY: u64 = 0x320;
const TIMER_COUNT: u64 = 0x380;
const TIMER_LEFT: u64 = 0x390;
const TIMER_DIVIDER: u64 = 0x3e0;
/// The timer counts every sixteenth tick of its clock.
const DIVIDE_BY_16: u32 = 3;
const MASKED: u32 = 1 << 16;

/// State of a device vector: free, a message's, or a line (its index in the upper bits).
const FREE: u32 = 0;
const MESSAGE: u32 = 1;
const LINE: u32 = 2;

/// An I/O controller.
#[derive(Clone, Copy, Debug)]
struct IoApic {
    address: u64,
    first: u32,
    lines: u32,
}

static LOCAL: AtomicU64 = AtomicU64::new(0);
static PHYSICAL: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static IO: Once<[Option<IoApic>; 2]> = Once::new();
static IO_LOCK: SpinLock<()> = SpinLock::new(29, ());
static VECTORS: [AtomicU32; 256] = [const { AtomicU32::new(FREE) }; 256];
/// Local controllers by CPU.
static APICS: [AtomicU32; crate::types::MAX_CPUS] = [const { AtomicU32::new(0) }; crate::types::MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(1);

fn register(offset: u64) -> *mut u32 {
    ptr::with_exposed_provenance_mut((LOCAL.load(Ordering::Relaxed) + offset) as usize)
}

fn read(offset: u64) -> u32 {
    // SAFETY: the controller's page is mapped before anything reads it.
    unsafe { register(offset).read_volatile() }
}

fn write(offset: u64, value: u32) {
    // SAFETY: as for `read`; the values written keep the controller in the kernel's hands.
    unsafe { register(offset).write_volatile(value) };
}

/// Maps the controllers; called once.
pub(super) fn set_up(facts: &Facts) {
    LOCAL.store(memory::map_device(facts.local_apic), Ordering::Relaxed);
    PHYSICAL[0].store(facts.local_apic, Ordering::Relaxed);
    let mut controllers = [None; 2];
    for (index, (place, found)) in controllers.iter_mut().zip(facts.io_apics).enumerate() {
        let Some((physical, first)) = found else { continue };
        PHYSICAL[index + 1].store(physical, Ordering::Relaxed);
        let address = memory::map_device(physical);
        let mut controller = IoApic { address, first, lines: 0 };
        controller.lines = (io_read(controller, 1) >> 16 & 0xff) + 1;
        for line in 0..controller.lines {
            io_write(controller, 0x10 + 2 * line, MASKED);
        }
        *place = Some(controller);
    }
    IO.set(controllers);
    mask_legacy_controllers();
    set_up_local(0);
}

/// The two 8259 controllers stay silent.
fn mask_legacy_controllers() {
    // SAFETY: masking interrupts touches no memory.
    unsafe {
        instruction::out_byte(0x21, 0xff);
        instruction::out_byte(0xa1, 0xff);
    }
}

/// Turns this CPU's controller on.
pub(super) fn set_up_local(cpu: CpuId) {
    // SAFETY: the register exists on every CPU with a local controller.
    unsafe {
        instruction::write_msr(
            instruction::APIC_BASE,
            instruction::read_msr(instruction::APIC_BASE) | 1 << 11,
        );
    };
    APICS[cpu].store(read(ID) >> 24, Ordering::Relaxed);
    write(SPURIOUS_VECTOR, 1 << 8 | u32::from(SPURIOUS));
    write(TIMER_DIVIDER, DIVIDE_BY_16);
    write(TIMER_ENTRY, u32::from(TIMER));
    write(TIMER_COUNT, 0);
}

/// This CPU's controller's number.
pub(super) fn own_number() -> u32 {
    read(ID) >> 24
}

/// Notes how many CPUs run.
pub(super) fn set_cpu_count(count: usize) {
    COUNT.store(count, Ordering::Release);
}

/// Number of CPUs.
#[inline]
#[must_use]
pub fn cpu_count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// Starts the timer with a count of its own ticks; 0 stops it.
pub(super) fn start_timer(count: u32) {
    write(TIMER_COUNT, count);
}

/// What is left of the count.
pub(super) fn timer_left() -> u32 {
    read(TIMER_LEFT)
}

/// Ends the handling of an interrupt.
#[inline]
pub(super) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Sends a command to a controller.
pub(super) fn command(apic: u32, low: u32) {
    while read(COMMAND_LOW) & 1 << 12 != 0 {
        instruction::relax();
    }
    write(COMMAND_HIGH, apic << 24);
    write(COMMAND_LOW, low);
}

/// Sends an inter-processor interrupt.
pub fn interrupt(target: CpuId, ipi: Ipi) {
    let vector = match ipi {
        Ipi::Reschedule => RESCHEDULE,
        Ipi::Shootdown => SHOOTDOWN,
    };
    if let Some(apic) = APICS.get(target) {
        command(apic.load(Ordering::Relaxed), 1 << 14 | u32::from(vector));
        counter::add(Counter::CrossInterrupts, 1);
    }
}

/// Whether a physical range holds a controller.
pub(super) fn overlaps(start: u64, end: u64) -> bool {
    PHYSICAL
        .iter()
        .map(|page| page.load(Ordering::Relaxed) & !(PAGE_SIZE - 1))
        .any(|page| page != 0 && page < end && start < page + PAGE_SIZE)
}

fn io_read(controller: IoApic, index: u32) -> u32 {
    let select = ptr::with_exposed_provenance_mut::<u32>(controller.address as usize);
    // SAFETY: the controller's page is mapped, and the lock (or boot) keeps the two accesses together.
    unsafe {
        select.write_volatile(index);
        select.add(4).read_volatile()
    }
}

fn io_write(controller: IoApic, index: u32, value: u32) {
    let select = ptr::with_exposed_provenance_mut::<u32>(controller.address as usize);
    // SAFETY: as for `io_read`.
    unsafe {
        select.write_volatile(index);
        select.add(4).write_volatile(value);
    }
}

/// The controller of a line, and the line's index in it.
fn controller_of(line: u32) -> Option<(IoApic, u32)> {
    let controllers = IO.get()?;
    controllers.into_iter().flatten().find_map(|controller| {
        let index = line.checked_sub(controller.first)?;
        (index < controller.lines).then_some((controller, index))
    })
}

fn take_vector(state: u32) -> Option<Vector> {
    DEVICES.into_iter().find(|vector| {
        VECTORS[usize::from(*vector)]
            .compare_exchange(FREE, state, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    })
}

/// Routes an interrupt line, masked, to a new vector of the boot CPU.
///
/// # Errors
/// `NotPresent` if there is no such line or no vector left, `InUse` if the line is routed.
pub fn irq_route(line: u32, trigger: Trigger) -> Result<Vector, MachineError> {
    let (controller, index) = controller_of(line).ok_or(MachineError::NotPresent)?;
    let _guard = IO_LOCK.lock();
    let state = LINE | line << 8;
    if VECTORS.iter().any(|vector| vector.load(Ordering::Relaxed) == state) {
        return Err(MachineError::InUse);
    }
    let vector = take_vector(state).ok_or(MachineError::NotPresent)?;
    let bits = match trigger {
        Trigger::Edge => 0,
        Trigger::LevelHigh => 1 << 15,
        Trigger::LevelLow => 1 << 15 | 1 << 13,
    };
    io_write(controller, 0x11 + 2 * index, APICS[0].load(Ordering::Relaxed) << 24);
    io_write(controller, 0x10 + 2 * index, MASKED | bits | u32::from(vector));
    Ok(vector)
}

/// Takes a vector for message-signalled interrupts, delivered to the boot CPU.
#[must_use]
pub fn irq_vector() -> Option<Message> {
    let vector = take_vector(MESSAGE)?;
    let address = 0xfee0_0000 | u64::from(APICS[0].load(Ordering::Relaxed)) << 12;
    Some(Message { vector, address, data: u32::from(vector) })
}

/// The line of a vector, if it has one.
fn line_of(vector: Vector) -> Option<u32> {
    let state = VECTORS[usize::from(vector)].load(Ordering::Relaxed);
    (state & 0xff == LINE).then_some(state >> 8)
}

fn set_mask(vector: Vector, masked: bool) {
    let Some((controller, index)) = line_of(vector).and_then(controller_of) else { return };
    let _guard = IO_LOCK.lock();
    let word = io_read(controller, 0x10 + 2 * index);
    io_write(controller, 0x10 + 2 * index, if masked { word | MASKED } else { word & !MASKED });
}

/// Lets a line fire again.
pub fn irq_unmask(vector: Vector) {
    set_mask(vector, false);
}

/// A level-triggered line stays masked until its program has looked at the device.
pub(super) fn mask_if_level(vector: Vector) {
    let is_level = line_of(vector).and_then(controller_of).is_some_and(|(controller, index)| {
        let _guard = IO_LOCK.lock();
        io_read(controller, 0x10 + 2 * index) & 1 << 15 != 0
    });
    if is_level {
        set_mask(vector, true);
    }
}

/// Gives a vector (and its line) back.
pub fn irq_free(vector: Vector) {
    set_mask(vector, true);
    VECTORS[usize::from(vector)].store(FREE, Ordering::Release);
}
