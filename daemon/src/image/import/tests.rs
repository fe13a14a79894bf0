//! Whole imports from images built here: what is kept, what is shared, and what is refused.

use super::*;
use crate::scratch::Scratch as Directory;
use serde_json::{Value, json};
use std::{io::Write as _, process::Command};

/// An OCI layout under construction.
struct Layout {
    directory: Directory,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
}

impl Layout {
    fn new() -> Self {
        let directory = Directory::new("layout");
        std::fs::create_dir_all(directory.path().join("image/blobs/sha256")).unwrap();
        Self { directory, layers: Vec::new(), diff_ids: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn blob(&self, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(self.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({ "digest": digest, "size": bytes.len() })
    }

    fn layer(mut self, tar: &[u8], compress: fn(&[u8]) -> Vec<u8>) -> Self {
        let descriptor = self.blob(&compress(tar));
        self.layers.push(descriptor);
        self.diff_ids.push(Digest::of(tar).to_string());
        self
    }

    fn finish(self, config: &Value) -> Self {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        });
        let config = self.blob(config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": self.layers });
        let mut manifest = self.blob(manifest.to_string().as_bytes());
        manifest["annotations"] = json!({ config::TAG_ANNOTATION: "v1" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        std::fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        self
    }

    fn source(&self) -> Source {
        Source::Oci { path: self.path(), tag: None }
    }

    fn archive(&self) -> PathBuf {
        let path = self.directory.path().join("image.tar");
        let status =
            Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(self.path()).arg(".").status();
        assert!(status.unwrap().success());
        path
    }
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn tar(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, mode, text) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(text.len() as u64);
        if name.ends_with('/') {
            header.set_entry_type(::tar::EntryType::Directory);
        }
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

struct Store {
    directory: Directory,
    store: ImageStore,
}

fn store() -> Store {
    let directory = Directory::new("store");
    let store = ImageStore::open(directory.path()).unwrap();
    Store { directory, store }
}

impl Store {
    fn import(&self, source: &Source) -> Result<ImageRecord, ImageError> {
        import(&self.store, source, None, Limits::default(), &mut |_| Ok(()))
    }

    fn count(&self, name: &str) -> usize {
        std::fs::read_dir(self.directory.path().join(name)).unwrap().count()
    }

    /// An import fails for this reason and leaves nothing behind.
    fn check_refused(&self, source: &Source, reason: &str) {
        let before = self.count("blobs");
        let error = self.import(source).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(self.count("scratch"), 0);
        assert_eq!(self.count("blobs"), before);
        assert_eq!(self.count("records"), 0);
    }
}

fn config() -> Value {
    json!({ "Cmd": ["/bin/true"], "Env": ["A=1"], "User": "daemon", "StopSignal": "SIGQUIT" })
}

#[test]
fn every_form_and_compression_gives_the_same_layers() {
    let layer = tar(&[("bin/", 0o755, ""), ("bin/true", 0o755, &"x".repeat(5000))]);
    let mut seen = Vec::new();
    for compress in [plain, gzip, zstandard] {
        let layout = Layout::new().layer(&layer, compress).finish(&config());
        let store = store();
        let record = store.import(&layout.source()).unwrap();
        assert_eq!(record.names, ["image:v1"]);
        assert_eq!(record.config.cmd, ["/bin/true"]);
        assert_eq!(record.config.stop_signal, "SIGQUIT");
        seen.push(record.layers);
        let archive = Source::OciArchive { path: layout.archive(), tag: Some("v1".to_owned()) };
        let again = import(&store.store, &archive, Some("x"), Limits::default(), &mut |_| Ok(()));
        let again = again.unwrap();
        assert_eq!((again.id, again.layers), (record.id, seen[0].clone()));
        assert_eq!(again.names, ["image:v1", "x:latest"]);
    }
    assert!(seen.iter().all(|layers| *layers == seen[0]));
}

#[test]
fn layers_of_two_images_are_stored_once_and_removed_with_the_last() {
    let base = tar(&[("base", 0o644, &"b".repeat(10_000))]);
    let store = store();
    let one = Layout::new().layer(&base, gzip).finish(&json!({ "Cmd": ["one"] }));
    let two = Layout::new()
        .layer(&base, zstandard)
        .layer(&tar(&[("top", 0o644, "t")]), plain)
        .finish(&json!({ "Cmd": ["two"] }));
    let import = |layout: &Layout, name| {
        let mut report = |_: &Progress| Ok(());
        import(&store.store, &layout.source(), Some(name), Limits::default(), &mut report).unwrap()
    };
    let (first, second) = (import(&one, "one"), import(&two, "two"));
    assert_eq!(first.layers[0], second.layers[0]);
    assert_eq!(store.count("blobs"), 2);
    assert_eq!(store.store.remove("one").unwrap().deleted, Some(first.id));
    assert_eq!(store.count("blobs"), 2);
    store.store.remove(second.id.hex().get(..12).unwrap()).unwrap();
    assert_eq!((store.count("blobs"), store.count("layers")), (0, 0));
}

#[test]
fn damaged_images_are_refused_with_the_cause() {
    let good = || Layout::new().layer(&tar(&[("f", 0o644, "text")]), gzip).finish(&config());
    let store = store();
    let edit = |layout: &Layout, change: &dyn Fn(&mut Vec<u8>)| {
        let digest = layout.layers[0]["digest"].as_str().unwrap();
        let hex = digest.strip_prefix("sha256:").unwrap();
        let path = layout.path().join("blobs/sha256").join(hex);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    let layout = good();
    edit(&layout, &|bytes| bytes[20] ^= 1);
    store.check_refused(&layout.source(), "wrong digest");
    edit(&layout, &|bytes| bytes.truncate(20));
    store.check_refused(&layout.source(), "wrong size");
    let layout = good();
    std::fs::write(layout.path().join("index.json"), "{").unwrap();
    store.check_refused(&layout.source(), "index.json is malformed");
    std::fs::remove_file(layout.path().join("index.json")).unwrap();
    store.check_refused(&layout.source(), "has no index.json");
    store.check_refused(&Source::Oci { path: "/nowhere".into(), tag: None }, "cannot open");
    let layout = good();
    let source = Source::Oci { path: layout.path(), tag: Some("v2".to_owned()) };
    store.check_refused(&source, "no image with tag 'v2'");
    let archive = layout.archive();
    let whole = std::fs::read(&archive).unwrap();
    std::fs::write(&archive, &whole[..whole.len() / 2]).unwrap();
    store.check_refused(&Source::OciArchive { path: archive.clone(), tag: None }, "truncated");
    std::fs::write(&archive, vec![b'x'; 5000]).unwrap();
    store.check_refused(&Source::OciArchive { path: archive, tag: None }, "not an OCI archive");
}

#[test]
fn wrong_contents_behind_right_digests_are_refused() {
    let store = store();
    let mut layout = Layout::new().layer(&tar(&[("f", 0o644, "text")]), gzip);
    layout.diff_ids[0] = Digest::of(b"other").to_string();
    store.check_refused(&layout.finish(&config()).source(), "wrong digest");
    let mut layout = Layout::new().layer(&tar(&[("f", 0o644, "text")]), gzip);
    layout.diff_ids.clear();
    store.check_refused(&layout.finish(&config()).source(), "the configuration 0");
    let xz = |_: &[u8]| b"\xfd7zXZ\0and so on".to_vec();
    let layout = Layout::new().layer(&tar(&[]), xz).finish(&config());
    store.check_refused(&layout.source(), "compressed with xz");
    let layout = Layout::new().layer(&[b'x'; 2000], gzip).finish(&config());
    store.check_refused(&layout.source(), "not a valid tar archive");
}

#[test]
fn a_docker_archive_is_read_and_verified() {
    let scratch = Directory::new("docker");
    let layer = tar(&[("f", 0o644, "text")]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config(),
        "rootfs": { "diff_ids": [Digest::of(&layer)] },
    })
    .to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest =
        json!([{ "Config": name, "RepoTags": ["box:1"], "Layers": ["aa/layer.tar"] }]).to_string();
    let write = |layer: &[u8]| {
        let mut builder = ::tar::Builder::new(Vec::new());
        let members = [
            ("manifest.json", manifest.as_bytes()),
            (&name, config.as_bytes()),
            ("aa/layer.tar", layer),
        ];
        for (name, bytes) in members {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        let path = scratch.path().join("saved.tar.gz");
        std::fs::write(&path, gzip(&builder.into_inner().unwrap())).unwrap();
        Source::DockerArchive { path, tag: None }
    };
    let store = store();
    store.check_refused(&write(&tar(&[("f", 0o644, "evil")])), "wrong digest");
    let record = store.import(&write(&layer)).unwrap();
    assert_eq!(
        (record.names.as_slice(), record.config.user.as_str()),
        (&["box:1".to_owned()][..], "daemon")
    );
}

#[test]
fn implied_directories_look_as_they_do_below() {
    let store = store();
    let layout = Layout::new()
        .layer(&tar(&[("tmp/", 0o1777, "")]), gzip)
        .layer(&tar(&[("tmp/deep/file", 0o644, "x")]), gzip)
        .finish(&config());
    let record = store.import(&layout.source()).unwrap();
    let blob = File::open(store.store.blob_path(&record.layers[1].blob)).unwrap();
    let mut reader = BlobReader::new(blob).unwrap();
    let tmp = reader.directory(&[b"tmp".to_vec()]).unwrap().unwrap();
    assert_eq!(tmp.permissions, 0o1777);
    let deep = reader.directory(&[b"tmp".to_vec(), b"deep".to_vec()]).unwrap().unwrap();
    assert_eq!(deep.permissions, 0o755);
    // The second import finds the layer by its place above the first.
    assert_eq!(store.import(&layout.source()).unwrap().layers, record.layers);
}

#[test]
fn a_directory_becomes_an_image() {
    let scratch = Directory::new("rootfs");
    let root = scratch.path().join("tree");
    std::fs::create_dir_all(root.join("bin")).unwrap();
    std::fs::write(root.join("bin/sh"), vec![b'x'; 3000]).unwrap();
    std::fs::hard_link(root.join("bin/sh"), root.join("bin/ash")).unwrap();
    std::os::unix::fs::symlink("sh", root.join("bin/bash")).unwrap();
    let store = store();
    let source = Source::RootFs { path: root.clone() };
    let record = store.import(&source).unwrap();
    assert_eq!(
        (record.names.as_slice(), record.config.cmd.as_slice()),
        (&["tree:latest".to_owned()][..], &["/bin/sh".to_owned()][..])
    );
    assert_eq!(store.import(&source).unwrap().id, record.id);
    let blob = store.store.blob_path(&record.layers[0].blob);
    let status = Command::new("fsck.erofs").arg(&blob).output().unwrap().status;
    assert!(status.success());
    store.store.remove("tree").unwrap();
    store.check_refused(&Source::RootFs { path: root.join("bin/sh") }, "cannot open");
}

#[test]
fn an_interrupted_import_leaves_nothing() {
    let store = store();
    let layout = Layout::new().layer(&tar(&[("f", 0o644, "text")]), gzip).finish(&config());
    let mut report = |_: &Progress| Err(ImageError::Interrupted);
    let result = import(&store.store, &layout.source(), None, Limits::default(), &mut report);
    assert!(matches!(result, Err(ImageError::Interrupted)));
    assert_eq!((store.count("scratch"), store.count("blobs")), (0, 0));
}
