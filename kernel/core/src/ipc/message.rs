//! A message in flight: read from one thread's registers, written to another's.

use crate::{
    domain::{Capability, Domain},
    thread::Thread,
};
use kernel_abi::{
    Error, Rights,
    message::{CAPS, Tag, WORDS},
};
use kernel_machine::{
    Reg,
    object::{AnyRef, Borrow, Entry},
};

/// Registers of the words.
const WORD_REGISTERS: [Reg; WORDS] = [Reg::Rdx, Reg::R10, Reg::R8, Reg::R9];
/// Registers that name capabilities to send.
const CAP_REGISTERS: [Reg; CAPS] = [Reg::R12, Reg::R13, Reg::R14];

/// A message without its capabilities.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    tag: Tag,
    words: [u64; WORDS],
}

impl Message {
    /// Reads the message a thread sends.
    ///
    /// # Errors
    /// `BadArgument` if it names more capabilities than a message can carry.
    pub(super) fn read(thread: &Thread) -> Result<Self, Error> {
        let tag = Tag(thread.context.get(Reg::Rsi));
        if usize::from(tag.caps()) > CAPS {
            return Err(Error::BadArgument);
        }
        Ok(Self { tag, words: WORD_REGISTERS.map(|register| thread.context.get(register)) })
    }

    /// Writes the message and moves its capabilities: the result of the receiver's operation.
    pub(super) fn deliver(self, from: Borrow<'_, Thread>, to: &Thread, badge: u64, entry: &Entry) {
        let caps = if self.tag.caps() == 0 { 0 } else { self.transfer(from, to, entry) };
        to.context.set(Reg::Rsi, Tag::new(self.tag.label(), caps).0);
        to.context.set(Reg::Rdi, badge);
        for (register, word) in WORD_REGISTERS.into_iter().zip(self.words) {
            to.context.set(register, word);
        }
        to.context.set(Reg::Rax, 0);
    }

    /// Moves the capabilities; how many have arrived.
    fn transfer(self, from: Borrow<'_, Thread>, to: &Thread, entry: &Entry) -> u8 {
        let window = to.context.get(Reg::R15) & u64::from(u32::MAX);
        let receiver = to.domain().borrow();
        let mut delivered = 0;
        for register in CAP_REGISTERS.into_iter().take(usize::from(self.tag.caps())) {
            let word = from.context.get(register);
            let sent = from
                .domain()
                .lookup(word & u64::from(u32::MAX), entry)
                .ok()
                .and_then(|held| copy_of(held, word));
            let Some((object, rights)) = sent else { continue };
            if Domain::install(receiver, window + u64::from(delivered), object, rights, entry).is_ok() {
                delivered += 1;
            }
        }
        delivered
    }
}

/// A capability with the rights named in the upper half of a word, if it may be handed on.
fn copy_of(held: Capability<'_>, word: u64) -> Option<(AnyRef, Rights)> {
    if !held.rights.contains(Rights::COPY) {
        return None;
    }
    let rights = held.rights & Rights::from_bits_truncate((word >> 32) as u16);
    Some((held.object.to_ref()?, rights))
}
