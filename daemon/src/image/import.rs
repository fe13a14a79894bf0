//! Imports an image: each layer that the store does not have becomes a blob, and then the image gets its record.

use super::{
    compression,
    config::{self, ConfigDocument, ImageConfig},
    digest::{Algorithm, Digest, HashingReader},
    docker,
    erofs::{Blob, BlobWriter, reader::BlobReader},
    error::ImageError,
    files::{self, Files},
    layer::{self, Limits},
    oci, rootfs,
    source::{Found, Layer, Source},
    store::{self, ImageRecord, ImageStore, StoredLayer},
    tree::{Kind, ROOT, Tree},
};
use crate::home;
use std::{
    cell::Cell,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Default search path of a container without one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How far an import has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// The layer at work, from 1.
    pub layer: u32,
    /// Layers in all.
    pub layers: u32,
    /// Bytes of the layer's stored form that were read.
    pub done: u64,
    /// Bytes of the layer's stored form; 0 when not known.
    pub total: u64,
}

/// Called now and then; an error ends the import.
type Report<'a> = dyn FnMut(&Progress) -> Result<(), ImageError> + 'a;

/// Imports an image and gives its record. `name` overrides the names the source has.
///
/// # Errors
/// Every variant of [`ImageError`] that concerns sources, layers and the store.
pub fn import(
    store: &ImageStore,
    source: &Source,
    name: Option<&str>,
    limits: Limits,
    report: &mut Report<'_>,
) -> Result<ImageRecord, ImageError> {
    let name = name.map(store::normal_name).transpose()?;
    let scratch = store.scratch();
    // An archive holds every layer, so the limit of one layer would be too low for it.
    let limit = limits.bytes.saturating_mul(4);
    let archive = |path: &Path, form| Files::archive(path, &scratch, limit, form);
    let found = match source {
        Source::RootFs { path } => {
            return Import { store, limits, report }.rootfs(path, source, name);
        }
        Source::Oci { path, tag } => oci::find(Files::directory(path)?, tag.as_deref())?,
        Source::OciArchive { path, tag } => {
            oci::find(archive(path, "an OCI archive")?, tag.as_deref())?
        }
        Source::DockerArchive { path, tag } => {
            docker::find(archive(path, "a docker archive")?, tag.as_deref())?
        }
    };
    Import { store, limits, report }.image(found, source, name)
}

struct Import<'a, 'b> {
    store: &'a ImageStore,
    limits: Limits,
    report: &'a mut Report<'b>,
}

impl Import<'_, '_> {
    fn image(
        mut self,
        found: Found,
        source: &Source,
        name: Option<String>,
    ) -> Result<ImageRecord, ImageError> {
        let document: ConfigDocument = config::parse(&found.config, "the image's configuration")?;
        let platform = (document.os.as_str(), document.architecture.as_str());
        if !matches!(platform, ("linux" | "", "amd64" | "")) {
            let present = format!("{}/{}", document.os, document.architecture);
            return Err(ImageError::WrongPlatform(present));
        }
        let diff_ids = document.rootfs.diff_ids;
        if diff_ids.len() != found.layers.len() {
            let (layers, diff_ids) = (found.layers.len(), diff_ids.len());
            return Err(ImageError::LayerCount { layers, diff_ids });
        }
        let mut layers = Vec::new();
        let mut progress = Progress {
            layers: u32::try_from(found.layers.len()).unwrap_or(u32::MAX),
            ..Progress::default()
        };
        for (layer, diff_id) in found.layers.iter().zip(diff_ids) {
            progress.layer += 1;
            let blob = self.layer(layer, &diff_id, &layers, &mut progress)?;
            layers.push(StoredLayer { diff_id, blob: blob.digest, length: blob.length });
        }
        // A name that this store cannot express is no reason to refuse the image.
        let own = found.names.iter().filter_map(|name| store::normal_name(name).ok());
        self.store.add(ImageRecord {
            id: Digest::of(&found.config),
            names: name.map_or_else(|| own.collect(), |name| vec![name]),
            config: document.config,
            layers,
            created: document.created,
            imported: home::now(),
            source: source.to_string(),
        })
    }

    /// The blob of a layer: from the store, or made.
    fn layer(
        &mut self,
        layer: &Layer,
        diff_id: &Digest,
        lower: &[StoredLayer],
        progress: &mut Progress,
    ) -> Result<Blob, ImageError> {
        let chain = chain_id(lower, diff_id);
        if let Some(blob) = self.store.layer(diff_id).or_else(|| self.store.layer(&chain)) {
            return Ok(blob);
        }
        let scratch = Scratch::new(self.store.scratch().join(format!("layer-{}", chain.hex())));
        let mut writer = scratch.blob()?;
        let mut tree = self.unpack(layer, diff_id, &mut writer, &scratch, progress)?;
        let depends = inherit(&mut tree, lower, self.store)?;
        tree.settle();
        let blob = scratch.finish(writer, &tree)?;
        self.store.add_layer(if depends { &chain } else { diff_id }, &blob, &scratch.path)?;
        Ok(blob)
    }

