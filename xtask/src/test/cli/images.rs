//! Images: every source, every form of a layer, and what their configuration says.

use super::{
    Cases,
    home::{Bed, Home, IMAGE},
    layout::{self, Compression},
};
use crate::oci;
use anyhow::{Result, ensure};
use serde_json::json;
use std::{fs, process::Command};

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let bed = cases.bed;
    for (name, compression) in
        [("plain", Compression::Plain), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)]
    {
        cases.case(&format!("layers in {name} form are right"), |home| {
            awkward(bed, home, name, compression)
        });
    }
    cases.case("the configuration is honoured", |home| configured(bed, home));
    cases.case("shared layers are stored and mapped once", |home| shared(bed, home));
    cases.case("an archive of docker", |home| docker(bed, home));
    cases.case("a root file system in a folder", |home| {
        let folder = bed.folder.join("layouts/tree");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("bin"))?;
        fs::copy(oci::program("busybox")?, folder.join("bin/busybox"))?;
        fs::write(folder.join("note"), "written")?;
        let source = format!("rootfs:{}", folder.display());
        home.run(&["run", "--rm", &source, "/bin/busybox", "cat", "/note"]).is(0, "written", "")
    });
    cases.case("an archive of GNU tar", |home| gnu_tar(bed, home));
    cases.case("images are listed, described and removed", |home| {
        let source = format!("oci-archive:{}", bed.archive.display());
        home.run(&["image", "import", &source, "other:1"]).is(0, "other:1\n", "")?;
        home.run(&["image", "ls"]).has("other:1")?;
        home.run(&["image", "ls", "--format", "json"]).has("\"other:1\"")?;
        home.run(&["image", "inspect", "other:1"]).has("\"RootFS\"")?;
        home.run(&["create", "--name", "user", "other:1"]).succeeds()?;
        home.run(&["image", "rm", "other:1"]).succeeds()?;
        home.run(&["image", "inspect", "other:1"]).refuses(1, "no such image")?;
        home.run(&["image", "rm", "other:1"]).refuses(1, "no such image")?;
        home.run(&["start", "-a", "user"]).succeeds()?;
        home.run(&["rm", "user"]).succeeds()
    });
    cases.case("pruning removes images that nobody uses, and asks first", |home| {
        let source = format!("rootfs:{}", bed.folder.join("pruned").display());
        fs::create_dir_all(bed.folder.join("pruned"))?;
        for text in ["first", "second"] {
            fs::write(bed.folder.join("pruned/file"), text)?;
            home.run(&["image", "import", &source, "pruned:1"]).succeeds()?;
        }
        home.run(&["image", "ls"]).has("pruned:1")?;
        home.run(&["image", "prune"]).refuses(125, "use --force")?;
        home.run(&["create", "--name", "user", "pruned:1", "/none"]).succeeds()?;
        home.run(&["image", "prune", "--force"]).succeeds()?;
        home.run(&["image", "inspect", "pruned:1"]).succeeds()?;
        home.run(&["image", "prune", "--all", "--force"]).succeeds()?;
        home.run(&["image", "inspect", "pruned:1"]).succeeds()?;
        home.run(&["rm", "user"]).succeeds()?;
        home.run(&["image", "prune", "--all", "--force"]).has("Untagged: pruned:1")?;
        home.run(&["image", "inspect", "pruned:1"]).refuses(1, "no such image")?;
        home.run(&["image", "import", &format!("oci-archive:{}", bed.archive.display()), IMAGE])
            .succeeds()
    });
    Ok(())
}

