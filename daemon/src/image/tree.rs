//! One layer as a tree of files in memory: names and attributes; large contents are already in the blob.
//!
//! Owns: the rules of what may be where. Must not know: tar or EROFS. Invariants: node 0 is the root directory; a directory has exactly
//! one parent; any other node has as many parents as `links` says; every child index is valid.

use std::collections::BTreeMap;

/// Longest name of a directory entry.
pub(crate) const MAX_NAME: usize = 255;

/// Index of a node.
pub(crate) type NodeId = usize;

/// Names and values of extended attributes, with the namespace prefix.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What `stat` tells, apart from the kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub(crate) permissions: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) modified: i64,
    pub(crate) modified_nanoseconds: u32,
    pub(crate) xattrs: Xattrs,
}

impl Attributes {
    /// What a directory gets that the archive implies and never describes.
    pub(crate) fn implied_directory() -> Self {
        Self { permissions: 0o755, ..Self::default() }
    }
}

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Here: small files, which go beside their inode.
    Inline(Vec<u8>),
    /// In the blob, page-aligned, from this block on.
    Plain { first_block: u32, size: u64 },
}

/// The kinds of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory(Directory),
    File(Contents),
    Symlink(Vec<u8>),
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    #[cfg(test)]
    Socket,
}

/// A directory's entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) children: BTreeMap<Vec<u8>, NodeId>,
    /// Names that lower layers may have and the image does not.
    pub(crate) whiteouts: Vec<Vec<u8>>,
    /// Nothing of lower layers shows through.
    pub(crate) opaque: bool,
    /// The archive names members of the directory but not the directory.
    pub(crate) implied: bool,
}

/// A file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) kind: Kind,
    /// Names it has (directories: 1).
    pub(crate) links: u32,
}

/// Why a node cannot be put where it should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeError {
    /// A component of the path is a symbolic link.
    ThroughSymlink,
    /// A component of the path is not a directory.
    ThroughFile,
    /// A component is longer than [`MAX_NAME`].
    NameTooLong,
    /// A hard link's target does not exist in the layer.
    NoTarget,
    /// A hard link's target is a directory.
    TargetIsDirectory,
    /// The root can only be a directory.
    ReplacesRoot,
}

impl TreeError {
    /// Wording for people.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::ThroughSymlink => "its path leads through a symbolic link",
            Self::ThroughFile => "its path leads through something that is not a directory",
            Self::NameTooLong => "a name is longer than 255 bytes",
            Self::NoTarget => "the target of the hard link is not in the layer",
            Self::TargetIsDirectory => "the target of the hard link is a directory",
            Self::ReplacesRoot => "the root of an image is a directory",
        }
    }
}

/// A layer.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

/// The root's index.
pub(crate) const ROOT: NodeId = 0;

impl Default for Tree {
    fn default() -> Self {
        let directory = Directory { implied: true, ..Directory::default() };
        let attributes = Attributes::implied_directory();
        Self { nodes: vec![Node { attributes, kind: Kind::Directory(directory), links: 1 }] }
    }
}

