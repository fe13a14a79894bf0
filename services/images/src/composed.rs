//! Layers that the system was composed with: programs of the boot module whose names begin with `layer.`.

use crate::store::{Blob, Store};
use rt::{
    Domain, Space,
    abi::{
        PAGE_SIZE,
        space::{Access, MapMode, SpaceUse},
    },
    module::{Image, Module},
    view::View,
};
use sha2::{Digest as _, Sha256};

/// Beginning of a layer's name.
const PREFIX: &str = "layer.";

/// Publishes every such layer under the digest of its pages.
pub(crate) fn publish(module: Space, store: &mut Store) -> rt::Result<()> {
    let module = Module::read(module)?;
    for name in module.names().filter(|name| name.starts_with(PREFIX)) {
        if let Some(image) = module.program(name) {
            add(image, store)?;
        }
    }
    Ok(())
}

fn add(image: Image<'_>, store: &mut Store) -> rt::Result<()> {
    let Some(segment) = image.segments.first() else { return Ok(()) };
    let space = Space::create(Domain::OWN, SpaceUse::Hold, None)?;
    let access = Access::READ | Access::EXECUTE;
    space.map(
        0,
        image.space,
        segment.file_offset,
        segment.file_pages,
        MapMode::Share,
        access,
        false,
    )?;
    space.freeze()?;
    let view = View::map(space, 0, segment.file_pages, Access::READ)?;
    // SAFETY: the Space is frozen, so its bytes never change while the view exists.
    let bytes = unsafe { core::slice::from_raw_parts(view.pointer(), view.length()) };
    let digest = Sha256::digest(bytes).into();
    store.publish(digest, Blob { space, length: segment.file_pages * PAGE_SIZE });
    Ok(())
}