    /// Unpacks a layer and checks both of its digests.
    fn unpack(
        &mut self,
        layer: &Layer,
        diff_id: &Digest,
        writer: &mut BlobWriter,
        scratch: &Scratch,
        progress: &mut Progress,
    ) -> Result<Tree, ImageError> {
        let (stream, length) = (layer.open)()?;
        if let Some(expected) = layer.size.filter(|size| *size != length) {
            let what = layer.what.clone();
            return Err(ImageError::WrongSize { what, expected, actual: length });
        }
        progress.total = length;
        let done = Cell::new(0);
        let algorithm = layer.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let counted = Counted { inner: stream, done: &done };
        let mut stored = HashingReader::new(counted, algorithm);
        let result = {
            let plain = compression::uncompress(&mut stored, &layer.what);
            plain.and_then(|plain| {
                let mut report = || {
                    progress.done = done.get();
                    (self.report)(progress)
                };
                let (what, path) = (&layer.what, &scratch.path);
                let algorithm = diff_id.algorithm();
                layer::unpack(plain, algorithm, what, self.limits, writer, path, &mut report)
            })
        };
        // A stored form with the wrong digest is the cause of whatever else is wrong with it; but what exceeds a limit is not read further.
        let bounded = !matches!(result, Err(ImageError::Bomb { .. } | ImageError::Interrupted));
        if let Some(expected) = layer.digest.as_ref().filter(|_| bounded) {
            let (actual, _) =
                stored.finish().map_err(|cause| ImageError::read(&layer.what, cause))?;
            check_digest(&layer.what, expected, actual)?;
        }
        let unpacked = result?;
        let what = format!("{}, uncompressed,", layer.what);
        check_digest(&what, diff_id, unpacked.diff_id)?;
        Ok(unpacked.tree)
    }

    fn rootfs(
        self,
        path: &Path,
        source: &Source,
        name: Option<String>,
    ) -> Result<ImageRecord, ImageError> {
        Files::directory(path)?;
        let scratch = Scratch::new(self.store.scratch().join(format!("rootfs-{}", home::token())));
        let mut writer = scratch.blob()?;
        let mut report = || (self.report)(&Progress { layer: 1, layers: 1, done: 0, total: 0 });
        let mut tree = rootfs::read(path, self.limits, &mut writer, &scratch.path, &mut report)?;
        tree.settle();
        let blob = scratch.finish(writer, &tree)?;
        // Without an archive there is no other identity than the blob's own.
        self.store.add_layer(&blob.digest, &blob, &scratch.path)?;
        let stem = path.file_name().map(|stem| stem.to_string_lossy().to_lowercase());
        let own = stem.and_then(|stem| store::normal_name(&stem).ok());
        let (diff_id, length) = (blob.digest.clone(), blob.length);
        self.store.add(ImageRecord {
            id: Digest::of(format!("rootfs {}", blob.digest).as_bytes()),
            names: name.or(own).into_iter().collect(),
            config: ImageConfig {
                env: vec![DEFAULT_PATH.to_owned()],
                cmd: vec!["/bin/sh".to_owned()],
                ..ImageConfig::default()
            },
            layers: vec![StoredLayer { diff_id, blob: blob.digest, length }],
            created: None,
            imported: home::now(),
            source: source.to_string(),
        })
    }
}

fn check_digest(what: &str, expected: &Digest, actual: Digest) -> Result<(), ImageError> {
    if actual == *expected {
        return Ok(());
    }
    Err(ImageError::WrongDigest { what: what.to_owned(), expected: expected.clone(), actual })
}

/// Identity of a layer together with all below it.
fn chain_id(lower: &[StoredLayer], diff_id: &Digest) -> Digest {
    let start = String::from("chain");
    let text = lower.iter().fold(start, |text, layer| format!("{text} {}", layer.diff_id));
    Digest::of(format!("{text} {diff_id}").as_bytes())
}

/// Gives the directories that a layer only implies the attributes they have below. Whether the layer depends on those below it.
fn inherit(tree: &mut Tree, lower: &[StoredLayer], store: &ImageStore) -> Result<bool, ImageError> {
    let mut implied = tree.implied();
    implied.retain(|(id, _)| *id != ROOT);
    if implied.is_empty() || lower.is_empty() {
        return Ok(false);
    }
    for layer in lower {
        let path = store.blob_path(&layer.blob);
        let failed = |cause| ImageError::store(&path, cause);
        let file = File::open(&path).map_err(failed)?;
        let mut reader = BlobReader::new(file).map_err(failed)?;
        for (id, inside) in &implied {
            let Some(mut attributes) = reader.directory(inside).map_err(failed)? else { continue };
            attributes.xattrs.retain(|name, _| !name.starts_with(b"trusted.overlay."));
            let node = tree.node_mut(*id);
            if matches!(node.kind, Kind::Directory(_)) {
                node.attributes = attributes;
            }
        }
    }
    Ok(true)
}

/// A file being made; removed unless it was published.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(path: PathBuf) -> Self {
        Self { path: path.with_extension(home::token()) }
    }

    fn blob(&self) -> Result<BlobWriter, ImageError> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&self.path);
        file.and_then(BlobWriter::new).map_err(|cause| ImageError::store(&self.path, cause))
    }

    fn finish(&self, writer: BlobWriter, tree: &Tree) -> Result<Blob, ImageError> {
        writer.finish(tree).map_err(|cause| ImageError::store(&self.path, cause))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Published files have another name by then.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Counts what is read.
struct Counted<'a> {
    inner: files::Stream,
    done: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.done.set(self.done.get() + length as u64);
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