impl Tree {
    /// The nodes, some of which may have lost all names.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// A node, to change.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id]
    }

    /// The number of nodes, unnamed ones included.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The directory that `id` is, if it is one.
    pub(crate) fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> Option<&mut Directory> {
        match &mut self.node_mut(id).kind {
            Kind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Finds the directory with this path, making missing ones.
    pub(crate) fn make_directories(&mut self, path: &[&[u8]]) -> Result<NodeId, TreeError> {
        let mut id = ROOT;
        for name in path {
            id = match self.child(id, name)? {
                Some(child) => child,
                None => {
                    let directory = Directory { implied: true, ..Directory::default() };
                    let attributes = Attributes::implied_directory();
                    self.add(id, name, attributes, Kind::Directory(directory))
                }
            };
        }
        match &self.node(id).kind {
            Kind::Directory(_) => Ok(id),
            Kind::Symlink(_) => Err(TreeError::ThroughSymlink),
            _ => Err(TreeError::ThroughFile),
        }
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Result<Option<NodeId>, TreeError> {
        if name.len() > MAX_NAME {
            return Err(TreeError::NameTooLong);
        }
        match &self.node(parent).kind {
            Kind::Directory(directory) => Ok(directory.children.get(name).copied()),
            Kind::Symlink(_) => Err(TreeError::ThroughSymlink),
            _ => Err(TreeError::ThroughFile),
        }
    }

    fn add(&mut self, parent: NodeId, name: &[u8], attributes: Attributes, kind: Kind) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(Node { attributes, kind, links: 0 });
        self.link(parent, name, id);
        id
    }

    fn link(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        self.node_mut(id).links += 1;
        let replaced =
            self.directory_mut(parent).and_then(|d| d.children.insert(name.to_vec(), id));
        if let Some(old) = replaced {
            self.unlink(old);
        }
    }

    /// Takes one name from a node, and from everything below a directory that loses its name.
    fn unlink(&mut self, id: NodeId) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            let node = self.node_mut(id);
            node.links = node.links.saturating_sub(1);
            if let Kind::Directory(directory) = &mut node.kind {
                pending.extend(std::mem::take(&mut directory.children).into_values());
            }
        }
    }

    /// Puts a node at a path. A directory over a directory keeps the entries; anything else is replaced.
    pub(crate) fn insert(
        &mut self,
        path: &[&[u8]],
        attributes: Attributes,
        kind: Kind,
    ) -> Result<NodeId, TreeError> {
        let Some((name, parents)) = path.split_last() else {
            let Kind::Directory(_) = kind else { return Err(TreeError::ReplacesRoot) };
            return Ok(self.describe(ROOT, attributes));
        };
        let parent = self.make_directories(parents)?;
        match (self.child(parent, name)?, &kind) {
            (Some(id), Kind::Directory(_)) if self.directory(id).is_some() => {
                Ok(self.describe(id, attributes))
            }
            _ => Ok(self.add(parent, name, attributes, kind)),
        }
    }

    /// Gives an existing directory its attributes.
    fn describe(&mut self, id: NodeId, attributes: Attributes) -> NodeId {
        self.node_mut(id).attributes = attributes;
        if let Some(directory) = self.directory_mut(id) {
            directory.implied = false;
        }
        id
    }

    /// Gives the node at `target` the further name `path`.
    pub(crate) fn hard_link(&mut self, path: &[&[u8]], target: &[&[u8]]) -> Result<(), TreeError> {
        let mut id = ROOT;
        for name in target {
            id = self.child(id, name)?.ok_or(TreeError::NoTarget)?;
        }
        if self.directory(id).is_some() {
            return Err(TreeError::TargetIsDirectory);
        }
        let (name, parents) = path.split_last().ok_or(TreeError::ReplacesRoot)?;
        let parent = self.make_directories(parents)?;
        if self.child(parent, name)? != Some(id) {
            self.link(parent, name, id);
        }
        Ok(())
    }

    /// Hides a name of lower layers.
    pub(crate) fn whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), TreeError> {
        let id = self.make_directories(parents)?;
        if let Some(directory) = self.directory_mut(id) {
            directory.whiteouts.push(name.to_vec());
        }
        Ok(())
    }

    /// Hides everything lower layers have in a directory.
    pub(crate) fn make_opaque(&mut self, path: &[&[u8]]) -> Result<(), TreeError> {
        let id = self.make_directories(path)?;
        if let Some(directory) = self.directory_mut(id) {
            directory.opaque = true;
        }
        Ok(())
    }

    /// Turns whiteouts into what overlay file systems understand: a character device 0/0, or, where the layer itself has a directory
    /// of the name, an opaque directory; and opaque directories into an extended attribute.
    pub(crate) fn settle(&mut self) {
        for id in 0..self.nodes.len() {
            let Some(directory) = self.directory_mut(id) else { continue };
            let names = std::mem::take(&mut directory.whiteouts);
            for name in names {
                match self.directory(id).and_then(|d| d.children.get(&name)).copied() {
                    None => {
                        let whiteout = Kind::CharacterDevice { major: 0, minor: 0 };
                        self.add(id, &name, Attributes::default(), whiteout);
                    }
                    Some(child) => {
                        if let Some(directory) = self.directory_mut(child) {
                            directory.opaque = true;
                        }
                    }
                }
            }
        }
        for node in &mut self.nodes {
            if matches!(&node.kind, Kind::Directory(Directory { opaque: true, .. })) {
                let name = b"trusted.overlay.opaque".to_vec();
                node.attributes.xattrs.insert(name, b"y".to_vec());
            }
        }
    }

    /// Paths of the directories that the archive implies without describing them; the root has the empty path.
    pub(crate) fn implied(&self) -> Vec<(NodeId, Vec<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut pending = vec![(ROOT, Vec::new())];
        while let Some((id, path)) = pending.pop() {
            let Some(directory) = self.directory(id) else { continue };
            for (name, child) in &directory.children {
                if self.directory(*child).is_some() {
                    let mut path = path.clone();
                    path.push(name.clone());
                    pending.push((*child, path));
                }
            }
            if directory.implied {
                found.push((id, path));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Kind {
        Kind::File(Contents::Inline(text.as_bytes().to_vec()))
    }

    fn path(text: &str) -> Vec<&[u8]> {
        text.split('/').map(str::as_bytes).collect()
    }

    #[test]
    fn a_path_through_a_symbolic_link_is_refused() {
        let mut tree = Tree::default();
        tree.insert(&path("a"), Attributes::default(), Kind::Symlink(b"/etc".to_vec())).unwrap();
        let refused = tree.insert(&path("a/passwd"), Attributes::default(), file("x"));
        assert_eq!(refused, Err(TreeError::ThroughSymlink));
        let refused = tree.hard_link(&path("b"), &path("a/passwd"));
        assert_eq!(refused, Err(TreeError::ThroughSymlink));
    }

    #[test]
    fn replacing_a_directory_unlinks_what_is_below() {
        let mut tree = Tree::default();
        let id = tree.insert(&path("d/e/f"), Attributes::default(), file("x")).unwrap();
        tree.hard_link(&path("kept"), &path("d/e/f")).unwrap();
        tree.insert(&path("d"), Attributes::default(), file("y")).unwrap();
        assert_eq!(tree.node(id).links, 1);
    }

    #[test]
    fn linking_a_file_to_itself_changes_nothing() {
        let mut tree = Tree::default();
        let id = tree.insert(&path("f"), Attributes::default(), file("x")).unwrap();
        tree.hard_link(&path("f"), &path("f")).unwrap();
        assert_eq!(tree.node(id).links, 1);
    }

    #[test]
    fn a_whiteout_beside_a_directory_of_the_same_name_makes_it_opaque() {
        let mut tree = Tree::default();
        tree.whiteout(&[], b"d").unwrap();
        tree.whiteout(&[], b"gone").unwrap();
        let id = tree.insert(&path("d/f"), Attributes::default(), file("x")).unwrap();
        tree.settle();
        let root = tree.directory(ROOT).unwrap();
        assert!(tree.directory(root.children[&b"d"[..]]).unwrap().opaque);
        let gone = &tree.node(root.children[&b"gone"[..]]).kind;
        assert_eq!(*gone, Kind::CharacterDevice { major: 0, minor: 0 });
        assert_eq!(tree.node(id).links, 1);
    }
}
