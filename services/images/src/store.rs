//! The blobs.

use alloc::{
    collections::{BTreeMap, btree_map::Entry},
    vec::Vec,
};
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
    /// Publishes a blob whose Space is frozen. One with the same bytes that is there already stays, for compartments may hold it; the new one goes.
    pub(crate) fn publish(&mut self, digest: Digest, blob: Blob) {
        match self.blobs.entry(digest) {
            Entry::Vacant(place) => {
                place.insert(blob);
            }
            Entry::Occupied(_) => {
                let _ = blob.space.destroy();
            }
        }
    }
    /// Destroys a blob for all its holders; whether there was one.
    pub(crate) fn remove(&mut self, digest: &Digest) -> bool {
        self.blobs.remove(digest).is_some_and(|blob| blob.space.destroy().is_ok())
    }
    /// Digests and lengths.
    pub(crate) fn list(&self) -> Vec<(Digest, u64)> {
        self.blobs.iter().map(|(digest, blob)| (*digest, blob.length)).collect()
    }
}
