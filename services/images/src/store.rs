//! The blobs.

use alloc::{collections::BTreeMap, vec::Vec};
use contract::images::Digest;
use rt::Space;

/// Most blobs.
const MAX_BLOBS: usize = 4096;

/// A blob.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blob {
    /// Its bytes.
    pub(crate) space: Space,
    /// How many.
    pub(crate) length: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Store {
    blobs: BTreeMap<Digest, Blob>,
}

impl Store {
    /// An empty store.
    pub(crate) const fn new() -> Self {
        Self { blobs: BTreeMap::new() }
    }
    /// A blob by its digest.
    pub(crate) fn find(&self, digest: &Digest) -> Option<Blob> {
        self.blobs.get(digest).copied()
    }
    /// Whether another blob may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.blobs.len() < MAX_BLOBS
    }
    /// Publishes a blob whose Space is frozen.
    pub(crate) fn publish(&mut self, digest: Digest, blob: Blob) {
        if let Some(before) = self.blobs.insert(digest, blob) {
            let _ = before.space.destroy();
        }
    }
    /// Forgets a blob; whether there was one.
    pub(crate) fn remove(&mut self, digest: &Digest) -> bool {
        self.blobs.remove(digest).is_some_and(|blob| blob.space.destroy().is_ok())
    }
    /// Digests and lengths.
    pub(crate) fn list(&self) -> Vec<(Digest, u64)> {
        self.blobs.iter().map(|(digest, blob)| (*digest, blob.length)).collect()
    }
}
