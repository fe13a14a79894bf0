//! Files: the tree of nodes, their contents, open files and everything that looks like one.
//!
//! ```text
//! path (walk, permissions) -> node (directories over image layers, files, devices) -> data (pages over image bytes)
//! open (offset, flags, readiness) -> node | pipe | terminal | stream | socket | event objects | proc
//! ```
//! The root directory lies over the image's layers: a directory looks a name up in its own entries first, then in the layers, and remembers what it found.
//! A file's pages lie over its image bytes in the same way, so nothing is copied before it is written.

pub mod capacity;
pub mod data;
pub mod device;
pub mod epoll;
pub mod erofs;
pub mod event;
pub mod layers;
pub mod locks;
pub mod lower;
pub mod node;
pub mod open;
pub mod path;
pub mod pipe;
pub mod proc;
pub mod stream;
pub mod table;
pub mod terminal;
pub mod uses;
pub mod watch;

pub use node::{Kind, Meta, Node};
pub use open::{Object, OpenFile};
pub use table::FileTable;
