//! What the suite asks of the assistant, and the names of what it hands over.

/// Name of the number in the start-up block that says what to do.
pub(crate) const ACT: &str = "act";
/// Name of the Notification on which the assistant tells how far it came.
pub(crate) const SIGNAL: &str = "signal";
/// Name of an Endpoint of the suite.
pub(crate) const ENDPOINT: &str = "endpoint";
/// The bit that says that the assistant has begun.
pub(crate) const BEGUN: u64 = 1;
/// The bit that says that the assistant has done what was asked.
pub(crate) const DONE: u64 = 2;
/// The bit that says that the assistant could not do it, or that what must not work did.
pub(crate) const WRONG: u64 = 4;

macro_rules! acts {
    ($( $(#[$doc:meta])* $name:ident = $number:literal, )*) => {
        /// An act of the assistant.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub(crate) enum Act { $( $(#[$doc])* $name = $number, )* }

        impl Act {
            /// Decodes an act's number.
            #[must_use]
            pub(crate) const fn from_number(number: u64) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }
        }
    };
}

acts! {
    /// Says that it runs, and ends.
    Greet = 0,
    /// Says that it runs, and spins for ever.
    Spin = 1,
    /// Says that it runs, and parks for ever.
    Park = 2,
    /// Reads address zero.
    ReadNull = 3,
    /// Writes its own text.
    WriteText = 4,
    /// Jumps to data.
    JumpAway = 5,
    /// Halts the processor.
    Halt = 6,
    /// Faults in its fault handler.
    DoubleFault = 7,
    /// Has a fault handler whose stack is not there.
    EndlessFault = 8,
    /// Recurses for ever.
    StackOverflow = 9,
    /// Uses a stack pointer that is not canonical.
    NonCanonicalStack = 10,
    /// Destroys its own Domain.
    DestroySelf = 11,
    /// Receives a call and never answers it.
    ServeNothing = 12,
    /// Receives a call and dies of a fault.
    ServeAndDie = 13,
}
