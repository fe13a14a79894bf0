//! Operations on Spaces.

use super::{Hardware, Outcome, Request};
use crate::space::{
    Space,
    edit::ZeroOptions,
    inspect,
    map::{self, Mapping},
};
use kernel_abi::{
    Error, PAGE_SHIFT, Rights,
    space::{Access, MAP_SHARED_BIT, MapMode, SpaceUse},
};
use kernel_machine::object::Borrow;

/// Flag of `SpaceZero`'s access word: give the frames at once.
const POPULATE: u64 = 1 << 8;
/// Flag of `SpaceZero`'s access word: set the shared bit.
const SHARED: u64 = 1 << 9;
/// Flag of `SpaceZero`'s access word: the pages may become executable later, here or where they are mapped.
const MAY_EXECUTE: u64 = 1 << 10;
/// Flag of `SpaceZero`'s access word: the pages may become writable later.
const MAY_WRITE: u64 = 1 << 11;

/// Decodes an access word's low byte for a Space.
fn access(bits: u64, space: &Space) -> Result<Access, Error> {
    let access = u8::try_from(bits).ok().and_then(Access::from_bits).ok_or(Error::BadArgument)?;
    if access.contains(Access::WRITE) && !access.contains(Access::READ) {
        return Err(Error::BadArgument);
    }
    let is_both = access.contains(Access::WRITE | Access::EXECUTE);
    if is_both && space.used_for() != SpaceUse::Guest { Err(Error::BadArgument) } else { Ok(access) }
}

pub(super) fn create(request: Request<'_>) -> Outcome {
    let domain = request.payer(0)?;
    let (used_for, home) = match request.argument(2) {
        0 => (SpaceUse::Hold, None),
        1 => (SpaceUse::Home, None),
        2 => (SpaceUse::Guest, Some(request.reference::<Space>(3, Rights::RUN)?)),
        _ => return Err(Error::BadArgument),
    };
    let slot = request.prepare_slot(1)?;
    let space = Space::create(&domain, used_for, home, false)?;
    request.install(slot, space.into_any())?;
    Ok(Some(0))
}

/// The Space of argument 0, and the first page and number of pages of arguments 1 and 2.
fn range<'e>(request: Request<'e>, rights: Rights) -> Result<(Borrow<'e, Space>, u64, u64), Error> {
    let space = request.object::<Space>(0, rights)?;
    let pages = request.argument(2);
    let first = space.check(request.argument(1), pages)?;
    Ok((space, first, pages))
}

pub(super) fn zero(request: Request<'_>) -> Outcome {
    let (space, first, pages) = range(request, Rights::EDIT)?;
    let word = request.argument(3);
    let access = access(word & !(POPULATE | SHARED | MAY_EXECUTE | MAY_WRITE), &space)?;
    let mut maximum = Access::empty();
    maximum.set(Access::EXECUTE, word & MAY_EXECUTE != 0);
    maximum.set(Access::WRITE, word & MAY_WRITE != 0);
    let options = ZeroOptions { populate: word & POPULATE != 0, shared: word & SHARED != 0, maximum };
    space.zero(first, pages, access, options).map(Some)
}

pub(super) fn map(request: Request<'_>) -> Outcome {
    let to = request.object::<Space>(0, Rights::EDIT)?;
    let source = request.capability(2)?;
    let from = source.get::<Space>(Rights::empty())?;
    let pages = request.argument(4);
    let word = request.argument(5);
    let mode = MapMode::from_number(word & 0xff).ok_or(Error::BadArgument)?;
    let access = access(word >> 16, &to)?;
    if word & 0xfe00 != 0 {
        return Err(Error::BadArgument);
    }
    let mut needed = Rights::empty();
    match mode {
        MapMode::Share => {
            needed.set(Rights::MAP_READ, access.contains(Access::READ));
            needed.set(Rights::MAP_WRITE, access.contains(Access::WRITE));
        }
        MapMode::Private => needed = Rights::MAP_READ,
        MapMode::Snapshot | MapMode::Move => needed = Rights::MAP_READ | Rights::EDIT,
    }
    needed.set(Rights::MAP_EXECUTE, access.contains(Access::EXECUTE));
    if !source.rights.contains(needed) {
        return Err(Error::MissingRight);
    }
    let mapping = Mapping {
        to: to.check(request.argument(1), pages)?,
        from: from.check(request.argument(3), pages)?,
        pages,
        mode,
        access,
        may_execute: source.rights.contains(Rights::MAP_EXECUTE),
        shared: word & MAP_SHARED_BIT != 0,
    };
    map::map(to, from, mapping, request.entry).map(Some)
}

pub(super) fn protect(request: Request<'_>) -> Outcome {
    let (space, first, pages) = range(request, Rights::EDIT)?;
    let access = access(request.argument(3), &space)?;
    space.protect(first, pages, access).map(Some)
}

pub(super) fn unmap(request: Request<'_>) -> Outcome {
    let (space, first, pages) = range(request, Rights::EDIT)?;
    space.unmap(first, pages).map(Some)
}

pub(super) fn discard(request: Request<'_>) -> Outcome {
    let (space, first, pages) = range(request, Rights::EDIT)?;
    space.discard(first, pages).map(Some)
}

pub(super) fn freeze(request: Request<'_>) -> Outcome {
    let done = request.object::<Space>(0, Rights::FREEZE)?.freeze()?;
    Ok(Some(u64::from(done)))
}

pub(super) fn query(request: Request<'_>) -> Outcome {
    let (space, first, pages) = range(request, Rights::MAP_READ)?;
    let found = space.query(first, pages)?;
    let (accessed, dirty) = found.touched;
    let following = found.following.min(u64::from(u32::MAX));
    let flags = u64::from(accessed) << 16 | u64::from(dirty) << 17;
    request.more(found.state as u64 | u64::from(found.access.bits()) << 8 | flags | following << 32, 0);
    Ok(Some(found.page << PAGE_SHIFT))
}

pub(super) fn pin(request: Request<'_>) -> Outcome {
    request.object::<Hardware>(0, Rights::SEND)?;
    let space = request.object::<Space>(1, Rights::EDIT)?;
    let page = space.check(request.argument(2), 1)?;
    space.pin(page).map(|frame| Some(frame.address()))
}

pub(super) fn copy(request: Request<'_>) -> Outcome {
    let to = request.object::<Space>(0, Rights::EDIT)?;
    let from = request.object::<Space>(2, Rights::MAP_READ)?;
    let pages = request.argument(4);
    let (first, from_first) =
        (to.check(request.argument(1), pages)?, from.check(request.argument(3), pages)?);
    inspect::copy(to, first, from, from_first, pages).map(Some)
}

pub(super) fn resolve(request: Request<'_>) -> Outcome {
    let (space, first, pages) = range(request, Rights::EDIT)?;
    let access =
        u8::try_from(request.argument(3)).ok().and_then(Access::from_bits).ok_or(Error::BadArgument)?;
    space.resolve_range(first, pages, access).map(Some)
}
