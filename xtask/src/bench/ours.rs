//! Builds our side: one layer with the measured programs, written by the daemon's importer, in the boot module of the composition `bench`.

use crate::build;
use anyhow::{Context, Result};
use daemon::image::{self, ImageStore, Limits, Source};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// Programs of the layer.
const PROGRAMS: &[&str] = &["nothing", "idle", "lb", "spawnb"];

/// When everything in the layer was changed: 2026-01-01, as the machine's clock says.
const MODIFIED: Duration = Duration::from_secs(1_767_225_600);

/// The built files.
pub(crate) struct Ours {
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The boot module.
    pub(crate) module: PathBuf,
}

/// Composes the boot module; the machine's programs must have been built.
pub(crate) fn build(root: &Path, out: &Path, programs: &Path) -> Result<Ours> {
    let tree = out.join("layer");
    let _ = fs::remove_dir_all(&tree);
    for folder in ["bin", "tmp", "dev", "proc", "sys", "etc"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    for name in PROGRAMS {
        fs::copy(programs.join(name), tree.join("bin").join(name))?;
    }
    settle(&tree)?;
    import(&tree, &out.join("store"), &out.join("layer.erofs"))
        .context("the layer of the measured programs cannot be made")?;
    let module = build::with_blobs(root, "bench")?;
    Ok(Ours { kernel: build::Built::in_tree(root).kernel, module })
}

/// Gives everything the same time, so that the layer depends on its programs alone.
fn settle(tree: &Path) -> Result<()> {
    for entry in fs::read_dir(tree)? {
        let path = entry?.path();
        if path.is_dir() {
            settle(&path)?;
        } else {
            fs::File::open(&path)?.set_modified(UNIX_EPOCH + MODIFIED)?;
        }
    }
    fs::File::open(tree)?.set_modified(UNIX_EPOCH + MODIFIED)?;
    Ok(())
}

/// Imports a folder as an image of one layer, whose blob becomes a file.
fn import(tree: &Path, store: &Path, blob: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(store);
    fs::create_dir_all(store)?;
    let images = ImageStore::open(store)?;
    let source = Source::RootFs { path: tree.to_owned() };
    let record =
        image::import(&images, &source, Some("bench"), Limits::default(), &mut |_| Ok(()))?;
    let layer = record.layers.first().context("the image has no layer")?;
    fs::copy(images.blob_path(&layer.blob), blob)?;
    fs::remove_dir_all(store)?;
    Ok(())
}
