//! Gives every inode of a tree its place in the metadata area and every directory its blocks.
//!
//! Owns: numbering. Must not know: bytes on disk beyond their sizes. Invariants: the root is the first inode (the superblock has only 16 bits
//! for its nid); no inode and no inline tail crosses a block; the order is that of a walk by name, so equal trees give equal blobs.

use super::{
    directory::{self, Entry},
    disk, xattr,
};
use crate::image::tree::{Contents, Kind, NodeId, ROOT, Tree};

/// Largest directory tail that goes beside its inode.
const MAX_DIRECTORY_TAIL: usize = 2048;

/// A directory's entries and where its blocks are.
#[derive(Debug)]
pub(crate) struct DirectoryPlan {
    pub(crate) entries: Vec<Entry>,
    /// End index of each block's entries.
    pub(crate) ends: Vec<usize>,
    /// First of its whole blocks, relative to the directory area.
    pub(crate) first_block: u32,
    /// Length in bytes.
    pub(crate) size: u64,
    /// The last block is inline.
    pub(crate) inline: bool,
}

impl DirectoryPlan {
    /// The entries of each block.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &[Entry]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.entries[start..*end])
    }

    /// The number of blocks in the directory area.
    fn whole_blocks(&self) -> usize {
        self.ends.len() - usize::from(self.inline)
    }
}

/// An inode's place.
#[derive(Debug)]
pub(crate) struct InodePlan {
    pub(crate) node: NodeId,
    /// Offset from the metadata area.
    pub(crate) offset: u64,
    /// Encoded extended attributes.
    pub(crate) xattrs: Vec<u8>,
    pub(crate) directory: Option<DirectoryPlan>,
    pub(crate) subdirectories: u32,
}

/// The whole plan.
#[derive(Debug)]
pub(crate) struct Layout {
    /// In the order of their offsets.
    pub(crate) inodes: Vec<InodePlan>,
    /// Offset of each node, by its index in the tree.
    pub(crate) offsets: Vec<u64>,
    pub(crate) directory_blocks: u32,
    /// Length of the metadata area, not rounded.
    pub(crate) metadata: u64,
}

impl Layout {
    /// Plans a tree.
    pub(crate) fn new(tree: &Tree) -> Self {
        let mut layout = Self {
            inodes: Vec::new(),
            offsets: vec![u64::MAX; tree.len()],
            directory_blocks: 0,
            metadata: 0,
        };
        let mut pending = vec![(ROOT, ROOT)];
        while let Some((node, parent)) = pending.pop() {
            if layout.offsets[node] != u64::MAX {
                continue;
            }
            let plan = layout.plan(tree, node, parent);
            if let Some(directory) = &plan.directory {
                // Reversed, because the walk takes from the end.
                let children = directory.entries.iter().rev();
                let below = children.filter(|e| e.name != b"." && e.name != b"..");
                pending.extend(below.map(|entry| (entry.node, node)));
            }
            layout.inodes.push(plan);
        }
        layout
    }

    fn plan(&mut self, tree: &Tree, node: NodeId, parent: NodeId) -> InodePlan {
        let attributes = &tree.node(node).attributes;
        let xattrs = xattr::encode(&attributes.xattrs);
        let mut subdirectories = 0;
        let directory = tree.directory(node).map(|directory| {
            let own = [(&b"."[..], node), (&b".."[..], parent)];
            let children = directory.children.iter().map(|(name, id)| (name.as_slice(), *id));
            let mut entries: Vec<_> = own
                .into_iter()
                .chain(children)
                .map(|(name, node)| Entry { name: name.to_vec(), node })
                .collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            let below = directory.children.values().filter(|id| tree.directory(**id).is_some());
            subdirectories = u32::try_from(below.count()).unwrap_or(u32::MAX - 2);
            self.plan_directory(entries)
        });
        let tail = match (&tree.node(node).kind, &directory) {
            (_, Some(plan)) if plan.inline => plan.size % disk::BLOCK,
            (Kind::File(Contents::Inline(bytes)) | Kind::Symlink(bytes), _) => bytes.len() as u64,
            _ => 0,
        };
        let offset = self.place(xattrs.len() as u64, tail);
        self.offsets[node] = offset;
        InodePlan { node, offset, xattrs, directory, subdirectories }
    }

    fn plan_directory(&mut self, entries: Vec<Entry>) -> DirectoryPlan {
        let (ends, last) = directory::split(&entries);
        let size = (ends.len() as u64 - 1) * disk::BLOCK + last as u64;
        let inline = last <= MAX_DIRECTORY_TAIL;
        let first_block = self.directory_blocks;
        let plan = DirectoryPlan { entries, ends, first_block, size, inline };
        self.directory_blocks += u32::try_from(plan.whole_blocks()).unwrap_or(u32::MAX);
        plan
    }

    /// Reserves room for an inode, its attributes and its tail.
    fn place(&mut self, xattrs: u64, tail: u64) -> u64 {
        let crosses =
            |start: u64, length: u64| start / disk::BLOCK != (start + length - 1) / disk::BLOCK;
        let mut offset = self.metadata.next_multiple_of(disk::INODE_SLOT);
        while crosses(offset, disk::INODE)
            || (tail > 0 && crosses(offset + disk::INODE + xattrs, tail))
        {
            offset += disk::INODE_SLOT;
        }
        self.metadata = offset + disk::INODE + xattrs + tail;
        offset
    }

    /// The nid of a node.
    pub(crate) fn nid(&self, node: NodeId) -> u64 {
        self.offsets[node] / disk::INODE_SLOT
    }
}
