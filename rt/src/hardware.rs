//! The operations of the machine's own capability and of interrupts.

use crate::{
    Result,
    arch::call,
    object::{Domain, Hardware, Irq, Notification, Space, create},
};
use kernel_abi::{Operation, operation::HardwareFact};

impl Hardware {
    /// Reads a fact.
    ///
    /// # Errors
    /// `NotPresent`.
    pub fn fact(self, fact: HardwareFact) -> Result<u64> {
        self.fact_at(fact as u64)
    }
    /// Reads a fact by number.
    ///
    /// # Errors
    /// `NotPresent`.
    pub fn fact_at(self, fact: u64) -> Result<u64> {
        call(Operation::HardwareInfo, [self.0.into(), fact, 0, 0, 0, 0]).map(|(value, ..)| value)
    }
    /// A Space of device memory.
    ///
    /// # Errors
    /// As `HardwareMemory`.
    pub fn memory(self, physical: u64, pages: u64) -> Result<Space> {
        create(Operation::HardwareMemory, Domain(self.0), [physical, pages, 0, 0])
            .map(|(slot, _)| Space(slot))
    }
    /// A message-signalled interrupt that sets a bit: the Irq, and what the device writes where.
    ///
    /// # Errors
    /// As `IrqCreate`.
    pub fn message_interrupt(
        self,
        notification: Notification,
        bit: u64,
    ) -> Result<(Irq, u64, u64)> {
        let more = [u64::MAX, 0, notification.0.into(), bit];
        create(Operation::IrqCreate, Domain(self.0), more)
            .map(|(slot, (address, data, _))| (Irq(slot), address, data))
    }
    /// An interrupt line that sets a bit (trigger: 0 edge, 1 level low, 2 level high).
    ///
    /// # Errors
    /// As `IrqCreate`.
    pub fn line_interrupt(
        self,
        line: u64,
        trigger: u64,
        notification: Notification,
        bit: u64,
    ) -> Result<Irq> {
        create(Operation::IrqCreate, Domain(self.0), [line, trigger, notification.0.into(), bit])
            .map(|(slot, _)| Irq(slot))
    }
    /// Ends the machine.
    ///
    /// # Errors
    /// `MissingRight`.
    pub fn power(self, action: u64, status: u8) -> Result<()> {
        call(Operation::HardwarePower, [self.0.into(), action, status.into(), 0, 0, 0]).map(|_| ())
    }
    /// Reads an I/O port.
    ///
    /// # Errors
    /// As `PortAccess`.
    pub fn read_port(self, port: u16, width: u64) -> Result<u32> {
        call(Operation::PortAccess, [self.0.into(), port.into(), width, 0, 0, 0])
            .map(|(value, ..)| value as u32)
    }
    /// Writes an I/O port.
    ///
    /// # Errors
    /// As `PortAccess`.
    pub fn write_port(self, port: u16, width: u64, value: u32) -> Result<()> {
        call(
            Operation::PortAccess,
            [self.0.into(), port.into(), width | 1 << 8, value.into(), 0, 0],
        )
        .map(|_| ())
    }
    /// Reads a kernel counter: value and name.
    ///
    /// # Errors
    /// `NotPresent`.
    pub fn counter(self, index: u64) -> Result<(u64, [u8; 16])> {
        let (value, low, high) =
            call(Operation::KernelCounter, [self.0.into(), index, 0, 0, 0, 0])?;
        Ok((value, (u128::from(low) | u128::from(high) << 64).to_le_bytes()))
    }
}

impl Irq {
    /// Lets a level-triggered line fire again.
    ///
    /// # Errors
    /// `NoCapability`.
    pub fn acknowledge(self) -> Result<()> {
        call(Operation::IrqAck, [self.0.into(), 0, 0, 0, 0, 0]).map(|_| ())
    }
}
