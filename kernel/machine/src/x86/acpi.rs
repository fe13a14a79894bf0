//! The few facts the kernel needs from ACPI's static tables: interrupt controllers, CPUs, a clock, the PCI window, how to turn off.
//!
//! Source: ACPI specification 6.5, chapter 5.2. Every table must lie in memory and have the right checksum; what does not is ignored.

use super::memory::{direct, is_readable};
use crate::types::MAX_CPUS;
use core::ptr;

/// Longest table that is looked at.
const MAX_TABLE: u64 = 1 << 20;
/// Most tables of the root that are looked at.
const MAX_TABLES: u64 = 64;

/// What was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Local interrupt controllers of the enabled CPUs.
    pub apics: [u32; MAX_CPUS],
    pub apic_count: usize,
    /// Physical address of the local interrupt controllers.
    pub local_apic: u64,
    /// I/O interrupt controllers: physical address and first line.
    pub io_apics: [Option<(u64, u32)>; 2],
    /// Port of the power-management timer.
    pub timer_port: Option<u16>,
    /// Port that turns the machine off, and whether it is a byte-wide sleep register with its sleep type.
    pub sleep_port: Option<u16>,
    /// Physical address of the hardware-reduced sleep control register.
    pub sleep_register: Option<u64>,
    /// PCI configuration window.
    pub pci_window: Option<u64>,
}

/// A table whose length and checksum are right.
#[derive(Clone, Copy)]
struct TableAt {
    address: u64,
    length: u64,
}

fn read<T: Copy>(address: u64) -> T {
    let pointer = ptr::with_exposed_provenance::<T>(direct(address) as usize);
    // SAFETY: callers have checked that the address lies in a table, which lies in mapped memory; `T` is an integer.
    unsafe { pointer.read_unaligned() }
}

impl TableAt {
    fn open(address: u64) -> Option<Self> {
        if address == 0 || !is_readable(address, 36) {
            return None;
        }
        let length = u64::from(read::<u32>(address + 4));
        if !(36..=MAX_TABLE).contains(&length) || !is_readable(address, length) {
            return None;
        }
        let sum = (0..length).fold(0_u8, |sum, offset| sum.wrapping_add(read(address + offset)));
        (sum == 0).then_some(Self { address, length })
    }
    fn signature(self) -> [u8; 4] {
        read::<u32>(self.address).to_le_bytes()
    }
    /// A field, if the table is long enough to have it.
    fn get<T: Copy>(self, offset: u64) -> Option<T> {
        (offset + size_of::<T>() as u64 <= self.length).then(|| read(self.address + offset))
    }
}

/// Reads the tables that hang off the root pointer.
pub(super) fn read_tables(root_pointer: u64) -> Facts {
    let mut facts = Facts {
        apics: [0; MAX_CPUS],
        apic_count: 0,
        local_apic: 0xfee0_0000,
        io_apics: [None; 2],
        timer_port: None,
        sleep_port: None,
        sleep_register: None,
        pci_window: None,
    };
    let Some((root, width)) = root_table(root_pointer) else { return facts };
    for index in 0..((root.length - 36) / width).min(MAX_TABLES) {
        let offset = 36 + index * width;
        let address =
            if width == 8 { root.get::<u64>(offset) } else { root.get::<u32>(offset).map(u64::from) };
        let Some(table) = address.and_then(TableAt::open) else { continue };
        match &table.signature() {
            b"APIC" => read_controllers(table, &mut facts),
            b"FACP" => read_fixed(table, &mut facts),
            b"MCFG" => facts.pci_window = table.get::<u64>(44),
            _ => {}
        }
    }
    facts
}

fn root_table(pointer: u64) -> Option<(TableAt, u64)> {
    if pointer == 0 || !is_readable(pointer, 36) || &read::<u64>(pointer).to_le_bytes() != b"RSD PTR " {
        return None;
    }
    let extended = read::<u64>(pointer + 24);
    if read::<u8>(pointer + 15) >= 2
        && let Some(table) = TableAt::open(extended)
    {
        return Some((table, 8));
    }
    TableAt::open(u64::from(read::<u32>(pointer + 16))).map(|table| (table, 4))
}

fn read_controllers(table: TableAt, facts: &mut Facts) {
    facts.local_apic = table.get::<u32>(36).map_or(facts.local_apic, u64::from);
    let mut offset = 44;
    while let (Some(kind), Some(length)) = (table.get::<u8>(offset), table.get::<u8>(offset + 1)) {
        match kind {
            0 if table.get::<u32>(offset + 4).is_some_and(|flags| flags & 1 != 0) => {
                add_cpu(facts, table.get::<u8>(offset + 3).map(u32::from));
            }
            1 => {
                let found = table.get::<u32>(offset + 4).zip(table.get::<u32>(offset + 8));
                if let Some(place) = facts.io_apics.iter_mut().find(|place| place.is_none()) {
                    *place = found.map(|(address, base)| (u64::from(address), base));
                }
            }
            _ => {}
        }
        if length == 0 {
            break;
        }
        offset += u64::from(length);
    }
}

fn add_cpu(facts: &mut Facts, apic: Option<u32>) {
    if let (Some(apic), Some(place)) = (apic, facts.apics.get_mut(facts.apic_count)) {
        *place = apic;
        facts.apic_count += 1;
    }
}

fn read_fixed(table: TableAt, facts: &mut Facts) {
    let port =
        |offset| table.get::<u32>(offset).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    facts.sleep_port = port(64);
    facts.timer_port = port(76);
    let is_reduced = table.get::<u32>(112).is_some_and(|flags| flags & 1 << 20 != 0);
    if is_reduced {
        facts.sleep_port = None;
        facts.timer_port = None;
        facts.sleep_register = table.get::<u64>(248).filter(|address| *address != 0);
    }
}
