//! Finding the console on PCI, its configuration structures and its message-signalled interrupt.

use rt::{
    Hardware, Notification, Space,
    abi::{PAGE_SIZE, operation::HardwareFact, space::Access},
    view::View,
};

/// Vendor of virtio devices.
const VENDOR: u16 = 0x1af4;
/// The console without its legacy interface.
const CONSOLE: u16 = 0x1043;
/// Buses that are searched.
const BUSES: u64 = 1;
/// Devices of a bus, and functions of a device.
const FUNCTIONS: u64 = 256;
/// Most capabilities of a function.
const MAX_CAPABILITIES: usize = 48;

/// Registers of a function or a structure in device memory.
pub(crate) struct Registers {
    view: View,
    offset: usize,
    length: usize,
}

macro_rules! access {
    ($read:ident, $write:ident, $type:ty) => {
        /// Reads a register; all ones beyond the end.
        pub(crate) fn $read(&self, at: usize) -> $type {
            if !self.holds(at, size_of::<$type>()) {
                return <$type>::MAX;
            }
            // SAFETY: the register lies in the mapped structure and is aligned; device memory has no other rules.
            unsafe { self.view.pointer().add(self.offset + at).cast::<$type>().read_volatile() }
        }
        /// Writes a register; nothing beyond the end.
        pub(crate) fn $write(&self, at: usize, value: $type) {
            if self.holds(at, size_of::<$type>()) {
                // SAFETY: as for reading; what the device does with the value concerns only memory it was given.
                unsafe {
                    self.view.pointer().add(self.offset + at).cast::<$type>().write_volatile(value)
                };
            }
        }
    };
}

impl Registers {
    fn map(hardware: Hardware, physical: u64, length: u64) -> rt::Result<Self> {
        let page = physical & !(PAGE_SIZE - 1);
        let pages = (physical - page + length).div_ceil(PAGE_SIZE);
        let space: Space = hardware.memory(page, pages)?;
        let view = View::map(space, 0, pages, Access::READ | Access::WRITE)?;
        Ok(Self { view, offset: (physical - page) as usize, length: length as usize })
    }
    fn holds(&self, at: usize, size: usize) -> bool {
        at.is_multiple_of(size) && at.checked_add(size).is_some_and(|end| end <= self.length)
    }
    access!(read8, write8, u8);
    access!(read16, write16, u16);
    access!(read32, write32, u32);
    /// Writes a 64-bit register as two halves.
    pub(crate) fn write64(&self, at: usize, value: u64) {
        self.write32(at, value as u32);
        self.write32(at + 4, (value >> 32) as u32);
    }
}

/// The console's structures.
pub(crate) struct Device {
    /// The common configuration.
    pub(crate) common: Registers,
    /// Where queues are notified.
    pub(crate) notify: Registers,
    /// Bytes between two queues' notification registers.
    pub(crate) notify_multiplier: u32,
}

/// Why there is no console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The machine has no PCI configuration window.
    Window,
    /// No function is a console.
    Function,
    /// The function lacks a structure.
    Structure,
    /// The kernel refused something.
    Kernel(rt::Error),
}

impl core::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Window => formatter.write_str("the machine has no PCI configuration window"),
            Self::Function => formatter.write_str("no PCI function is a virtio console"),
            Self::Structure => {
                formatter.write_str("the virtio console lacks a configuration structure")
            }
            Self::Kernel(error) => write!(formatter, "the kernel refused: {error:?}"),
        }
    }
}

impl From<rt::Error> for Missing {
    fn from(error: rt::Error) -> Self {
        Self::Kernel(error)
    }
}

/// Finds the console, turns on its memory and routes its interrupt vector 0 to a bit.
pub(crate) fn find(
    hardware: Hardware,
    notification: Notification,
    bit: u64,
) -> Result<Device, Missing> {
    let window = hardware.fact(HardwareFact::PciWindow).map_err(|_| Missing::Window)?;
    let configuration = Registers::map(hardware, window, BUSES * FUNCTIONS * PAGE_SIZE)?;
    let function = (0..(BUSES * FUNCTIONS) as usize)
        .map(|function| function * PAGE_SIZE as usize)
        .find(|at| configuration.read16(*at) == VENDOR && configuration.read16(at + 2) == CONSOLE);
    let function = function.ok_or(Missing::Function)?;
    // Memory decoding and bus mastering on, legacy interrupts off.
    let command = configuration.read16(function + 4);
    configuration.write16(function + 4, command | 0x406);
    open(hardware, &configuration, function, notification, bit)
}

/// The physical address of a base address register.
fn bar(configuration: &Registers, function: usize, index: u8) -> Option<u64> {
    if index > 5 {
        return None;
    }
    let at = function + 0x10 + 4 * usize::from(index);
    let low = configuration.read32(at);
    if low & 1 != 0 {
        return None;
    }
    let high = if low & 6 == 4 { configuration.read32(at + 4) } else { 0 };
    let address = u64::from(low & !0xf) | u64::from(high) << 32;
    (address != 0).then_some(address)
}

fn open(
    hardware: Hardware,
    configuration: &Registers,
    function: usize,
    notification: Notification,
    bit: u64,
) -> Result<Device, Missing> {
    let (mut common, mut notify, mut multiplier) = (None, None, 0);
    let mut at = usize::from(configuration.read8(function + 0x34)) & !3;
    for _ in 0..MAX_CAPABILITIES {
        if at == 0 {
            break;
        }
        let here = function + at;
        match configuration.read8(here) {
            0x09 => {
                let base = bar(configuration, function, configuration.read8(here + 4));
                let physical =
                    base.and_then(|base| base.checked_add(configuration.read32(here + 8).into()));
                let length = u64::from(configuration.read32(here + 12)).min(1 << 20);
                match (configuration.read8(here + 3), physical) {
                    (1, Some(physical)) if common.is_none() => {
                        common = Some(Registers::map(hardware, physical, length)?);
                    }
                    (2, Some(physical)) if notify.is_none() => {
                        notify = Some(Registers::map(hardware, physical, length)?);
                        multiplier = configuration.read32(here + 16);
                    }
                    _ => {}
                }
            }
            0x11 => route(hardware, configuration, function, here, notification, bit)?,
            _ => {}
        }
        at = usize::from(configuration.read8(here + 1)) & !3;
    }
    match (common, notify) {
        (Some(common), Some(notify)) => {
            Ok(Device { common, notify, notify_multiplier: multiplier })
        }
        _ => Err(Missing::Structure),
    }
}

/// Fills entry 0 of the MSI-X table and turns it on.
fn route(
    hardware: Hardware,
    configuration: &Registers,
    function: usize,
    capability: usize,
    notification: Notification,
    bit: u64,
) -> Result<(), Missing> {
    let (_irq, address, data) = hardware.message_interrupt(notification, bit)?;
    let word = configuration.read32(capability + 4);
    let base = bar(configuration, function, (word & 7) as u8).ok_or(Missing::Structure)?;
    let table = Registers::map(hardware, base + u64::from(word & !7), 16)?;
    table.write64(0, address);
    table.write32(8, data as u32);
    table.write32(12, 0);
    let control = configuration.read16(capability + 2);
    configuration.write16(capability + 2, control & !(1 << 14) | 1 << 15);
    // The table stays mapped: unmapping it would gain nothing.
    core::mem::forget(table);
    Ok(())
}
