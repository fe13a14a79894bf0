//! A directory of the host as a layer: names, attributes and contents as they are, links not followed.
//!
//! What belongs to the user who imports becomes root's, because an ordinary user cannot unpack files of others.

use super::{
    erofs::{self, BlobWriter, StoreFailure},
    error::ImageError,
    layer::Limits,
    tree::{Attributes, Directory, Kind, NodeId, ROOT, Tree, Xattrs},
};
use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io,
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

/// Reads a directory into a tree and a blob.
pub(crate) fn read(
    directory: &Path,
    limits: Limits,
    blob: &mut BlobWriter,
    blob_path: &Path,
    progress: &mut dyn FnMut() -> Result<(), ImageError>,
) -> Result<Tree, ImageError> {
    let mut walk = Walk {
        tree: Tree::default(),
        blob,
        blob_path,
        links: HashMap::new(),
        owner: (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw()),
        left: limits,
        limits,
        what: directory.display().to_string(),
    };
    let metadata =
        std::fs::symlink_metadata(directory).map_err(|cause| cannot(directory, cause))?;
    let attributes = walk.attributes(directory, &metadata)?;
    walk.tree.node_mut(ROOT).attributes = attributes;
    let mut pending = vec![(directory.to_owned(), Vec::new())];
    while let Some((path, inside)) = pending.pop() {
        progress()?;
        walk.directory(&path, &inside, &mut pending)?;
    }
    Ok(walk.tree)
}

fn cannot(path: &Path, cause: io::Error) -> ImageError {
    ImageError::CannotOpen { path: path.to_owned(), cause }
}

/// A directory to visit: where it is on the host, and in the image.
type Pending = (PathBuf, Vec<Vec<u8>>);

struct Walk<'a> {
    tree: Tree,
    blob: &'a mut BlobWriter,
    blob_path: &'a Path,
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<Vec<u8>>>,
    owner: (u32, u32),
    left: Limits,
    limits: Limits,
    what: String,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        path: &Path,
        inside: &[Vec<u8>],
        pending: &mut Vec<Pending>,
    ) -> Result<(), ImageError> {
        let entries = std::fs::read_dir(path).map_err(|cause| cannot(path, cause))?;
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(|cause| cannot(path, cause))?.file_name().into_vec());
        }
        names.sort_unstable();
        for name in names {
            let host = path.join(std::ffi::OsStr::from_bytes(&name));
            let mut inside = inside.to_vec();
            inside.push(name);
            let metadata =
                std::fs::symlink_metadata(&host).map_err(|cause| cannot(&host, cause))?;
            self.take(&host, &metadata)?;
            let id = self.entry(&host, &inside, &metadata)?;
            if id.is_some_and(|id| self.tree.directory(id).is_some()) {
                pending.push((host, inside));
            }
        }
        Ok(())
    }

    /// Counts an entry against the limits.
    fn take(&mut self, path: &Path, metadata: &Metadata) -> Result<(), ImageError> {
        let bomb = |limit, unit| ImageError::Bomb { what: self.what.clone(), limit, unit };
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        let members = self.left.members.checked_sub(1);
        let bytes = self.left.bytes.checked_sub(size);
        tracing::trace!(path = %path.display(), "imports a file");
        self.left = Limits {
            members: members.ok_or_else(|| bomb(self.limits.members, "members"))?,
            bytes: bytes.ok_or_else(|| bomb(self.limits.bytes, "bytes"))?,
        };
        Ok(())
    }

    fn entry(
        &mut self,
        host: &Path,
        inside: &[Vec<u8>],
        metadata: &Metadata,
    ) -> Result<Option<NodeId>, ImageError> {
        let path: Vec<&[u8]> = inside.iter().map(Vec::as_slice).collect();
        let refused = |error: super::tree::TreeError| ImageError::BadMember {
            path: host.display().to_string(),
            reason: error.reason(),
        };
        if !metadata.is_dir() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                let first: Vec<&[u8]> = first.iter().map(Vec::as_slice).collect();
                self.tree.hard_link(&path, &first).map_err(refused)?;
                return Ok(None);
            }
            self.links.insert(key, inside.to_vec());
        }
        let Some(kind) = self.kind(host, metadata)? else { return Ok(None) };
        let attributes = self.attributes(host, metadata)?;
        self.tree.insert(&path, attributes, kind).map(Some).map_err(refused)
    }

    fn kind(&mut self, host: &Path, metadata: &Metadata) -> Result<Option<Kind>, ImageError> {
        let kind = metadata.file_type();
        let device = || {
            let number = metadata.rdev();
            (rustix::fs::major(number), rustix::fs::minor(number))
        };
        Ok(Some(if kind.is_dir() {
            Kind::Directory(Directory::default())
        } else if kind.is_file() {
            self.file(host)?
        } else if kind.is_symlink() {
            let target = std::fs::read_link(host).map_err(|cause| cannot(host, cause))?;
            Kind::Symlink(target.into_os_string().into_vec())
        } else if kind.is_char_device() {
            let (major, minor) = device();
            Kind::CharacterDevice { major, minor }
        } else if kind.is_block_device() {
            let (major, minor) = device();
            Kind::BlockDevice { major, minor }
        } else if kind.is_fifo() {
            Kind::Fifo
        } else {
            // A socket is worth nothing without the process that made it.
            return Ok(None);
        }))
    }

    fn file(&mut self, host: &Path) -> Result<Kind, ImageError> {
        // Not followed and not blocking, should the file have been replaced in the meantime.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let mut file = File::options()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(host)
            .map_err(|cause| cannot(host, cause))?;
        let length = file.metadata().map_err(|cause| cannot(host, cause))?.len();
        let contents = erofs::store_contents(self.blob, &mut file, length);
        contents.map(Kind::File).map_err(|failure| match failure {
            StoreFailure::Source(cause) => ImageError::read(&host.display().to_string(), cause),
            StoreFailure::Blob(cause) => ImageError::store(self.blob_path, cause),
        })
    }

    fn attributes(&self, host: &Path, metadata: &Metadata) -> Result<Attributes, ImageError> {
        let own = |id: u32, own: u32| if id == own { 0 } else { id };
        Ok(Attributes {
            permissions: u16::try_from(metadata.mode() & 0o7777).unwrap_or_default(),
            uid: own(metadata.uid(), self.owner.0),
            gid: own(metadata.gid(), self.owner.1),
            modified: metadata.mtime(),
            modified_nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
            xattrs: xattrs(host).map_err(|cause| cannot(host, cause))?,
        })
    }
}

/// The attributes a file has, apart from those the host's file system or security module keeps.
fn xattrs(host: &Path) -> io::Result<Xattrs> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::llistxattr(host, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let mut found = Xattrs::new();
    let names = names.get(..length).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let foreign = name == b"security.selinux" || name.starts_with(b"trusted.overlay.");
        let mut value = vec![0u8; 64 * 1024];
        if foreign {
            continue;
        }
        match rustix::fs::lgetxattr(host, name, &mut value) {
            Ok(length) => {
                value.truncate(length);
                found.insert(name.to_vec(), value);
            }
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}
