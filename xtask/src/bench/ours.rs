//! Builds our side: boot modules of the composition `bench` with a layer of measured programs, written by the daemon's importer.

use super::suites::{Boot, Suite, Trees};
use crate::build;
use anyhow::{Context, Result};
use daemon::image::{self, ImageStore, Limits, Source};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

/// Programs of the layer that suites of many figures use.
const PROGRAMS: &[&str] = &["nothing", "idle", "lb", "spawnb"];
/// Programs of the layer that boots are measured with: as small an image as Linux's, which holds its one program too.
const SMALLEST: &[&str] = &["nothing"];

/// When everything in the layer was changed: 2026-01-01, as the machine's clock says.
const MODIFIED: Duration = Duration::from_secs(1_767_225_600);

/// Images that differ in one file, each of which is started for the first time once.
const NEW: usize = 8;

/// A boot module and the digests of the layers in it, in hexadecimal digits.
pub(crate) struct Module {
    /// The file.
    pub(crate) file: PathBuf,
    /// The layer of the measured programs.
    layer: String,
    /// Layers of images that nothing has started yet.
    new: Vec<String>,
}

impl Module {
    /// What the command line says of its layers.
    pub(crate) fn words(&self) -> String {
        format!("layer={} new={}", self.layer, self.new.join(","))
    }
}

/// The built files.
pub(crate) struct Ours {
    /// The kernel.
    kernel: PathBuf,
    /// The kernel with its internal checks, which counts what would cost the other one too much; if a suite that is to run needs it.
    checked: Option<PathBuf>,
    /// With all measured programs.
    all: Module,
    /// For measuring boots.
    smallest: Module,
    /// With the files of other images, of those that are to run.
    others: BTreeMap<Boot, Module>,
}

impl Ours {
    /// The kernel of a suite.
    pub(crate) fn kernel(&self, suite: &Suite) -> Result<&Path> {
        if suite.is_checked {
            self.checked.as_deref().context("its kernel was not built")
        } else {
            Ok(&self.kernel)
        }
    }

    /// Builds the kernel with its checks too.
    pub(crate) fn with_checked_kernel(self, root: &Path, out: &Path) -> Result<Self> {
        let checked = keep(&build::checked_kernel(root)?, out, "checked.elf")?;
        Ok(Self { checked: Some(checked), ..self })
    }

    /// The boot module of a suite.
    pub(crate) fn module(&self, boot: Boot) -> Result<&Module> {
        match boot {
            Boot::Scenarios => Ok(&self.all),
            Boot::Probe => Ok(&self.smallest),
            other => self.others.get(&other).context("its image was not built"),
        }
    }
}

/// Composes the boot modules; the machine's programs must have been built. `trees` are the files of other images.
pub(crate) fn build(root: &Path, out: &Path, programs: &Path, trees: &Trees) -> Result<Ours> {
    let layer = |name: &str, tree: &Path| -> Result<Layer> {
        let blob = out.join(name).with_extension("erofs");
        let digest = import(tree, &out.join("store"), &blob)
            .with_context(|| format!("the layer {name} cannot be made"))?;
        Ok(Layer { name: name.to_owned(), digest, blob })
    };
    let module = |name: &str, tree: &Path, new: Vec<Layer>| -> Result<Module> {
        let layer = layer(name, tree)?;
        let file = out.join(name).with_extension("img");
        let blob = |layer: &Layer| (format!("layer.{}", layer.name), layer.blob.clone());
        let blobs: Vec<_> = std::iter::once(&layer).chain(&new).map(blob).collect();
        build::with_blobs(root, "bench", &blobs, &file)?;
        let new = new.into_iter().map(|layer| layer.digest).collect();
        Ok(Module { file, layer: layer.digest, new })
    };
    let new = |number: usize| -> Result<Layer> {
        let name = format!("new{number}");
        let number = [("etc/number", number.to_string())];
        layer(&name, &tree(&out.join(&name), programs, SMALLEST, &number)?)
    };
    let new = (0..NEW).map(new).collect::<Result<_>>()?;
    let all = tree(&out.join("all"), programs, PROGRAMS, &[])?;
    let smallest = tree(&out.join("smallest"), programs, SMALLEST, &[])?;
    Ok(Ours {
        kernel: keep(&build::Built::in_tree(root).kernel, out, "kernel.elf")?,
        checked: None,
        all: module("all", &all, new)?,
        smallest: module("smallest", &smallest, Vec::new())?,
        others: trees
            .iter()
            .map(|(boot, tree)| Ok((*boot, module(boot.file(), tree, Vec::new())?)))
            .collect::<Result<_>>()?,
    })
}

/// Copies a kernel to where the run works, so that a build meanwhile changes nothing; the copy.
fn keep(kernel: &Path, out: &Path, name: &str) -> Result<PathBuf> {
    let file = out.join(name);
    fs::copy(kernel, &file).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(file)
}

/// A layer that was imported.
struct Layer {
    name: String,
    digest: String,
    blob: PathBuf,
}

/// Makes the files of a layer of programs and of what `texts` hold; their folder.
fn tree(tree: &Path, programs: &Path, held: &[&str], texts: &[(&str, String)]) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(tree);
    for folder in ["bin", "tmp", "dev", "proc", "sys", "etc"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    for name in held {
        fs::copy(programs.join(name), tree.join("bin").join(name))?;
    }
    for (name, text) in texts {
        fs::write(tree.join(name), text)?;
    }
    settle(tree)?;
    Ok(tree.to_owned())
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

/// Imports a folder as an image of one layer, whose blob becomes a file; the blob's digest.
fn import(tree: &Path, store: &Path, blob: &Path) -> Result<String> {
    let _ = fs::remove_dir_all(store);
    fs::create_dir_all(store)?;
    let images = ImageStore::open(store)?;
    let source = Source::RootFs { path: tree.to_owned() };
    let record =
        image::import(&images, &source, Some("bench"), Limits::default(), &mut |_| Ok(()))?;
    let layer = record.layers.first().context("the image has no layer")?;
    fs::copy(images.blob_path(&layer.blob), blob)?;
    let digest = layer.blob.hex().to_owned();
    fs::remove_dir_all(store)?;
    Ok(digest)
}
