//! Who writes a regular file and what runs it: never both at once (ETXTBSY of open(2), truncate(2) and execve(2)).
//!
//! Owns: the count. Must not know: how a file is opened, or what a program is.

use super::{Kind, Node};
use alloc::rc::Rc;
use core::cell::Cell;

/// Above zero the open files that may write, below zero the processes that run it.
#[derive(Debug, Default)]
pub struct Uses(Cell<i32>);

impl Uses {
    /// Nobody's yet.
    #[must_use]
    pub const fn none() -> Self {
        Self(Cell::new(0))
    }
    /// Whether somebody has it open for writing.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.0.get() > 0
    }
    /// Whether a process runs it.
    #[must_use]
    pub const fn is_run(&self) -> bool {
        self.0.get() < 0
    }
    fn add(&self, change: i32) {
        self.0.set(self.0.get().saturating_add(change));
    }
}

/// A part that somebody has in a file's uses, for as long as this lives. Who takes one has looked whether he may.
#[derive(Debug)]
pub struct Part {
    node: Rc<Node>,
    change: i32,
}

impl Part {
    /// An open file that may write.
    #[must_use]
    pub fn writing(node: &Rc<Node>) -> Self {
        Self::new(node, 1)
    }
    /// A process that runs the file.
    #[must_use]
    pub fn running(node: &Rc<Node>) -> Self {
        Self::new(node, -1)
    }
    fn new(node: &Rc<Node>, change: i32) -> Self {
        if let Kind::File(data) = &node.kind {
            data.uses.add(change);
        }
        Self { node: node.clone(), change }
    }
    /// The file.
    #[must_use]
    pub const fn node(&self) -> &Rc<Node> {
        &self.node
    }
}

impl Clone for Part {
    fn clone(&self) -> Self {
        Self::new(&self.node, self.change)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Kind::File(data) = &self.node.kind {
            data.uses.add(-self.change);
        }
    }
}
