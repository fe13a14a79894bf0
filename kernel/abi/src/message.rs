//! Messages of synchronous calls: a label, four words, up to three capabilities, all in registers.
//!
//! ```text
//! register  call, reply, reply_receive (in)            result of call and receive (out)
//! rax       operation                                  zero, or a negated Error
//! rdi       Gate (call) or Endpoint (reply_receive)    badge of the Gate (receive), zero (call)
//! rsi       tag: label, number of capabilities         tag: label, number of capabilities delivered
//! rdx r10 r8 r9   words 0..4                           words 0..4
//! r12 r13 r14     capabilities to send: slot | rights << 32   preserved
//! r15       Reply slot << 32 | first slot of the receive window        preserved
//! ```
//!
//! Delivered capabilities land in the window's consecutive slots, which must be empty; one whose slot is occupied, or whose
//! sender lacks `COPY`, is dropped and not counted, in order. Anything larger goes through shared memory.

/// Number of words beside the label.
pub const WORDS: usize = 4;
/// Most capabilities in one message.
pub const CAPS: usize = 3;

/// Label and number of capabilities, packed into one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tag(pub u64);

impl Tag {
    /// Packs a label (meaning given by the contract) and a number of capabilities.
    #[must_use]
    pub const fn new(label: u32, caps: u8) -> Self {
        Self((label as u64) << 32 | caps as u64)
    }
    /// The label.
    #[must_use]
    pub const fn label(self) -> u32 {
        (self.0 >> 32) as u32
    }
    /// The number of capabilities.
    #[must_use]
    pub const fn caps(self) -> u8 {
        self.0 as u8
    }
}
