//! Where an image comes from: the forms a user can name, and what each of them gives.

use super::{digest::Digest, error::ImageError, files::Opened};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// An image outside the store, as the user named it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Source {
    /// An OCI image layout.
    Oci {
        /// Its directory.
        path: PathBuf,
        /// Which image.
        tag: Option<String>,
    },
    /// An OCI image layout in a tar archive.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// Which image.
        tag: Option<String>,
    },
    /// What `docker save` writes.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// Which image.
        tag: Option<String>,
    },
    /// A directory that is the root file system.
    RootFs {
        /// The directory.
        path: PathBuf,
    },
}

impl Source {
    /// Understands `FORM:PATH[:TAG]`; none when the text has no known form, so that it can be the name of an imported image.
    /// Relative paths are taken relative to `directory`.
    #[must_use]
    pub fn parse(text: &str, directory: &Path) -> Option<Self> {
        let (form, rest) = text.split_once(':')?;
        match form {
            "rootfs" => Some(Self::RootFs { path: directory.join(rest) }),
            "oci" => {
                let (path, tag) = split_tag(rest, directory);
                Some(Self::Oci { path, tag })
            }
            "oci-archive" => {
                let (path, tag) = split_tag(rest, directory);
                Some(Self::OciArchive { path, tag })
            }
            "docker-archive" => {
                let (path, tag) = split_tag(rest, directory);
                Some(Self::DockerArchive { path, tag })
            }
            _ => None,
        }
    }

    /// The directory or file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Oci { path, .. }
            | Self::OciArchive { path, .. }
            | Self::DockerArchive { path, .. }
            | Self::RootFs { path } => path,
        }
    }
}

/// Splits `PATH[:TAG]` at the first colon that leaves a path that exists; when none does, at the last.
fn split_tag(text: &str, directory: &Path) -> (PathBuf, Option<String>) {
    if directory.join(text).exists() {
        return (directory.join(text), None);
    }
    let colons: Vec<_> = text.match_indices(':').map(|(index, _)| index).collect();
    let exists = colons
        .iter()
        .find(|index| text.get(..**index).is_some_and(|path| directory.join(path).exists()));
    match exists.or(colons.last()).and_then(|index| text.split_at_checked(*index)) {
        Some((path, tag)) => (directory.join(path), Some(tag.trim_start_matches(':').to_owned())),
        None => (directory.join(text), None),
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, tag) = match self {
            Self::Oci { tag, .. } => ("oci", tag.as_deref()),
            Self::OciArchive { tag, .. } => ("oci-archive", tag.as_deref()),
            Self::DockerArchive { tag, .. } => ("docker-archive", tag.as_deref()),
            Self::RootFs { .. } => ("rootfs", None),
        };
        write!(f, "{form}:{}", self.path().display())?;
        tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

/// An image found in a source: its configuration and how to read its layers.
pub(crate) struct Found {
    /// The configuration document, verified if the source names its digest.
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Layer>,
    /// Names the source gives to the image.
    pub(crate) names: Vec<String>,
}

/// Opens a layer's stored form; each call begins anew.
pub(crate) type OpenLayer = Box<dyn Fn() -> Result<Opened, ImageError>>;

/// A layer in a source.
pub(crate) struct Layer {
    /// How errors name it.
    pub(crate) what: String,
    /// Digest of the stored form.
    pub(crate) digest: Option<Digest>,
    /// Length of the stored form.
    pub(crate) size: Option<u64>,
    pub(crate) open: OpenLayer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn the_tag_is_what_follows_the_path() {
        let scratch = Scratch::new("source");
        std::fs::create_dir(scratch.path().join("a:b")).unwrap();
        let parse = |text: &str| Source::parse(text, scratch.path());
        let oci = |path: &str, tag: Option<&str>| {
            Some(Source::Oci { path: scratch.path().join(path), tag: tag.map(str::to_owned) })
        };
        assert_eq!(parse("oci:a:b"), oci("a:b", None));
        assert_eq!(parse("oci:a:b:x/y:1"), oci("a:b", Some("x/y:1")));
        assert_eq!(parse("oci:missing"), oci("missing", None));
        assert_eq!(parse("oci:missing:tag"), oci("missing", Some("tag")));
        assert_eq!(parse("busybox:latest"), None);
    }
}
