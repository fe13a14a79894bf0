//! The image of the Python functions: Debian's packages and `bench/apps`, the same files for both systems.
//!
//! Modules are compiled to bytecode by the image's own Python, as installing the packages would: else a container that keeps what it writes (Linux's, whose
//! root is used again) would start faster than one that begins anew.

use super::packages::output;
use crate::debian;
use anyhow::{Context, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Packages, with what they depend on.
const PACKAGES: &[&str] = &["python3", "python3-jinja2", "python3-igraph"];
/// What no program reads.
const UNUSED: &[&str] =
    &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian"];
/// Files that `compression` packs, tiny and standard.
const FILES: [&str; 2] = ["6", "60"];

/// Functions and their sizes, tiny and standard; `pass` is the bare interpreter.
pub(super) const FUNCTIONS: &[&str] = &[
    "pass",
    "empty:0",
    "html:10",
    "html:1000",
    "compression:6",
    "compression:60",
    "pagerank:10",
    "pagerank:10000",
    "mst:10",
    "mst:10000",
    "bfs:10",
    "bfs:10000",
];
/// Those of a quick run.
pub(super) const QUICK: &[&str] = &["pass", "empty:0", "html:10"];

/// Makes the image's files, unless they are there; their folder.
pub(super) fn tree(root: &Path) -> Result<PathBuf> {
    let tree = debian::root(&root.join("target/debian"), "apps", PACKAGES)?;
    let (functions, stamp) = (tree.join("fn"), tree.join("fn/complete"));
    let sources = ["run.py", "mkdata.py"].map(|name| root.join("bench/apps").join(name));
    let mut recipe = String::new();
    for source in &sources {
        recipe += &fs::read_to_string(source)?;
    }
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(tree);
    }
    for folder in UNUSED {
        let _ = fs::remove_dir_all(tree.join(folder));
    }
    let _ = fs::remove_dir_all(&functions);
    fs::create_dir_all(functions.join("data"))?;
    let [run, make] = sources;
    fs::copy(&run, functions.join("run.py"))?;
    let data = functions.join("data");
    python(&tree, Command::new("").arg(make).arg(data).args(FILES))?;
    let library = tree.join("usr/lib/python3");
    let version = fs::read_link(tree.join("usr/bin/python3"))?;
    let standard = tree.join("usr/lib").join(version);
    let compile = ["-m", "compileall", "-q", "-p", "/", "--invalidation-mode", "unchecked-hash"];
    let mut command = Command::new("");
    command.args(compile).arg("-s").arg(&tree).args([library, standard]);
    python(&tree, &command)?;
    fs::write(stamp, recipe)?;
    Ok(tree)
}

/// Runs the image's Python with a command's arguments, on this computer, without entering the image.
fn python(tree: &Path, arguments: &Command) -> Result<()> {
    let libraries =
        ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|path| tree.join(path));
    let path = std::env::join_paths(libraries)?;
    output(
        Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"))
            .arg("--library-path")
            .arg(path)
            .arg(tree.join("usr/bin/python3"))
            .arg("-S")
            .args(arguments.get_args())
            .env("PYTHONHOME", tree.join("usr"))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
    .context("the image's own Python cannot prepare it")?;
    Ok(())
}
