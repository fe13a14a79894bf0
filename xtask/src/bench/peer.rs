//! Builds the Linux side: kernel, base image and boot-probe image under `target/bench/linux`, as an ordinary user.

use super::{
    cpio::Archive,
    packages::{self, Package, output},
    suites::{Boot, Trees},
};
use anyhow::{Context, Result};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The built files.
pub(crate) struct Peer {
    /// Debian's kernel.
    pub(crate) kernel: PathBuf,
    /// Base image with shell, runtimes and benchmark programs.
    base: PathBuf,
    /// Image with the boot probe only.
    boot: PathBuf,
    /// Base images with the files of other images, of those that are to run.
    others: BTreeMap<Boot, PathBuf>,
    /// What it was made of.
    pub(crate) packages: Vec<Package>,
}

impl Peer {
    /// The initial RAM file system of a suite.
    pub(crate) fn image(&self, boot: Boot) -> Result<&Path> {
        match boot {
            Boot::Scenarios => Ok(&self.base),
            Boot::Probe => Ok(&self.boot),
            other => {
                self.others.get(&other).map(PathBuf::as_path).context("its image was not built")
            }
        }
    }
}

/// Programs without a C library, and with one.
const BARE: &[&str] = &["nothing", "idle", "bootinit"];
const HOSTED: &[&str] = &["calib", "spawnb", "lb"];

/// Builds what is missing or older than its sources. `trees` are the files of other images.
/// Downloaded packages are kept in `debs`.
pub(crate) fn build(
    sources: &Path,
    debs: &Path,
    out: &Path,
    programs: &Path,
    trees: &Trees,
) -> Result<Peer> {
    let list = fs::read_to_string(sources.join("packages.txt"))?;
    let meta = packages::list(&list, "kernel")?;
    let kernel_name = packages::resolve_kernel(meta.first().context("no kernel in packages.txt")?)?;
    let kernel_package = packages::fetch(&[kernel_name], debs)?;
    let base_packages = packages::fetch(&packages::list(&list, "base")?, debs)?;
    let kernel = unpack_kernel(kernel_package.first().context("no kernel package")?, out)?;
    let base = base_image(sources, out, programs, &base_packages)?;
    let boot = boot_image(out, programs)?;
    let others =
        trees.iter().map(|(boot, tree)| Ok((*boot, other_image(&base, *boot, tree, out)?)));
    let others = others.collect::<Result<_>>()?;
    let packages = [kernel_package, base_packages].concat();
    Ok(Peer { kernel, base, boot, others, packages })
}

/// Compiles the static programs.
pub(crate) fn compile(sources: &Path, out: &Path) -> Result<PathBuf> {
    fs::create_dir_all(out)?;
    for name in BARE {
        let flags = "-O2 -static -nostdlib -nostartfiles -ffreestanding -fno-stack-protector -fno-pie -no-pie -Wl,--build-id=none";
        output(
            Command::new("gcc")
                .args(flags.split(' '))
                .arg("-o")
                .arg(out.join(name))
                .arg(sources.join(format!("{name}.c"))),
        )?;
    }
    for name in HOSTED {
        output(
            Command::new("gcc")
                .args(["-O2", "-static", "-pthread", "-o"])
                .arg(out.join(name))
                .arg(sources.join(format!("{name}.c"))),
        )?;
    }
    Ok(out.to_owned())
}

fn unpack_kernel(package: &Package, out: &Path) -> Result<PathBuf> {
    let kernel = out.join(format!("vmlinuz-{}", package.version.replace(['/', '~'], "_")));
    if kernel.exists() {
        return Ok(kernel);
    }
    let folder = out.join("kernel");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(out)?;
    packages::unpack(package, &folder)?;
    let found = fs::read_dir(folder.join("boot"))?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
        .context("the kernel package holds no vmlinuz")?;
    fs::rename(found.path(), &kernel)?;
    fs::remove_dir_all(&folder)?;
    Ok(kernel)
}

fn base_image(sources: &Path, out: &Path, programs: &Path, debs: &[Package]) -> Result<PathBuf> {
    let root = out.join("base");
    let _ = fs::remove_dir_all(&root);
    for package in debs.iter().filter(|package| package.name != "coreutils") {
        packages::unpack(package, &root)?;
    }
    for folder in ["proc", "sys", "dev", "run", "tmp", "etc", "root", "mod", "n", "p", "lp"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["bin", "proc", "sys", "dev", "tmp", "etc", "run"] {
        fs::create_dir_all(root.join("c/rootfs").join(folder))?;
    }
    for folder in ["doc", "man", "locale", "lintian", "bug"] {
        let _ = fs::remove_dir_all(root.join("usr/share").join(folder));
    }
    let _ = fs::remove_dir_all(root.join("usr/lib/x86_64-linux-gnu/gconv"));
    for name in ["nothing", "idle", "calib", "spawnb", "lb"] {
        fs::copy(programs.join(name), root.join("lp").join(name))?;
    }
    for name in ["nothing", "idle"] {
        fs::copy(programs.join(name), root.join("c/rootfs/bin").join(name))?;
    }
    dynamic_true(debs, out, &root)?;
    for name in ["init", "main"] {
        fs::copy(sources.join("guest").join(name), root.join(name))?;
        output(Command::new("chmod").arg("755").arg(root.join(name)))?;
    }
    let mut archive = Archive::default();
    archive.tree(&root)?;
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    let file = out.join("base.cpio");
    fs::write(&file, archive.finish())?;
    fs::remove_dir_all(&root)?;
    Ok(file)
}

/// Archives follow each other: the base image, then the other one's files as the root file system of its containers.
fn other_image(base: &Path, boot: Boot, tree: &Path, out: &Path) -> Result<PathBuf> {
    let mut archive = Archive::default();
    archive.tree_at(tree, "p/rootfs")?;
    let file = out.join(boot.file()).with_extension("cpio");
    fs::copy(base, &file)?;
    let mut both = fs::OpenOptions::new().append(true).open(&file)?;
    std::io::Write::write_all(&mut both, &archive.finish())?;
    Ok(file)
}

/// One dynamically linked program: coreutils' `true`.
fn dynamic_true(debs: &[Package], out: &Path, root: &Path) -> Result<()> {
    let coreutils =
        debs.iter().find(|package| package.name == "coreutils").context("no coreutils")?;
    let folder = out.join("coreutils");
    let _ = fs::remove_dir_all(&folder);
    packages::unpack(coreutils, &folder)?;
    let found = ["bin/true", "usr/bin/true"].map(|path| folder.join(path));
    let found = found.iter().find(|path| path.exists()).context("coreutils holds no true")?;
    fs::copy(found, root.join("lp/true.dyn"))?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

fn boot_image(out: &Path, programs: &Path) -> Result<PathBuf> {
    let root = out.join("boot");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("dev"))?;
    fs::create_dir_all(root.join("proc"))?;
    fs::copy(programs.join("bootinit"), root.join("init"))?;
    let mut archive = Archive::default();
    archive.tree(&root)?;
    archive.character_device("dev/console", 5, 1);
    let file = out.join("boot.cpio");
    fs::write(&file, archive.finish())?;
    fs::remove_dir_all(&root)?;
    Ok(file)
}
