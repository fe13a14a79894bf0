//! Calls and their answers.

use crate::{
    Endpoint, Gate, Notification, Reply, Result,
    arch::{self, MessageRegisters},
    slots,
};
use kernel_abi::{Operation, Rights, Slot, message::Tag};

/// A message to send.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message {
    /// What it is.
    pub label: u32,
    /// Its words.
    pub words: [u64; 4],
    caps: [u64; 3],
    cap_count: u8,
}

impl Message {
    /// A message without capabilities.
    #[must_use]
    pub const fn new(label: u32, words: [u64; 4]) -> Self {
        Self { label, words, caps: [0; 3], cap_count: 0 }
    }
    /// Adds a capability with some of its rights. A message carries three; more are ignored.
    #[must_use]
    pub fn with(mut self, slot: Slot, rights: Rights) -> Self {
        if let Some(place) = self.caps.get_mut(usize::from(self.cap_count)) {
            *place = u64::from(slot) | u64::from(rights.bits()) << 32;
            self.cap_count += 1;
        }
        self
    }
    fn registers(self, target: Slot, r15: u64) -> MessageRegisters {
        MessageRegisters {
            rdi: target.into(),
            rsi: Tag::new(self.label, self.cap_count).0,
            words: self.words,
            caps: self.caps,
            r15,
        }
    }
}

/// A message that has come.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Badge of the Gate it came through (0 in an answer, `u64::MAX` for bits of the Notification, which are word 0).
    pub badge: u64,
    /// What it is.
    pub label: u32,
    /// Its words.
    pub words: [u64; 4],
    /// First slot of the capabilities that came.
    pub window: Slot,
    /// Their number.
    pub caps: u8,
}

impl Received {
    fn from_registers(registers: MessageRegisters, window: Slot) -> Self {
        let tag = Tag(registers.rsi);
        Self {
            badge: registers.rdi,
            label: tag.label(),
            words: registers.words,
            window,
            caps: tag.caps(),
        }
    }
    /// The slot of a capability that came.
    #[must_use]
    pub fn cap(&self, index: u8) -> Option<Slot> {
        (index < self.caps).then(|| self.window + u32::from(index))
    }
    /// Deletes the capabilities that came.
    pub fn drop_caps(&self) {
        for index in 0..self.caps {
            let _ = arch::call(
                Operation::CapDelete,
                [0, u64::from(self.window) + u64::from(index), 0, 0, 0, 0],
            );
        }
    }
}

impl Gate {
    /// Sends a message and waits for the answer; capabilities in it land in `window` (0: none are wanted).
    ///
    /// # Errors
    /// As `Call`.
    pub fn call(self, message: Message, window: Slot) -> Result<Received> {
        let registers = arch::message(Operation::Call, message.registers(self.0, window.into()))?;
        Ok(Received::from_registers(registers, window))
    }
}

/// A server's side of an Endpoint: where calls come from, and the Reply and window it uses.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    endpoint: Endpoint,
    notification: Option<Notification>,
    reply: Reply,
    window: Slot,
}

impl Server {
    /// Sets up a server's side.
    ///
    /// # Errors
    /// When the Reply cannot be created.
    pub fn new(endpoint: Endpoint, notification: Option<Notification>) -> Result<Self> {
        Ok(Self {
            endpoint,
            notification,
            reply: Reply::create(crate::Domain::OWN)?,
            window: slots::take_window()?,
        })
    }
    /// Waits for a call, or bits of the Notification.
    ///
    /// # Errors
    /// As `Receive`.
    pub fn receive(&self, deadline: u64) -> Result<Received> {
        let registers = MessageRegisters {
            rdi: self.endpoint.0.into(),
            rsi: deadline,
            words: [self.notification.map_or(0, |notification| notification.0.into()), 0, 0, 0],
            caps: [0; 3],
            r15: u64::from(self.reply.0) << 32 | u64::from(self.window),
        };
        arch::message(Operation::Receive, registers)
            .map(|registers| Received::from_registers(registers, self.window))
    }
    /// Answers the call received last and waits for the next one, in one operation; for servers without a Notification, whose bits it does not tell of.
    ///
    /// # Errors
    /// As `ReplyReceive`; the call has been answered.
    pub fn reply_and_receive(&self, message: Message) -> Result<Received> {
        let place = u64::from(self.reply.0) << 32 | u64::from(self.window);
        arch::message(Operation::ReplyReceive, message.registers(self.endpoint.0, place))
            .map(|registers| Received::from_registers(registers, self.window))
    }
    /// Answers the call received last.
    ///
    /// # Errors
    /// As `Reply`.
    pub fn reply(&self, message: Message) -> Result<()> {
        arch::message(Operation::Reply, message.registers(self.reply.0, 0)).map(|_| ())
    }
}
