//! Why a kernel operation was refused.

/// The closed list of errors. Numbers are fixed; a caller sees `-(error as i64)` in `rax`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// The operation number is unknown.
    UnknownOperation = 1,
    /// The slot is empty, out of range, or its object has been destroyed.
    NoCapability = 2,
    /// The slot holds an object of another kind than the operation needs.
    WrongKind = 3,
    /// The capability lacks a right that the operation needs.
    MissingRight = 4,
    /// An argument is outside its documented range (alignment, length, flags, unknown enum value).
    BadArgument = 5,
    /// The destination slot is already occupied.
    SlotOccupied = 6,
    /// The Domain's frame budget is exhausted.
    OutOfFrames = 7,
    /// The Domain's object or slot budget is exhausted.
    OutOfObjects = 8,
    /// The Domain is dead or dying: nothing can be created in it any more.
    DomainDead = 9,
    /// The range overlaps something it must not, or source and destination overlap.
    Overlap = 10,
    /// A page in the range is not populated although the operation needs it to be.
    Hole = 11,
    /// The Space is frozen (or not frozen) and the operation needs the opposite.
    Frozen = 12,
    /// A frame is shared, pinned or borrowed and the operation needs it not to be.
    FrameInUse = 13,
    /// The deadline passed.
    TimedOut = 14,
    /// The wait was ended by a kick.
    Kicked = 15,
    /// The other side of the conversation died.
    PeerDead = 16,
    /// The Gate's limit of calls in flight is reached, or a non-blocking operation would have to wait.
    WouldBlock = 17,
    /// The object is in a state that does not allow the operation (a running thread started again, a reply used twice).
    WrongState = 18,
    /// The machine does not have what was asked for (no such interrupt, device memory overlaps RAM).
    NotPresent = 19,
}

impl Error {
    /// Decodes a negated error from `rax`; `None` for success or an unknown number.
    #[must_use]
    pub const fn from_result(rax: i64) -> Option<Self> {
        Some(match rax {
            -1 => Self::UnknownOperation,
            -2 => Self::NoCapability,
            -3 => Self::WrongKind,
            -4 => Self::MissingRight,
            -5 => Self::BadArgument,
            -6 => Self::SlotOccupied,
            -7 => Self::OutOfFrames,
            -8 => Self::OutOfObjects,
            -9 => Self::DomainDead,
            -10 => Self::Overlap,
            -11 => Self::Hole,
            -12 => Self::Frozen,
            -13 => Self::FrameInUse,
            -14 => Self::TimedOut,
            -15 => Self::Kicked,
            -16 => Self::PeerDead,
            -17 => Self::WouldBlock,
            -18 => Self::WrongState,
            -19 => Self::NotPresent,
            _ => return None,
        })
    }
}