fn awkward(bed: &Bed, home: &Home<'_>, name: &str, compression: Compression) -> Result<()> {
    let layers = [
        layout::store(oci::busybox_layer()?, compression)?,
        layout::store(layout::awkward_lower()?, compression)?,
        layout::store(layout::awkward_upper()?, compression)?,
        layout::store(layout::gnu_sparse()?, compression)?,
    ];
    let config = json!({ "Cmd": ["sh"], "Env": ["PATH=/bin"] });
    let source = layout::folder(bed, name, &layers, &config)?;
    let script = "
        cd /; ls d; ls opaque; cat replaced/by original second-name absolute; echo
        stat -c '%h %a' original; readlink dangling; stat -c %a set-user-id
        cat long/*/*; echo; stat -c '%F %t %T' own-full; stat -c %F fifo; stat -c '%u %g %Y' owned
        cat p*x-*; echo; wc -c < sparse; tail -c 1 sparse; echo; wc -c < page; wc -c < half; md5sum < page
        echo more >> original; cat second-name; rm second-name; stat -c %h original";
    let expected = "added\nkept\nnew\na folderlinkedlinkedkept\n\
        2 640\nno/where\n4755\nlong\ncharacter special file 1 7\nfifo\n1000 3000000 1000000000\n\
        pax\n1048576\n!\n4096\n2047\nPAGE\nlinkedmore\n1\n";
    let outcome = home.run(&["run", "--rm", &source, "sh", "-c", script]);
    let page =
        Command::new("sh").args(["-c", "yes p | tr -d '\\n' | head -c 4096 | md5sum"]).output()?;
    let expected = expected.replace("PAGE", String::from_utf8_lossy(&page.stdout).trim());
    outcome.is(0, &expected, "")
}

fn configured(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let config = json!({
        "Entrypoint": ["sh", "-c", "echo $GREETING; pwd; id -u; echo \"$@\"", "sh"], "Cmd": ["a", "b"],
        "Env": ["PATH=/bin", "GREETING=hello"], "WorkingDir": "/work/here", "User": "nobody",
        "StopSignal": "SIGUSR1", "Labels": { "made": "by hand" },
        "Volumes": { "/var/lib/made": {}, "/bin": {}, "/bin/../other": {} },
    });
    let layer = layout::store(oci::busybox_layer()?, Compression::Gzip)?;
    let source = layout::folder(bed, "configured", &[layer], &config)?;
    home.run(&["run", "--rm", &source]).is(0, "hello\n/work/here\n65534\na b\n", "")?;
    home.run(&["run", "--rm", &source, "c"]).is(0, "hello\n/work/here\n65534\nc\n", "")?;
    home.run(&["run", "--rm", "-u", "0", "-w", "/", "-e", "GREETING=x", &source]).is(
        0,
        "x\n/\n0\na b\n",
        "",
    )?;
    let script =
        "stat -c '%a %u %F' /var/lib/made /other; ls /bin/busybox; echo x > /var/lib/made/x";
    home.run(&["run", "--rm", "-u", "0", "--entrypoint", "sh", &source, "-c", script]).is(
        0,
        "755 0 directory\n755 0 directory\n/bin/busybox\n",
        "",
    )?;
    let script = "trap 'exit 8' USR1; echo ready; while :; do sleep 0.1; done";
    home.run(&["run", "-d", "--name", "asked", "--entrypoint", "sh", &source, "-c", script])
        .succeeds()?;
    super::home::until("ready", || Ok(home.run(&["logs", "asked"]).text() == "ready\n"))?;
    home.run(&["stop", "asked"]).succeeds()?;
    home.run(&["wait", "asked"]).is(0, "8\n", "")?;
    home.run(&["rm", "asked"]).succeeds()
}

/// Two images that differ in a small upper layer take the room of one.
fn shared(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let base = layout::store(oci::busybox_layer()?, Compression::Plain)?;
    let blobs = || Ok::<_, anyhow::Error>(fs::read_dir(home.path.join("images/blobs"))?.count());
    let (before, (_, _, free)) = (blobs()?, home.counts()?);
    for name in ["one", "two"] {
        let mut upper = oci::Layer::default();
        upper.file("who", 0o644, name.as_bytes())?;
        let layers = [base.clone(), layout::store(upper.finish()?, Compression::Gzip)?];
        let source = layout::folder(bed, name, &layers, &json!({ "Env": ["PATH=/bin"] }))?;
        home.run(&["run", "--rm", &source, "cat", "/who"]).is(0, name, "")?;
    }
    let added = blobs()? - before;
    ensure!((2..=3).contains(&added), "{added} blobs were stored for three layers");
    let (_, _, left) = home.counts()?;
    let used = free.saturating_sub(left);
    ensure!(used < 3 << 20, "{used} bytes of the machine for one new base layer at most");
    Ok(())
}

fn docker(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let layer = oci::busybox_layer()?;
    let diff_id = format!("sha256:{}", oci::digest(&layer));
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "config": { "Cmd": ["echo", "from docker"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
    }))?;
    let name = format!("{}.json", oci::digest(&config));
    let manifest =
        json!([{ "Config": name, "RepoTags": ["old/style:1"], "Layers": ["l/layer.tar"] }]);
    let files = [
        (name, config),
        ("l/layer.tar".to_owned(), layer),
        ("manifest.json".to_owned(), serde_json::to_vec(&manifest)?),
    ];
    let path = layout::write_file(bed, "docker.tar", &oci::archive(&files)?)?;
    let source = format!("docker-archive:{}", path.display());
    home.run(&["image", "import", &source]).is(0, "old/style:1\n", "")?;
    home.run(&["run", "--rm", "old/style:1"]).is(0, "from docker\n", "")
}

/// A layer made by GNU tar, with its own sparse form in PAX records, hard links and attributes.
fn gnu_tar(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let folder = bed.folder.join("layouts/gnu");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let script = "truncate -s 3M hole && printf end >> hole && printf x > one && ln one two \
        && tar --format=pax --sparse --owner=7 --group=8 -cf ../gnu.tar hole one two";
    let made = Command::new("sh").args(["-c", script]).current_dir(&folder).status()?;
    ensure!(made.success(), "tar failed");
    let layers = [
        layout::store(oci::busybox_layer()?, Compression::Gzip)?,
        layout::store(fs::read(bed.folder.join("layouts/gnu.tar"))?, Compression::Zstd)?,
    ];
    let source = layout::folder(bed, "gnu-image", &layers, &json!({ "Env": ["PATH=/bin"] }))?;
    let script = "wc -c < /hole; tail -c 3 /hole; echo; stat -c '%h %u %g' /two; cat /one";
    home.run(&["run", "--rm", &source, "sh", "-c", script]).is(0, "3145731\nend\n2 7 8\nx", "")
}
