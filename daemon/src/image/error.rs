//! Why an image could not be imported: one variant per cause, worded for the person who typed the command.

use super::digest::Digest;
use std::{io, path::PathBuf};

/// Why an image could not be imported, found or stored.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The source has none of the known forms.
    #[error(
        "'{0}' names no image: expected oci:DIR[:TAG], oci-archive:FILE[:TAG], \
         docker-archive:FILE[:TAG], rootfs:DIR or the name of an imported image"
    )]
    NotASource(String),
    /// No imported image has the name.
    #[error("no such image: {0} (import one with `mett image import SOURCE`)")]
    UnknownImage(String),
    /// An abbreviated image identity names several images.
    #[error("image identity '{0}' is ambiguous")]
    AmbiguousImage(String),
    /// The image is in use by a container.
    #[error("image {image} is used by container {container}: remove the container first")]
    InUse {
        /// The image as it was named.
        image: String,
        /// A container that uses it.
        container: String,
    },
    /// A name for an image is malformed.
    #[error("'{0}' is not a valid image name")]
    BadName(String),
    /// The file or directory does not exist or cannot be opened.
    #[error("cannot open {path}: {cause}", path = path.display())]
    CannotOpen {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The directory or archive is not an image of the stated form.
    #[error("{path} is not {form}: {reason}", path = path.display())]
    NotAnImage {
        /// The directory or archive.
        path: PathBuf,
        /// The form that was expected.
        form: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The tag is not in the index.
    #[error("no image with tag '{tag}' in {path} (it has: {present})", path = path.display())]
    UnknownTag {
        /// The directory or archive.
        path: PathBuf,
        /// The tag that was asked for.
        tag: String,
        /// The tags that exist.
        present: String,
    },
    /// Several images and no tag.
    #[error("{path} holds several images: name one of the tags {present}", path = path.display())]
    TagNeeded {
        /// The directory or archive.
        path: PathBuf,
        /// The tags that exist.
        present: String,
    },
    /// No manifest for this machine's platform.
    #[error("the image has no variant for linux/amd64 (it has: {0})")]
    WrongPlatform(String),
    /// A blob that the manifest names is missing.
    #[error("blob {0} is missing from the image")]
    MissingBlob(String),
    /// A digest string is malformed or of an unknown algorithm.
    #[error("'{0}' is not a digest of a known algorithm (sha256, sha512)")]
    BadDigest(String),
    /// A blob does not have the digest that names it.
    #[error("{what} has the wrong digest: expected {expected}, found {actual}")]
    WrongDigest {
        /// Which blob.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// A blob does not have the size its descriptor states.
    #[error("{what} has the wrong size: expected {expected} bytes, found {actual}")]
    WrongSize {
        /// Which blob.
        what: String,
        /// The stated size.
        expected: u64,
        /// The size it has.
        actual: u64,
    },
    /// A JSON document is malformed.
    #[error("{what} is malformed: {cause}")]
    BadDocument {
        /// Which document.
        what: String,
        /// What the parser says.
        cause: serde_json::Error,
    },
    /// A JSON document is far larger than such documents are.
    #[error("{what} is larger than {limit} bytes")]
    DocumentTooLarge {
        /// Which document.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// The layers and the diff identities of the configuration differ in number.
    #[error("the manifest has {layers} layers, the configuration {diff_ids}")]
    LayerCount {
        /// Layers in the manifest.
        layers: usize,
        /// Identities in the configuration.
        diff_ids: usize,
    },
    /// The layer's media type says that it cannot be read.
    #[error("layers of type {0} are not supported")]
    UnsupportedMediaType(String),
    /// A layer is compressed in a way that is not supported.
    #[error("{what} is compressed with {method}: only gzip, zstd and uncompressed are supported")]
    UnknownCompression {
        /// Which layer.
        what: String,
        /// The method.
        method: &'static str,
    },
    /// A layer or archive ends in the middle.
    #[error("{0} is truncated")]
    Truncated(String),
    /// A layer or archive is not a tar file, or a damaged one.
    #[error("{what} is not a valid tar archive: {reason}")]
    BadArchive {
        /// Which layer or archive.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A member of a layer would leave the image's root.
    #[error("refused '{path}': {reason}")]
    Escape {
        /// The member's name.
        path: String,
        /// How it would escape.
        reason: &'static str,
    },
    /// A member of a layer cannot exist as named.
    #[error("refused '{path}': {reason}")]
    BadMember {
        /// The member's name.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The layer unpacks to more than is allowed.
    #[error("{what} unpacks to more than {limit} {unit}: refused as a decompression bomb")]
    Bomb {
        /// Which layer.
        what: String,
        /// The limit.
        limit: u64,
        /// Bytes or members.
        unit: &'static str,
    },
    /// The store's disk is full.
    #[error("the disk that holds {path} is full", path = .0.display())]
    DiskFull(PathBuf),
    /// The store cannot be read or written.
    #[error("{path}: {cause}", path = path.display())]
    Store {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Reading the source failed.
    #[error("reading {what} failed: {cause}")]
    Read {
        /// What was read.
        what: String,
        /// Why.
        cause: io::Error,
    },
    /// The person who asked went away.
    #[error("import was interrupted")]
    Interrupted,
}

impl ImageError {
    /// Wraps a failure to write into the store; a full disk has its own variant.
    pub(crate) fn store(path: impl Into<PathBuf>, cause: io::Error) -> Self {
        let path = path.into();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            _ => Self::Store { path, cause },
        }
    }

    /// Wraps a failure to read `what`; an early end has its own variant.
    pub(crate) fn read(what: &str, cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated(what.to_owned()),
            _ => Self::Read { what: what.to_owned(), cause },
        }
    }
}
