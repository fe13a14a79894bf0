//! Builds OCI archives from the distribution's packages, for the demonstration and the tests.
//!
//! Owns: the archive's form (image-spec v1.1 image layout in a tar). Must not know: how images are imported.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Writes an OCI archive of the distribution's BusyBox, byte for byte unmodified, with its applets as symbolic links.
pub(crate) fn busybox(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join("busybox.tar");
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    fs::write(&path, archive(&files(&[Stored::plain(busybox_layer()?)], &config)?)?)?;
    Ok(path)
}

/// The layer of that archive.
pub(crate) fn busybox_layer() -> Result<Vec<u8>> {
    let program = program("busybox")?;
    let bytes =
        fs::read(&program).with_context(|| format!("{} cannot be read", program.display()))?;
    let listed =
        Command::new(&program).arg("--list").output().context("busybox cannot be started")?;
    ensure!(listed.status.success(), "busybox --list failed");
    let mut layer = Layer::default();
    for (name, mode) in
        [("bin/", 0o755), ("etc/", 0o755), ("root/", 0o700), ("tmp/", 0o1777), ("home/", 0o755)]
    {
        layer.directory(name, mode)?;
    }
    layer.file("bin/busybox", 0o755, &bytes)?;
    for applet in String::from_utf8_lossy(&listed.stdout).lines().filter(|name| *name != "busybox")
    {
        layer.link(&format!("bin/{applet}"), "busybox")?;
    }
    layer.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/sh\n",
    )?;
    layer.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    layer.finish()
}

/// A program on the path.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    std::env::var_os("PATH")
        .and_then(|path| {
            std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
        })
        .with_context(|| format!("{name} is not on the path (cargo xtask setup installs it)"))
}

/// A layer's tar in the making.
pub(crate) struct Layer(pub(crate) tar::Builder<Vec<u8>>);

impl Default for Layer {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Layer {
    pub(crate) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    }

    pub(crate) fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Directory, mode, 0);
        Ok(self.0.append_data(&mut header, path, &[][..])?)
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Regular, mode, bytes.len() as u64);
        Ok(self.0.append_data(&mut header, path, bytes)?)
    }

    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = Self::header(tar::EntryType::Symlink, 0o777, 0);
        Ok(self.0.append_link(&mut header, path, target)?)
    }

    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

/// A layer as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Its bytes, compressed or not.
    pub(crate) bytes: Vec<u8>,
    /// What follows `tar` in its media type.
    pub(crate) compression: &'static str,
    /// Digest of the tar.
    pub(crate) diff_id: String,
}

impl Stored {
    /// A layer that is not compressed.
    pub(crate) fn plain(tar: Vec<u8>) -> Self {
        Self { diff_id: digest(&tar), bytes: tar, compression: "" }
    }
}

/// The files of an image layout with one image, tagged `latest`.
pub(crate) fn files(layers: &[Stored], config: &Value) -> Result<Vec<(String, Vec<u8>)>> {
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    }))?;
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() });
    let stored: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor(&format!("layer.v1.tar{}", layer.compression), &layer.bytes))
        .collect();
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config), "layers": stored,
    }))?;
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index),
    ];
    let blobs = layers.iter().map(|layer| &layer.bytes).chain([&config, &manifest]);
    files.extend(blobs.map(|blob| (format!("blobs/sha256/{}", digest(blob)), blob.clone())));
    Ok(files)
}

/// The files in one archive.
pub(crate) fn archive(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut outer = Layer::default();
    for (path, bytes) in files {
        outer.file(path, 0o644, bytes)?;
    }
    outer.finish()
}

/// SHA-256 in hexadecimal digits.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
