//! OCI image layouts, as a directory or in an archive: from `index.json` to configuration and layers, every digest checked.

use super::{
    config::{self, Descriptor, Index, Manifest},
    digest::{Algorithm, Digest, HashingReader},
    error::ImageError,
    files::Files,
    source::{Found, Layer, OpenLayer},
};
use std::{io::Read, path::Path, rc::Rc};

const FORM: &str = "an OCI image layout";
/// Indexes inside indexes that are followed.
const MAX_DEPTH: usize = 4;

/// Finds an image in a layout.
pub(crate) fn find(files: Files, tag: Option<&str>) -> Result<Found, ImageError> {
    let not_an_image = |reason: &str| ImageError::NotAnImage {
        path: files.path().to_owned(),
        form: FORM,
        reason: reason.to_owned(),
    };
    let index = files.read("index.json")?.ok_or_else(|| not_an_image("it has no index.json"))?;
    let index: Index = config::parse(&index, "index.json")?;
    if index.manifests.is_empty() {
        return Err(not_an_image("its index.json lists no image"));
    }
    let chosen = choose(&index.manifests, tag, files.path())?;
    let names = names(&chosen, files.path());
    let manifest = manifest(&files, chosen)?;
    let config = verified(&files, &manifest.config, "the image's configuration")?;
    let files = Rc::new(files);
    let layers = manifest.layers.into_iter().enumerate();
    let layers = layers.map(|(number, layer)| open_later(&files, number, layer));
    Ok(Found { config, layers: layers.collect::<Result<_, _>>()?, names })
}

fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(config::TAG_ANNOTATION).map(String::as_str)
}

fn is_tagged(entry: &Descriptor, tag: &str) -> bool {
    let short = |name: &str| name.rsplit_once(':').is_some_and(|(_, last)| last == tag);
    let full = entry.annotations.get(config::NAME_ANNOTATION);
    tag_of(entry).is_some_and(|name| name == tag || short(name))
        || full.is_some_and(|name| name == tag || short(name))
}

/// The entries of the index that the tag names: one, or the variants of one.
fn choose(
    manifests: &[Descriptor],
    tag: Option<&str>,
    path: &Path,
) -> Result<Vec<Descriptor>, ImageError> {
    let mut tags: Vec<_> = manifests.iter().filter_map(tag_of).collect();
    tags.sort_unstable();
    tags.dedup();
    let present = if tags.is_empty() { "none".to_owned() } else { tags.join(", ") };
    let path = path.to_owned();
    match tag {
        Some(tag) => {
            let chosen: Vec<_> =
                manifests.iter().filter(|entry| is_tagged(entry, tag)).cloned().collect();
            if chosen.is_empty() {
                return Err(ImageError::UnknownTag { path, tag: tag.to_owned(), present });
            }
            Ok(chosen)
        }
        None if tags.len() > 1 => Err(ImageError::TagNeeded { path, present }),
        None => Ok(manifests.to_vec()),
    }
}

/// The names a layout gives: a full one from the annotations, or the directory's name with the tag.
fn names(chosen: &[Descriptor], path: &Path) -> Vec<String> {
    let Some(entry) = chosen.first() else { return Vec::new() };
    if let Some(name) = entry.annotations.get(config::NAME_ANNOTATION) {
        return vec![name.clone()];
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    match (tag_of(entry), stem) {
        (Some(tag), _) if tag.contains([':', '/']) => vec![tag.to_owned()],
        (Some(tag), Some(stem)) => vec![format!("{stem}:{tag}")],
        (None, Some(stem)) => vec![stem],
        _ => Vec::new(),
    }
}

/// Follows indexes to the manifest for this platform.
fn manifest(files: &Files, mut entries: Vec<Descriptor>) -> Result<Manifest, ImageError> {
    for _ in 0..MAX_DEPTH {
        let entry = for_platform(&entries)?;
        let bytes = verified(files, &entry, "the manifest")?;
        let is_index = entry.media_type.contains("index")
            || entry.media_type.contains("manifest.list")
            || (entry.media_type.is_empty() && !has_config(&bytes));
        if !is_index {
            return config::parse(&bytes, "the manifest");
        }
        entries = config::parse::<Index>(&bytes, "the index")?.manifests;
    }
    Err(ImageError::NotAnImage {
        path: files.path().to_owned(),
        form: FORM,
        reason: "its indexes are nested too deeply".to_owned(),
    })
}

fn has_config(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|v| v.get("config").is_some())
}

fn for_platform(entries: &[Descriptor]) -> Result<Descriptor, ImageError> {
    let fits = |entry: &&Descriptor| match &entry.platform {
        None => true,
        Some(platform) => platform.os == "linux" && platform.architecture == "amd64",
    };
    entries.iter().find(fits).cloned().ok_or_else(|| {
        let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
        let present = platforms.map(|p| format!("{}/{}", p.os, p.architecture));
        ImageError::WrongPlatform(present.collect::<Vec<_>>().join(", "))
    })
}

/// A blob's name in a layout.
fn blob_name(digest: &Digest) -> String {
    let algorithm = match digest.algorithm() {
        Algorithm::Sha256 => "sha256",
        Algorithm::Sha512 => "sha512",
    };
    format!("blobs/{algorithm}/{}", digest.hex())
}

/// Reads a small blob and checks its size and digest.
fn verified(files: &Files, entry: &Descriptor, what: &str) -> Result<Vec<u8>, ImageError> {
    let bytes = files
        .read(&blob_name(&entry.digest))?
        .ok_or_else(|| ImageError::MissingBlob(entry.digest.to_string()))?;
    let mut reader = HashingReader::new(&bytes[..], entry.digest.algorithm());
    let mut copy = Vec::with_capacity(bytes.len());
    reader.read_to_end(&mut copy).map_err(|cause| ImageError::read(what, cause))?;
    let (actual, _) = reader.finish().map_err(|cause| ImageError::read(what, cause))?;
    if actual != entry.digest {
        let expected = entry.digest.clone();
        return Err(ImageError::WrongDigest { what: what.to_owned(), expected, actual });
    }
    Ok(bytes)
}

/// Describes a layer without reading it.
fn open_later(files: &Rc<Files>, number: usize, entry: Descriptor) -> Result<Layer, ImageError> {
    if entry.media_type.contains("encrypted") || entry.media_type.contains("foreign") {
        return Err(ImageError::UnsupportedMediaType(entry.media_type));
    }
    let name = blob_name(&entry.digest);
    let files = Rc::clone(files);
    let digest = entry.digest.clone();
    let open: OpenLayer = Box::new(move || {
        files.open(&name)?.ok_or_else(|| ImageError::MissingBlob(digest.to_string()))
    });
    let short = entry.digest.hex().get(..12).unwrap_or_default().to_owned();
    let what = format!("layer {} ({short})", number + 1);
    Ok(Layer { what, digest: Some(entry.digest), size: Some(entry.size), open })
}
