//! Interrupts of devices: each vector signals a bit of a Notification.

use crate::{
    counter::{self, Counter},
    domain::{self, Domain, Owner},
    ipc::Notification,
    lock,
};
use kernel_abi::{Error, Kind};
use kernel_machine::{
    self as machine, DEVICE_VECTORS, MachineError, Trigger, Vector,
    object::{Borrow, Object, Ref, SpinLock, Work},
};

/// An interrupt line or message-signalled vector.
pub struct Irq {
    owner: Owner,
    vector: Vector,
    notification: Ref<Notification>,
    bit: u8,
}

/// The object of each vector.
static VECTORS: [SpinLock<Option<Ref<Irq>>>; DEVICE_VECTORS] =
    [const { SpinLock::new(lock::IRQ, None) }; DEVICE_VECTORS];

/// The source of an interrupt.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A line of the interrupt controller.
    Line(u32, Trigger),
    /// A message of a device.
    Message,
}

impl Irq {
    /// Creates an Irq; with what a device must write where, for messages.
    ///
    /// # Errors
    /// `NotPresent`, `FrameInUse` (the line is taken), and as [`domain::create`].
    pub fn create(
        domain: &Ref<Domain>,
        source: Source,
        notification: Ref<Notification>,
        bit: u8,
    ) -> Result<(Ref<Self>, u64, u64), Error> {
        let (vector, address, data) = match source {
            Source::Line(line, trigger) => (machine::irq_route(line, trigger).map_err(refused)?, 0, 0),
            Source::Message => {
                let message = machine::irq_vector().ok_or(Error::NotPresent)?;
                (message.vector, message.address, u64::from(message.data))
            }
        };
        let irq = domain::create(domain, |owner| Self { owner, vector, notification, bit });
        let irq = irq.inspect_err(|_| machine::irq_free(vector))?;
        let before = VECTORS[usize::from(vector)].lock().replace(irq.clone());
        drop(before);
        machine::irq_unmask(vector);
        Ok((irq, address, data))
    }

    /// Lets a level-triggered line fire again.
    pub fn acknowledge(&self) {
        machine::irq_unmask(self.vector);
    }

    /// Destroys it: the vector is free.
    pub fn destroy(this: Borrow<'_, Self>) {
        if !this.mark_dead() {
            return;
        }
        // Once the vector is free somebody else's Irq may be in its place.
        let held = VECTORS[usize::from(this.vector)].lock().take();
        machine::irq_free(this.vector);
        drop(held);
    }
}

/// Tells whoever waits for a vector.
pub fn fire(vector: Vector) {
    counter::add(Counter::Interrupts, 1);
    let irq = VECTORS[usize::from(vector)].lock().clone();
    if let Some(irq) = irq {
        irq.notification.signal(1 << irq.bit);
    }
}

/// Forgets everything, for a kernel that boots again in a host test.
#[cfg(not(target_os = "none"))]
pub(crate) fn reset() {
    for vector in &VECTORS {
        core::mem::forget(vector.lock().take());
    }
}

const fn refused(error: MachineError) -> Error {
    match error {
        MachineError::NotPresent => Error::NotPresent,
        MachineError::InUse => Error::FrameInUse,
    }
}

impl Object for Irq {
    const KIND: Kind = Kind::Irq;
    fn reclaim(this: &Borrow<'_, Self>, _work: &mut Work) -> bool {
        this.owner.leave(*this);
        true
    }
}
