//! The JSON documents of images: OCI index, manifest and configuration, and docker's `manifest.json`.
//!
//! Only what the daemon acts on is typed; unknown fields are ignored, `null` means absent, as the specifications demand.

use super::{digest::Digest, error::ImageError};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// Annotation that holds an image's tag in an OCI layout.
pub(crate) const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";
/// Annotation that holds an image's full name in archives by containerd.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";

/// Parses a document.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|cause| ImageError::BadDocument { what: what.to_owned(), cause })
}

/// Reads `null` as the default.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a manifest or index says about a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) platform: Option<Platform>,
}

/// What a variant of an image runs on.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
}

/// An index: several manifests.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) manifests: Vec<Descriptor>,
}

/// A manifest: a configuration and layers.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<Descriptor>,
}

/// One image of a docker archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ArchivedImage {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) layers: Vec<String>,
}

/// An image's configuration document.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    pub(crate) created: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) config: ImageConfig,
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) rootfs: RootFs,
}

/// The identities of the layers' uncompressed contents.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "nullable")]
    pub(crate) diff_ids: Vec<Digest>,
}

/// How containers of an image are run, with docker's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageConfig {
    /// `NAME=value` strings.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Program that gets `cmd` as arguments.
    #[serde(deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// Default command or arguments.
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Working directory.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// `user[:group]`.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Signal that asks the program to end.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Ports the program serves; recorded only.
    #[serde(deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Directories meant for volumes.
    #[serde(deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_means_absent() {
        let text = br#"{"config":{"Env":null,"Cmd":["sh"],"Labels":null},"rootfs":null}"#;
        let document: ConfigDocument = parse(text, "config").unwrap();
        assert_eq!(document.config.cmd, ["sh"]);
        assert!(document.config.env.is_empty() && document.rootfs.diff_ids.is_empty());
    }

    #[test]
    fn a_bad_digest_in_a_document_is_named() {
        let text = br#"{"config":{"digest":"sha256:../x","size":1},"layers":[]}"#;
        let refused = parse::<Manifest>(text, "manifest").unwrap_err();
        assert!(refused.to_string().contains("sha256:../x"), "{refused}");
    }
}
