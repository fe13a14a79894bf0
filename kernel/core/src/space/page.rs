//! Frames of user memory: their counts, pins and the Domain that pays for them.
//!
//! Metadata word 0 of such a frame: references (low 32 bits), pins (from bit 32). Word 1: the paying Domain. A frame is charged to the
//! Domain of the Space it was given in and stays so wherever it is mapped, until its last reference goes.

use crate::{
    domain::{Amounts, Domain},
    frames,
};
use kernel_abi::Error;
use kernel_machine::atomic::Ordering;
use kernel_machine::{
    self as machine, Frame,
    object::{FrameOwner, Ref},
};

/// One pin.
const PIN: u64 = 1 << 32;
/// Most references to one frame.
const LIMIT: u64 = 1 << 31;

/// Gives a Domain a frame with one reference. Its contents are undefined.
///
/// # Errors
/// `OutOfFrames`.
pub fn allocate(domain: &Ref<Domain>) -> Result<Frame, Error> {
    let frame = domain.take_frame()?;
    adopt(frame, domain.clone());
    Ok(frame)
}

/// Gives a Domain a zeroed frame with one reference.
///
/// # Errors
/// `OutOfFrames`.
pub fn allocate_zeroed(domain: &Ref<Domain>) -> Result<Frame, Error> {
    let frame = allocate(domain)?;
    machine::zero(frame);
    Ok(frame)
}

/// Makes a frame that is charged already a frame of user memory with one reference.
pub fn adopt(frame: Frame, domain: Ref<Domain>) {
    machine::frame_words(frame)[0].store(1, Ordering::Relaxed);
    FrameOwner::set(frame, domain);
}

/// Adds a reference.
///
/// # Errors
/// `FrameInUse` if the count would leave its range.
pub fn add_reference(frame: Frame) -> Result<(), Error> {
    let word = &machine::frame_words(frame)[0];
    if word.load(Ordering::Relaxed) & (PIN - 1) >= LIMIT {
        return Err(Error::FrameInUse);
    }
    word.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// Gives a reference back, and the frame with the last one.
pub fn release(frame: Frame) {
    if let Some(domain) = release_unpaid(frame) {
        domain.discharge(Amounts::frames(1));
    }
}

/// The same, but whose account the frame must go back to is the caller's to see to.
#[must_use]
pub fn release_unpaid(frame: Frame) -> Option<Ref<Domain>> {
    // ORDERING: AcqRel, so that every use through other references is over before the frame is free.
    let before = machine::frame_words(frame)[0].fetch_sub(1, Ordering::AcqRel);
    if before & (PIN - 1) != 1 {
        return None;
    }
    let owner = FrameOwner::take::<Domain>(frame);
    frames::free(frame);
    owner
}

/// Whether there is one reference and no pin.
#[must_use]
pub fn is_sole(frame: Frame) -> bool {
    machine::frame_words(frame)[0].load(Ordering::Acquire) == 1
}

/// Whether a device may be using the frame.
#[must_use]
pub fn is_pinned(frame: Frame) -> bool {
    machine::frame_words(frame)[0].load(Ordering::Acquire) >= PIN
}

/// Adds a pin.
pub fn pin(frame: Frame) {
    machine::frame_words(frame)[0].fetch_add(PIN, Ordering::AcqRel);
}

/// Takes a pin away.
pub fn unpin(frame: Frame) {
    machine::frame_words(frame)[0].fetch_sub(PIN, Ordering::AcqRel);
}
