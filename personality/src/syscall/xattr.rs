//! Extended attributes of files (xattr(7)).

use super::{Call, Outcome, metadata::check_writable};
use crate::{
    file::Node,
    linux::{AT_FDCWD, Errno, S_IFDIR, S_IFMT, S_IFREG},
    machine::guest,
    task::credentials::CAP_SYS_ADMIN,
};
use alloc::{rc::Rc, vec, vec::Vec};

/// Longest extended attribute.
const MAX_XATTR: u64 = 64 * 1024;

fn node_argument(call: &Call<'_>, how: How) -> Result<Rc<Node>, Errno> {
    match how {
        How::File => call.file(0)?.node.clone().ok_or(Errno::EBADF),
        How::Follow | How::Link => {
            let path = call.path(0)?;
            call.node_at(AT_FDCWD, &path, matches!(how, How::Follow), false)
        }
    }
}

/// How a family of three calls names its file.
#[derive(Clone, Copy)]
enum How {
    Follow,
    Link,
    File,
}

fn xattr_name(call: &Call<'_>) -> Result<Vec<u8>, Errno> {
    let name = guest::read_string(call.argument(1), 255)
        .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::ERANGE } else { errno })?;
    if name.is_empty() { Err(Errno::ERANGE) } else { Ok(name) }
}

/// Whether the caller may read (4) or write (2) an attribute.
fn check_xattr(call: &Call<'_>, node: &Node, name: &[u8], wanted: u32) -> Result<(), Errno> {
    let credentials = call.task.credentials();
    let meta = node.meta();
    if name.starts_with(b"user.") {
        let is_plain = matches!(meta.mode & S_IFMT, S_IFREG | S_IFDIR);
        if !is_plain {
            return Err(if wanted == 2 { Errno::EPERM } else { Errno::ENODATA });
        }
        return if credentials.may(meta.mode, meta.uid, meta.gid, wanted) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        };
    }
    if name.starts_with(b"trusted.") {
        return Err(if wanted == 2 { Errno::EPERM } else { Errno::ENODATA });
    }
    if name.starts_with(b"security.") {
        return if wanted == 4 || credentials.has(CAP_SYS_ADMIN) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        };
    }
    Err(Errno::EOPNOTSUPP)
}

fn set(call: &mut Call<'_>, how: How) -> Outcome {
    let node = node_argument(call, how)?;
    let name = xattr_name(call)?;
    let (length, flags) = (call.argument(3), call.argument(4));
    if length > MAX_XATTR {
        return Err(Errno::ETOOBIG.into());
    }
    if flags > 2 {
        return Err(Errno::EINVAL.into());
    }
    check_xattr(call, &node, &name, 2)?;
    check_writable(&node)?;
    let mut value = vec![0; length as usize];
    guest::read_bytes(call.argument(2), &mut value)?;
    node.set_xattr(&name, &value, flags)?;
    Ok(0)
}

fn answer(call: &Call<'_>, value: &[u8], address: usize, limit: u64) -> Outcome {
    if limit == 0 {
        return Ok(value.len() as u64);
    }
    if (value.len() as u64) > limit {
        return Err(Errno::ERANGE.into());
    }
    guest::write_bytes(call.argument(address), value)?;
    Ok(value.len() as u64)
}

fn get(call: &mut Call<'_>, how: How) -> Outcome {
    let node = node_argument(call, how)?;
    let name = xattr_name(call)?;
    check_xattr(call, &node, &name, 4)?;
    let value = node.xattr(&name).ok_or(Errno::ENODATA)?;
    answer(call, &value, 2, call.argument(3))
}

fn list(call: &mut Call<'_>, how: How) -> Outcome {
    let node = node_argument(call, how)?;
    let mut names = Vec::new();
    for name in node.xattr_names() {
        names.extend_from_slice(&name);
        names.push(0);
    }
    answer(call, &names, 1, call.argument(2))
}

fn remove(call: &mut Call<'_>, how: How) -> Outcome {
    let node = node_argument(call, how)?;
    let name = xattr_name(call)?;
    check_xattr(call, &node, &name, 2)?;
    check_writable(&node)?;
    node.remove_xattr(&name)?;
    Ok(0)
}

macro_rules! xattr_calls {
    ($($name:ident $function:ident $how:ident;)*) => { $(
        pub(super) fn $name(call: &mut Call<'_>) -> Outcome {
            $function(call, How::$how)
        }
    )* };
}

xattr_calls! {
    setxattr set Follow; lsetxattr set Link; fsetxattr set File;
    getxattr get Follow; lgetxattr get Link; fgetxattr get File;
    listxattr list Follow; llistxattr list Link; flistxattr list File;
    removexattr remove Follow; lremovexattr remove Link; fremovexattr remove File;
}
