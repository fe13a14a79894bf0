//! The store of images: records by identity, blobs by their own digest, layers by the digest of their tar stream.
//!
//! ```text
//! images/records/HEX      an image: names, configuration, layers (JSON)
//! images/layers/HEX       diff identity (or chain identity) -> blob
//! images/blobs/HEX        a layer as EROFS
//! images/scratch/         what is being made; emptied when the store is opened
//! ```
//! Invariants: a file appears under its final name only when it is complete and on disk; a layer names a blob that exists; removing an
//! image removes what no other image uses.

use super::{config::ImageConfig, digest::Digest, erofs::Blob, error::ImageError};
use crate::home;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

/// A layer of an imported image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLayer {
    /// Digest of the uncompressed tar stream.
    pub diff_id: Digest,
    /// Digest of the blob.
    pub blob: Digest,
    /// Length of the blob in bytes.
    pub length: u64,
}

/// An imported image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of the configuration document.
    pub id: Digest,
    /// Names, each with its tag.
    pub names: Vec<String>,
    /// How its containers are run.
    pub config: ImageConfig,
    /// Layers, lowest first.
    pub layers: Vec<StoredLayer>,
    /// When it was built, as the configuration says.
    pub created: Option<String>,
    /// Seconds since 1970 at the import.
    pub imported: u64,
    /// Where it was imported from.
    pub source: String,
}

impl ImageRecord {
    /// Bytes of all layers.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.length).sum()
    }
}

/// Where a layer's blob is known from.
#[derive(Serialize, Deserialize)]
struct LayerRecord {
    blob: Digest,
    length: u64,
}

/// The store.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
}

impl ImageStore {
    /// Opens the store in a directory, made if missing.
    ///
    /// # Errors
    /// [`ImageError::Store`] and [`ImageError::DiskFull`].
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let store = Self { root: root.to_owned() };
        match std::fs::remove_dir_all(store.scratch()) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::store(store.scratch(), cause));
            }
            _ => {}
        }
        for name in ["records", "layers", "blobs", "scratch"] {
            let path = root.join(name);
            home::make_private_directory(&path).map_err(|cause| ImageError::store(&path, cause))?;
        }
        Ok(store)
    }

    /// Directory for what is being made.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The file of a blob.
    #[must_use]
    pub fn blob_path(&self, blob: &Digest) -> PathBuf {
        self.root.join("blobs").join(blob.hex())
    }

    fn record_path(&self, id: &Digest) -> PathBuf {
        self.root.join("records").join(id.hex())
    }

    fn layer_path(&self, key: &Digest) -> PathBuf {
        self.root.join("layers").join(key.hex())
    }

    /// The blob of a layer, if the layer was imported before.
    pub(crate) fn layer(&self, key: &Digest) -> Option<Blob> {
        let bytes = std::fs::read(self.layer_path(key)).ok()?;
        let record: LayerRecord = serde_json::from_slice(&bytes).ok()?;
        let length = std::fs::metadata(self.blob_path(&record.blob)).ok()?.len();
        let blob = Blob { digest: record.blob, length: record.length };
        (length == blob.length).then_some(blob)
    }

    /// Publishes a finished blob under a layer's identity.
    pub(crate) fn add_layer(
        &self,
        key: &Digest,
        blob: &Blob,
        file: &Path,
    ) -> Result<(), ImageError> {
        let to = self.blob_path(&blob.digest);
        std::fs::File::open(file)
            .and_then(|file| file.sync_data())
            .and_then(|()| std::fs::rename(file, &to))
            .map_err(|cause| ImageError::store(&to, cause))?;
        let record = LayerRecord { blob: blob.digest.clone(), length: blob.length };
        write_json(&self.layer_path(key), &record)
    }

    /// All images, by the time of their import.
    ///
    /// # Errors
    /// [`ImageError::Store`] and [`ImageError::BadDocument`].
    pub fn list(&self) -> Result<Vec<ImageRecord>, ImageError> {
        let directory = self.root.join("records");
        let failed = |cause| ImageError::store(&directory, cause);
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some() {
                continue;
            }
            let bytes = std::fs::read(&path).map_err(|cause| ImageError::store(&path, cause))?;
            let what = path.display().to_string();
            let record: ImageRecord = serde_json::from_slice(&bytes)
                .map_err(|cause| ImageError::BadDocument { what, cause })?;
            records.push(record);
        }
        records.sort_by_key(|record| (record.imported, record.id.clone()));
        Ok(records)
    }

    /// Finds an image by name, digest or the beginning of its digest.
    ///
    /// # Errors
    /// [`ImageError::UnknownImage`], [`ImageError::AmbiguousImage`], and those of [`Self::list`].
    pub fn find(&self, text: &str) -> Result<ImageRecord, ImageError> {
        let records = self.list()?;
        if let Ok(name) = normal_name(text)
            && let Some(record) = records.iter().find(|record| record.names.contains(&name))
        {
            return Ok(record.clone());
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_prefix = hex.len() >= 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mut matching =
            records.into_iter().filter(|record| is_prefix && record.id.hex().starts_with(hex));
        match (matching.next(), matching.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => Err(ImageError::AmbiguousImage(text.to_owned())),
            (None, _) => Err(ImageError::UnknownImage(text.to_owned())),
        }
    }

    /// Adds an image. Its names are taken from images that had them before; names it had already stay.
    pub(crate) fn add(&self, mut record: ImageRecord) -> Result<ImageRecord, ImageError> {
        for mut other in self.list()? {
            if other.id == record.id {
                record.names.extend(other.names);
                continue;
            }
            let before = other.names.len();
            other.names.retain(|name| !record.names.contains(name));
            if other.names.len() != before {
                write_json(&self.record_path(&other.id), &other)?;
            }
        }
        record.names.sort_unstable();
        record.names.dedup();
        write_json(&self.record_path(&record.id), &record)?;
        Ok(record)
    }

    /// Removes a name, and the image with its last name. `text` that is no name removes the image with all names.
    ///
    /// # Errors
    /// Those of [`Self::find`], and [`ImageError::Store`].
    pub fn remove(&self, text: &str) -> Result<Removed, ImageError> {
        let mut record = self.find(text)?;
        if let Ok(name) = normal_name(text)
            && record.names.contains(&name)
            && record.names.len() > 1
        {
            record.names.retain(|other| *other != name);
            write_json(&self.record_path(&record.id), &record)?;
            return Ok(Removed { untagged: vec![name], deleted: None });
        }
        let path = self.record_path(&record.id);
        std::fs::remove_file(&path).map_err(|cause| ImageError::store(&path, cause))?;
        self.collect()?;
        Ok(Removed { untagged: record.names, deleted: Some(record.id) })
    }

    /// Removes layers and blobs that no image uses.
    fn collect(&self) -> Result<(), ImageError> {
        let used: BTreeSet<String> = self
            .list()?
            .iter()
            .flat_map(|record| record.layers.iter().map(|layer| layer.blob.hex().to_owned()))
            .collect();
        let layers = self.root.join("layers");
        self.remove_unless(&layers, |path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            let record = serde_json::from_slice::<LayerRecord>(&bytes);
            record.is_ok_and(|record| used.contains(record.blob.hex()))
        })?;
        let blobs = self.root.join("blobs");
        self.remove_unless(&blobs, |path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| used.contains(name))
        })
    }

    fn remove_unless(
        &self,
        directory: &Path,
        keep: impl Fn(&Path) -> bool,
    ) -> Result<(), ImageError> {
        let failed = |cause| ImageError::store(directory, cause);
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !keep(&path) {
                std::fs::remove_file(&path).map_err(|cause| ImageError::store(&path, cause))?;
            }
        }
        Ok(())
    }
}

