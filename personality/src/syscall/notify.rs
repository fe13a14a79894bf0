//! inotify(7).

use super::{Call, Outcome};
use crate::{
    file::{
        Object, OpenFile,
        watch::{self, Inotify},
    },
    linux::{AT_FDCWD, Errno, O_CLOEXEC, O_NONBLOCK, O_RDONLY},
};
use alloc::rc::Rc;

fn create(call: &Call<'_>, flags: u32) -> Outcome {
    if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let object = Object::Inotify(Rc::new(Inotify::default()));
    let kept = O_RDONLY | flags & O_NONBLOCK;
    let file = OpenFile::new(object, None, kept, b"anon_inode:inotify".to_vec());
    call.install(file, flags & O_CLOEXEC != 0).map_err(Into::into)
}

pub(super) fn inotify_init(call: &mut Call<'_>) -> Outcome {
    create(call, 0)
}

pub(super) fn inotify_init1(call: &mut Call<'_>) -> Outcome {
    create(call, call.argument(0) as u32)
}

fn own(call: &Call<'_>) -> Result<Rc<Inotify>, Errno> {
    match &call.file(0)?.object {
        Object::Inotify(inotify) => Ok(inotify.clone()),
        _ => Err(Errno::EINVAL),
    }
}

pub(super) fn inotify_add_watch(call: &mut Call<'_>) -> Outcome {
    let mask = call.argument(2) as u32;
    let inotify = own(call)?;
    let path = call.path(1)?;
    let follow = mask & watch::DO_NOT_FOLLOW == 0;
    let node = call.at(AT_FDCWD, &path, |walker| {
        let node = walker.find(&path, follow)?;
        walker.check(&node.meta(), 4)?;
        if mask & watch::ONLY_DIRECTORY != 0 && !node.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(node)
    })?;
    Ok(inotify.add(&node, mask)? as u64)
}

pub(super) fn inotify_rm_watch(call: &mut Call<'_>) -> Outcome {
    own(call)?.remove(call.int(1))?;
    Ok(0)
}
