//! Images on their way in: archives, layers, and the blobs the personality reads.

use daemon::image::{ImageError, ImageStore, Limits, Source, digest::Digest, import};
use kernel_abi::PAGE_SIZE;
use personality::{
    file::erofs::{Image, Inode},
    linux::{S_IFDIR, S_IFMT},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// What an import may take.
const LIMITS: Limits = Limits { bytes: 1 << 20, members: 1000 };
/// Inodes that are looked at in one image.
const MAX_INODES: usize = 1000;

/// A directory of one run.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fuzz-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the temporary directory can be written");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A run that failed early has left nothing to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

/// Imports; a refusal leaves nothing behind, and what was accepted can be read by the personality.
fn check(scratch: &Scratch, store: &str, source: &Source) {
    let root = scratch.0.join(store);
    let store = ImageStore::open(&root).expect("a store");
    let imported = import(&store, source, Some("fuzz"), LIMITS, &mut |_| Ok(()));
    assert_eq!(count(&root.join("scratch")), 0, "scratch files stay");
    match imported {
        Ok(_) => {
            for entry in fs::read_dir(root.join("blobs")).expect("the store has blobs") {
                let bytes = fs::read(entry.expect("an entry").path()).expect("a blob");
                let image = Image::open(bytes).expect("a blob of our own is an image");
                assert!(walk(&image), "a blob of our own is broken");
            }
        }
        Err(ImageError::Store { .. }) => panic!("an image must not look like a failing disk"),
        Err(_) => assert_eq!(count(&root.join("records")), 0, "a record of a refused image"),
    }
}

/// What `docker save` would have written.
pub(crate) fn archive(bytes: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.0.join("image.tar");
    fs::write(&path, bytes).expect("the input is written");
    check(&scratch, "docker", &Source::DockerArchive { path: path.clone(), tag: None });
    check(&scratch, "oci", &Source::OciArchive { path, tag: None });
}

/// A layer in an image whose digests are all right, so that it is unpacked whatever it is.
pub(crate) fn layer(bytes: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.0.join("image");
    fs::create_dir_all(path.join("blobs/sha256")).expect("a layout");
    let blob = |bytes: &[u8]| -> Value {
        let digest = Digest::of(bytes);
        fs::write(path.join("blobs/sha256").join(digest.hex()), bytes).expect("a blob");
        json!({ "digest": digest, "size": bytes.len() })
    };
    let layer = blob(bytes);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob(config.to_string().as_bytes());
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let manifest = blob(manifest.to_string().as_bytes());
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(path.join("index.json"), index.to_string()).expect("an index");
    check(&scratch, "store", &Source::Oci { path, tag: None });
}

/// A blob as the personality sees it.
pub(crate) fn erofs(bytes: &[u8]) {
    if let Ok(image) = Image::open(bytes.to_vec()) {
        walk(&image);
    }
}

/// Reads everything in an image that a personality would; whether nothing was broken. Directories may lead in circles here.
fn walk(image: &Image<Vec<u8>>) -> bool {
    let mut is_whole = true;
    let mut seen = BTreeSet::new();
    let mut todo = vec![image.root()];
    while let Some(nid) = todo.pop() {
        if !seen.insert(nid) || seen.len() > MAX_INODES {
            continue;
        }
        let Ok(inode) = image.inode(nid) else {
            is_whole = false;
            continue;
        };
        is_whole &= image.xattrs(&inode, |_, _, _| {}).is_ok() && image.is_opaque(&inode).is_ok();
        if inode.mode & S_IFMT == S_IFDIR {
            let mut names = Vec::new();
            is_whole &= image
                .entries(&inode, |name, nid| {
                    names.push(name.to_vec());
                    todo.push(nid);
                })
                .is_ok();
            names.truncate(MAX_INODES);
            for name in names {
                is_whole &= matches!(image.find(&inode, &name), Ok(Some(_)));
            }
        } else {
            is_whole &= read(image, &inode);
        }
    }
    is_whole
}

/// Reads the ends of a file, in pieces and as pages.
fn read(image: &Image<Vec<u8>>, inode: &Inode) -> bool {
    let last = inode.size.saturating_sub(1);
    for offset in [0, last / PAGE_SIZE * PAGE_SIZE, last, inode.size, u64::MAX] {
        let Ok(piece) = image.data(inode, offset, PAGE_SIZE as usize) else { return false };
        assert_eq!(piece.is_empty(), offset >= inode.size, "offset {offset:#x}");
        let place = image.page_at(inode, offset / PAGE_SIZE);
        assert!(
            offset / PAGE_SIZE * PAGE_SIZE < inode.size || place.is_none(),
            "a page beyond the end"
        );
    }
    true
}
