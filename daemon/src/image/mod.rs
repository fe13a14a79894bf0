//! Images: from what other tools build to blobs the machine maps.
//!
//! ```text
//! source (oci:, oci-archive:, docker-archive:, rootfs:)
//!   -> files -> oci | docker -> config and layers, digests checked
//!   -> compression -> tar -> layer (names, whiteouts, limits) -> tree -> erofs -> store
//! ```
//! Owns: everything about images on the host. Must not know: containers, the machine. Everything from a source is untrusted: it is
//! checked before anything is published, and an import that fails leaves nothing behind.

mod compression;
mod config;
pub mod digest;
mod docker;
mod erofs;
pub mod error;
mod files;
mod import;
mod layer;
mod oci;
mod rootfs;
pub mod source;
pub mod store;
mod tar;
mod tree;

pub use config::ImageConfig;
pub use error::ImageError;
pub use import::{Progress, import};
pub use layer::Limits;
pub use source::Source;
pub use store::{ImageRecord, ImageStore};