/// What removing an image did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// The image that is gone.
    pub deleted: Option<Digest>,
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ImageError> {
    home::write_json(path, value).map_err(|cause| ImageError::store(path, cause))
}

/// A name as the store keeps it: without docker's default registry, with a tag.
///
/// # Errors
/// [`ImageError::BadName`].
pub fn normal_name(text: &str) -> Result<String, ImageError> {
    let bad = || ImageError::BadName(text.to_owned());
    let name = text.strip_prefix("docker.io/").unwrap_or(text);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name.get(last..).and_then(|part| part.find(':')) {
        Some(colon) => name.split_at(last + colon),
        None => (name, ":latest"),
    };
    let tag = tag.trim_start_matches(':');
    let in_path = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let component = |part: &str| {
        part.bytes().all(|b| in_path(b) || matches!(b, b'.' | b'_' | b'-' | b':'))
            && part.bytes().next().is_some_and(in_path)
            && part.bytes().last().is_some_and(in_path)
    };
    let in_tag = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good_tag = (1..=128).contains(&tag.len()) && tag.bytes().all(in_tag);
    if path.len() > 255 || !path.split('/').all(component) || !good_tag {
        return Err(bad());
    }
    Ok(format!("{path}:{tag}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, name) in [
            ("busybox", "busybox:latest"),
            ("docker.io/library/busybox:1", "busybox:1"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ] {
            assert_eq!(normal_name(text).unwrap(), name);
        }
        for text in ["", "Upper", "a b", "a:", "a/", "/a", "a:b:c", "-a", "a@sha256:00"] {
            assert!(normal_name(text).is_err(), "{text}");
        }
    }
}
