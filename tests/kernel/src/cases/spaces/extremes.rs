//! Spaces: the widest ranges, and what outlives its Space.

use super::{POPULATE, READ, WRITE, hold, is, read, state, write};
use crate::{
    check,
    check::{Must, Outcome},
    refused, same,
    world::{Sandbox, World},
};
use core::arch::asm;
use rt::{
    Space,
    abi::{
        PAGE_SIZE,
        layout::SPACE_SIZE,
        resource::Resource,
        space::{MapMode, PageState, SpaceUse},
    },
    view::View,
};

/// New pages are zero to the last byte, whatever was there, and the kernel uses no vector register that it does not put back.
pub(super) fn zeroing_keeps_registers(_: &'static World) -> Outcome {
    let pages = 16;
    let written = [0x0123_4567_89ab_cdef_u64, 0xfedc_ba98_7654_3210];
    for _ in 0..4 {
        let space = hold()?;
        // SAFETY: the register is nobody else's: native programs are built without vector instructions.
        unsafe { asm!("movups xmm0, [{}]", in(reg) &written, options(nostack)) };
        space.zero(0, pages, WRITE, POPULATE).must("zero")?;
        let mut kept = [0_u64; 2];
        // SAFETY: the instruction writes the array alone.
        unsafe { asm!("movups [{}], xmm0", in(reg) &mut kept, options(nostack)) };
        same!(kept, written);
        let view = View::map(space, 0, pages, WRITE).must("view")?;
        let mut bytes = [1_u8; PAGE_SIZE as usize];
        for page in 0..pages {
            let at = (page * PAGE_SIZE) as usize;
            view.read(at, &mut bytes).must("read")?;
            check!(bytes.iter().all(|byte| *byte == 0), "page {page} is not zero");
            view.write(at, &[0xff; PAGE_SIZE as usize]).must("write")?;
        }
        drop(view);
        space.destroy().must("destroy")?;
    }
    Ok(())
}

/// Operations on the widest ranges take many short slices, or few that skip what is empty.
pub(super) fn whole_range_in_slices(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    let space = Space::create(sandbox.0, SpaceUse::Hold, None).must("space")?;
    let other = Space::create(sandbox.0, SpaceUse::Hold, None).must("space")?;
    let pages = SPACE_SIZE / PAGE_SIZE;
    let cheap = || sandbox.0.stat(Resource::Frames).is_ok_and(|stat| stat.used < 700);
    space.zero(0, pages, WRITE, 0).must("zero all")?;
    check!(cheap(), "demand-zero markers cost {:?}", sandbox.0.stat(Resource::Frames));
    space.resolve(1 << 46, 1, WRITE).must("touch")?;
    space.resolve(SPACE_SIZE - PAGE_SIZE, 1, WRITE).must("touch")?;
    space.protect(0, pages, READ).must("protect all")?;
    check!(is(space, 1 << 34, PageState::Present, READ), "{:?}", state(space, 1 << 34));
    other.map(0, space, 0, pages, MapMode::Private, READ, false).must("private all")?;
    other.unmap(0, pages).must("unmap all")?;
    other.map(0, space, 0, pages, MapMode::Move, READ, false).must("move all")?;
    refused!(space.query(0, pages), NotPresent);
    check!(cheap(), "after all: {:?}", sandbox.0.stat(Resource::Frames));
    other.destroy().must("destroy")?;
    space.destroy().must("destroy")?;
    sandbox.close()
}

/// Frames and frozen Spaces live as long as somebody maps them.
pub(super) fn destroyed_source(_: &'static World) -> Outcome {
    let sandbox = Sandbox::new().must("sandbox")?;
    for frozen in [false, true] {
        let (space, viewer) =
            (Space::create(sandbox.0, SpaceUse::Hold, None).must("space")?, hold()?);
        space.zero(0, 64, WRITE, POPULATE).must("zero")?;
        let first = View::map(space, 0, 1, WRITE).must("view")?;
        write(&first, 99);
        drop(first);
        if frozen {
            space.freeze().must("freeze")?;
        }
        // A Space that borrows lets go when it dies, not when it unmaps; the program's own would keep it for good.
        viewer.map(0, space, 0, 64, MapMode::Share, READ, false).must("map")?;
        space.destroy().must("destroy")?;
        let copy = Space::create(sandbox.0, SpaceUse::Hold, None).must("copy")?;
        copy.zero(0, 1, WRITE, 0).must("zero")?;
        let view = View::map(copy, 0, 1, READ).must("view")?;
        for _ in 0..20 {
            let filler = Space::create(sandbox.0, SpaceUse::Hold, None).must("filler")?;
            filler.zero(0, 64, WRITE, POPULATE).must("fill")?;
            copy.copy_from(0, viewer, 0, 1).must("copy")?;
            same!(read(&view), 99);
            filler.destroy().must("destroy")?;
        }
        drop(view);
        copy.destroy().must("destroy")?;
        viewer.destroy().must("destroy")?;
    }
    sandbox.close()
}
