//! Ending the machine, I/O ports of user programs, randomness.

use super::{acpi::Facts, instruction, memory};
use crate::{
    object::SpinLock,
    types::{MachineError, PowerAction},
};
use core::{
    ptr,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
};

/// Port of the emulator's debug exit device; writing to it without the device does nothing.
const DEBUG_EXIT: u16 = 0xf4;
/// Sleep enable in the PM1a control register; the sleep type of "off" is 0 on every machine this kernel drives.
const SLEEP_ENABLE: u16 = 1 << 13;
/// Sleep type 5 and enable in the sleep control register of hardware-reduced machines.
const REDUCED_SLEEP: u8 = 5 << 2 | 1 << 5;

/// Ports of the kernel's own devices.
const OWN_PORTS: [core::ops::RangeInclusive<u16>; 6] =
    [0x20..=0x21, 0x40..=0x43, 0x60..=0x64, 0xa0..=0xa1, 0x3f8..=0x3ff, 0xcf9..=0xcf9];

static SLEEP_PORT: AtomicU16 = AtomicU16::new(0);
static SLEEP_REGISTER: AtomicU64 = AtomicU64::new(0);
/// State of the mixing generator, which a hardware source feeds if there is one.
static RANDOM: SpinLock<[u64; 2]> = SpinLock::new(29, [0x6a09_e667_f3bc_c908, 0xbb67_ae85_84ca_a73b]);

/// Notes how to turn off.
pub(super) fn set_up(facts: &Facts) {
    SLEEP_PORT.store(facts.sleep_port.unwrap_or(0), Ordering::Relaxed);
    if let Some(register) = facts.sleep_register {
        SLEEP_REGISTER.store(memory::map_device(register), Ordering::Relaxed);
    }
}

/// Ends the machine.
pub fn power(action: PowerAction) -> ! {
    if let PowerAction::Off(status) = action {
        // SAFETY: the machine ends; nothing relies on memory any more.
        unsafe { instruction::out_byte(DEBUG_EXIT, status) };
        let port = SLEEP_PORT.load(Ordering::Relaxed);
        if port != 0 {
            // SAFETY: as above.
            unsafe { instruction::out_word(port, SLEEP_ENABLE) };
        }
        let register = SLEEP_REGISTER.load(Ordering::Relaxed);
        if register != 0 {
            // SAFETY: the register was mapped at boot.
            unsafe {
                ptr::with_exposed_provenance_mut::<u8>(register as usize).write_volatile(REDUCED_SLEEP);
            };
        }
    }
    // SAFETY: as above: the reset control register, then the keyboard controller's reset line.
    unsafe {
        instruction::out_byte(0xcf9, 0x06);
        instruction::out_byte(0x64, 0xfe);
    }
    loop {
        // SAFETY: with interrupts off the CPU stops here.
        unsafe { core::arch::asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Reads or writes an I/O port.
///
/// # Errors
/// `NotPresent` for ports of the kernel's own devices.
pub fn port_access(port: u16, width: u8, write: Option<u32>) -> Result<u32, MachineError> {
    let last = port.checked_add(u16::from(width) - 1).ok_or(MachineError::NotPresent)?;
    let is_own = OWN_PORTS.iter().any(|own| *own.start() <= last && port <= *own.end());
    if is_own || port == SLEEP_PORT.load(Ordering::Relaxed) {
        return Err(MachineError::NotPresent);
    }
    // SAFETY: the caller holds the Hardware capability and with it the responsibility for devices.
    let value = unsafe {
        match (write, width) {
            (Some(value), 1) => instruction::out_byte(port, value as u8),
            (Some(value), 2) => instruction::out_word(port, value as u16),
            (Some(value), _) => instruction::out_long(port, value),
            (None, _) => {}
        }
        match (write, width) {
            (Some(value), _) => value,
            (None, 1) => u32::from(instruction::in_byte(port)),
            (None, 2) => u32::from(instruction::in_word(port)),
            (None, _) => instruction::in_long(port),
        }
    };
    Ok(value)
}

/// A random word: the hardware's source, mixed with the time of every request.
#[must_use]
pub fn random() -> u64 {
    let fresh = instruction::hardware_random().unwrap_or(0);
    let mut state = RANDOM.lock();
    state[0] = mix(state[0] ^ fresh ^ instruction::now());
    state[1] = mix(state[1].wrapping_add(state[0]).wrapping_add(fresh.rotate_left(32)));
    state[0] ^ state[1] ^ fresh
}

/// A bijective mixing of 64 bits (the finalizer of SplitMix64).
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
