//! The layer with the measured programs, which travels in the boot module: its digest, by which compartments are given it.

use contract::images::Digest;
use rt::{
    Error, Space,
    abi::{PAGE_SIZE, space::Access},
    module::Module,
    view::View,
};
use sha2::{Digest as _, Sha256};

/// Its name in the boot module; `services/images` publishes everything that is called so.
const NAME: &str = "layer.bench";

/// The layer's digest, as the image store computes it.
pub(crate) fn digest(module: Space) -> rt::Result<Digest> {
    let module = Module::read(module)?;
    let image = module.program(NAME).ok_or(Error::NotPresent)?;
    let segment = image.segments.first().ok_or(Error::NotPresent)?;
    let view = View::map(image.space, segment.file_offset, segment.file_pages, Access::READ)?;
    let mut page = [0; PAGE_SIZE as usize];
    let mut hash = Sha256::new();
    for at in (0..view.length()).step_by(page.len()) {
        view.read(at, &mut page)?;
        hash.update(page);
    }
    Ok(hash.finalize().into())
}
