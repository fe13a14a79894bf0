//! Directories of image layers, merged: upper layers hide lower ones by name, by whiteouts (character devices 0/0) and by opaque directories.

use super::{
    data::FileData,
    erofs::{Image, Inode},
    lower::Lower,
    node::{Directory, Kind, Meta, Node},
};
use crate::{
    linux::{Errno, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG},
    machine::layer::Layer,
};
use alloc::{boxed::Box, collections::BTreeMap, rc::Rc, vec::Vec};
use core::cell::RefCell;

/// Number of the root file system.
pub const ROOT_DEVICE: u64 = 0x30;

/// The layers of a compartment, lowest first.
#[derive(Debug)]
pub struct Layers {
    images: Vec<Image<Layer>>,
    /// Files with several links, by layer and inode: one node for all names.
    linked: RefCell<BTreeMap<(usize, u64), Rc<Node>>>,
}

/// The image directories behind one directory, uppermost first.
#[derive(Debug)]
pub struct LowerDirectory {
    layers: Rc<Layers>,
    parts: Vec<(usize, Inode)>,
}

/// A file's bytes in an image.
#[derive(Clone, Debug)]
pub struct LowerFile {
    layers: Rc<Layers>,
    layer: usize,
    inode: Inode,
}

impl Layers {
    /// Opens every layer.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn open(layers: Vec<Layer>) -> Result<Rc<Self>, Errno> {
        let images = layers.into_iter().map(Image::open).collect::<Result<_, _>>()?;
        Ok(Rc::new(Self { images, linked: RefCell::new(BTreeMap::new()) }))
    }

    /// Says that nothing of the layers is mapped, see [`Layer::forget_windows`].
    pub fn forget_windows(&self) {
        self.images.iter().for_each(|image| image.source().forget_windows());
    }

    fn image(&self, layer: usize) -> Result<&Image<Layer>, Errno> {
        self.images.get(layer).ok_or(Errno::EUCLEAN)
    }

    /// The merged root directory.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn root(self: &Rc<Self>) -> Result<Rc<Node>, Errno> {
        let mut parts = Vec::new();
        for (layer, image) in self.images.iter().enumerate().rev() {
            parts.push((layer, image.inode(image.root())?));
        }
        let Some((layer, top)) = parts.first().copied() else {
            return Ok(Node::empty_directory(0o755, 0, 0, ROOT_DEVICE));
        };
        if parts.iter().any(|(_, inode)| inode.mode & S_IFMT != S_IFDIR) {
            return Err(Errno::EUCLEAN);
        }
        Ok(self.directory_node(layer, top, parts))
    }

    fn directory_node(
        self: &Rc<Self>,
        layer: usize,
        top: Inode,
        parts: Vec<(usize, Inode)>,
    ) -> Rc<Node> {
        let lower = LowerDirectory { layers: self.clone(), parts };
        Node::with_meta(
            Kind::Directory(Directory::new(Some(Lower::Layers(lower)))),
            meta_of(&top),
            identity(layer, &top),
            ROOT_DEVICE,
        )
    }

    fn file_node(self: &Rc<Self>, layer: usize, inode: Inode) -> Result<Rc<Node>, Errno> {
        if inode.nlink > 1
            && let Some(node) = self.linked.borrow().get(&(layer, inode.nid))
        {
            return Ok(node.clone());
        }
        let kind = match inode.mode & S_IFMT {
            S_IFREG => Kind::File(FileData::over(LowerFile { layers: self.clone(), layer, inode })),
            S_IFLNK => Kind::Symlink(self.link_target(layer, &inode)?),
            _ => super::node::kind_for(inode.mode).ok_or(Errno::EUCLEAN)?,
        };
        let node = Node::with_meta(kind, meta_of(&inode), identity(layer, &inode), ROOT_DEVICE);
        let image = self.image(layer)?;
        image.xattrs(&inode, |prefix, name, value| {
            if prefix != b"trusted." {
                let _ = node.set_xattr(&[prefix, name].concat(), value, 0);
            }
        })?;
        if inode.nlink > 1 {
            self.linked.borrow_mut().insert((layer, inode.nid), node.clone());
        }
        Ok(node)
    }

    fn link_target(&self, layer: usize, inode: &Inode) -> Result<Box<[u8]>, Errno> {
        let length = usize::try_from(inode.size)
            .ok()
            .filter(|length| *length < crate::linux::PATH_MAX)
            .ok_or(Errno::EUCLEAN)?;
        let target = self.image(layer)?.data(inode, 0, length)?;
        if target.len() == length { Ok(target.into()) } else { Err(Errno::EUCLEAN) }
    }
}

fn identity(layer: usize, inode: &Inode) -> u64 {
    (layer as u64 + 1) << 40 | inode.nid & ((1 << 40) - 1)
}

fn meta_of(inode: &Inode) -> Meta {
    Meta {
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        nlink: inode.nlink,
        rdev: inode.rdev,
        accessed: inode.modified,
        modified: inode.modified,
        changed: inode.modified,
    }
}

impl LowerDirectory {
    /// Finds a name: the uppermost layer that has it decides; directories of lower layers join in.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn find(&self, name: &[u8]) -> Result<Option<Rc<Node>>, Errno> {
        let mut parts: Vec<(usize, Inode)> = Vec::new();
        for (layer, directory) in &self.parts {
            let image = self.layers.image(*layer)?;
            let Some(nid) = image.find(directory, name)? else { continue };
            let inode = image.inode(nid)?;
            if inode.mode & S_IFMT != S_IFDIR {
                if !parts.is_empty() || is_whiteout(&inode) {
                    break;
                }
                return self.layers.file_node(*layer, inode).map(Some);
            }
            parts.push((*layer, inode));
            if image.is_opaque(&inode)? {
                break;
            }
        }
        match parts.first().copied() {
            Some((layer, top)) => Ok(Some(self.layers.directory_node(layer, top, parts))),
            None => Ok(None),
        }
    }

    /// Whether some layer shows a name.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        self.parts.iter().any(|(layer, directory)| {
            self.layers
                .image(*layer)
                .and_then(|image| image.find(directory, name))
                .is_ok_and(|found| found.is_some())
        })
    }

    /// All names in any layer, whiteouts included.
    ///
    /// # Errors
    /// `EUCLEAN`.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        for (layer, directory) in &self.parts {
            self.layers.image(*layer)?.entries(directory, |name, _| names.push(name.to_vec()))?;
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

fn is_whiteout(inode: &Inode) -> bool {
    inode.mode & S_IFMT == S_IFCHR && inode.rdev == 0
}

impl LowerFile {
    /// Bytes it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.inode.size
    }
    /// Bytes from an offset in one piece.
    ///
    /// # Errors
    /// `EUCLEAN`, as `EIO`.
    pub fn data(&self, offset: u64, length: usize) -> Result<&[u8], Errno> {
        self.layers.image(self.layer)?.data(&self.inode, offset, length).map_err(|_| Errno::EIO)
    }
    /// Where a page lies in the layer's Space.
    #[must_use]
    pub fn page_at(&self, page: u64) -> Option<(rt::Space, u64)> {
        let image = self.layers.image(self.layer).ok()?;
        image.page_at(&self.inode, page).map(|at| (image.source().space(), at))
    }
}
