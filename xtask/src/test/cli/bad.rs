//! What bad input gets: a message that names the cause, the right status, and nothing left behind.

use super::{
    Cases,
    home::{Bed, Home},
    layout::{self, Compression},
};
use crate::oci::{self, Layer, Stored};
use anyhow::Result;
use serde_json::{Value, json};
use std::{fs, io::Write as _};
use tar::EntryType;

pub(super) fn run(cases: &mut Cases<'_>) -> Result<()> {
    let bed = cases.bed;
    let blobs = fs::read_dir(cases.home.path.join("images/blobs"))?.count();
    cases.case("missing files and wrong words", |home| {
        for (source, reason) in [
            ("oci:/no/such", "No such file"),
            ("oci-archive:/no/such", "No such file"),
            ("docker-archive:/no/such", "No such file"),
            ("rootfs:/no/such", "No such file"),
            ("oci-archive:/etc/passwd", "is not an OCI archive"),
            ("docker-archive:/etc/passwd", "is not a docker archive"),
            ("oci:/etc", "is not an OCI"),
            ("nobody-imported-this", "no such image"),
            ("http://x/y", "no"),
        ] {
            home.run(&["run", "--rm", source, "true"]).refuses(125, reason)?;
        }
        Ok(())
    });
    cases.case("archives that are cut off", |home| truncated(bed, home));
    cases.case("a wrong digest", |home| {
        let mut files = good("wrong-digest")?;
        if let Some((_, bytes)) = files.get_mut(2)
            && let Some(byte) = bytes.get_mut(5000)
        {
            *byte ^= 1;
        }
        let source = layout::write_folder(bed, "wrong-digest", &files)?;
        home.run(&["run", "--rm", &source, "true"]).refuses(125, "wrong digest")
    });
    cases.case("a missing layer", |home| {
        let mut files = good("missing")?;
        files.remove(2);
        let source = layout::write_folder(bed, "missing", &files)?;
        home.run(&["run", "--rm", &source, "true"]).refuses(125, "missing")
    });
    cases.case("an unknown compression", |home| {
        // What the bytes are decides, whatever their type is called.
        for (method, magic) in
            [("xz", b"\xfd7zXZ\0".as_slice()), ("lz4", b"\x04\x22\x4d\x18"), ("bzip2", b"BZh91AY")]
        {
            let bytes = [magic, &[0; 600]].concat();
            image(bed, home, method, &[Stored::plain(bytes)], method)?;
        }
        Ok(())
    });
    cases.case("a layer that is no archive", |home| {
        image(bed, home, "noise", &[Stored::plain(vec![0xa5; 4096])], "not a valid tar archive")
    });
    cases.case("paths that lead out of the image", |home| escapes(bed, home));
    cases.case("a bomb", |home| bomb(bed, home));
    cases.case("programs that cannot run", |home| programs(bed, home));
    cases.case("another architecture", |home| {
        let mut files = good("foreign")?;
        for (_, bytes) in &mut files {
            // The configuration's digest changes with it, so the manifest's and the index's do.
            if bytes.starts_with(b"{\"architecture\"") {
                let text = String::from_utf8_lossy(bytes).replace("amd64", "arm64");
                let layer = Stored::plain(oci::busybox_layer()?);
                let whole: Value = serde_json::from_str(&text)?;
                let source = foreign(bed, &layer, &whole)?;
                return home.run(&["run", "--rm", &source, "true"]).refuses(125, "arm64");
            }
        }
        anyhow::bail!("the image has no configuration")
    });
    cases.case("nothing of all this is left", |home| {
        let now = fs::read_dir(home.path.join("images/blobs"))?.count();
        let scratch = fs::read_dir(home.path.join("images/scratch")).map_or(0, Iterator::count);
        anyhow::ensure!(scratch == 0, "{scratch} files of imports that failed");
        // Programs that cannot run come in images that can be imported.
        anyhow::ensure!(now <= blobs + 3, "{} more blobs than before", now - blobs);
        home.run(&["ps", "-aq"]).is(0, "", "")
    });
    Ok(())
}

/// The files of a layout whose layer no store has yet: one that is known is not read again.
fn good(name: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let layer = layout::store(unknown(name)?, Compression::Plain)?;
    oci::files(&[layer], &json!({ "Env": ["PATH=/bin"] }))
}

/// A layer that no store has yet.
fn unknown(name: &str) -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    layer.file("name", 0o644, name.as_bytes())?;
    let noise = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 23) as u8);
    layer.file("noise", 0o644, &noise.collect::<Vec<u8>>())?;
    layer.finish()
}

/// An image of these layers is refused for this reason.
fn image(bed: &Bed, home: &Home<'_>, name: &str, layers: &[Stored], reason: &str) -> Result<()> {
    let source = layout::folder(bed, name, layers, &json!({ "Cmd": ["true"] }))?;
    home.run(&["run", "--rm", &source, "true"]).refuses(125, reason)
}

fn truncated(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let whole = oci::archive(&good("cut-off")?)?;
    let half =
        layout::write_file(bed, "half.tar", whole.get(..whole.len() / 2).unwrap_or_default())?;
    home.run(&["image", "import", &format!("oci-archive:{}", half.display())])
        .refuses(125, "truncated")?;
    let mut gzip = layout::store(unknown("half-gzip")?, Compression::Gzip)?;
    gzip.bytes.truncate(gzip.bytes.len() / 2);
    image(bed, home, "half-gzip", &[gzip], "truncated")?;
    let tar = unknown("half-layer")?;
    let half = tar.get(..tar.len() / 2 / 512 * 512 + 100).unwrap_or_default().to_vec();
    image(bed, home, "half-layer", &[Stored::plain(half)], "truncated")
}

fn escapes(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let outside = bed.folder.join("escaped");
    for (name, tar) in [
        ("upwards", layout::raw(b"../escaped", EntryType::Regular, "", b"x")?),
        ("deep", layout::raw(b"a/../../escaped", EntryType::Regular, "", b"x")?),
        ("hardlink", layout::raw(b"name", EntryType::Link, "../../etc/passwd", b"")?),
    ] {
        image(bed, home, name, &[Stored::plain(tar)], "refused")?;
    }
    let mut layer = Layer::default();
    layer.link("way", "/../../../tmp")?;
    layout::add_raw(&mut layer, b"way/escaped", EntryType::Regular, "", b"x")?;
    image(bed, home, "through-link", &[Stored::plain(layer.finish()?)], "refused")?;
    anyhow::ensure!(!outside.exists(), "something was written outside");
    Ok(())
}

/// A small layer that unpacks to more than any image has.
fn bomb(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let mut header = Layer::header(EntryType::Regular, 0o644, 1 << 42);
    header.set_path("huge")?;
    header.set_cksum();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(header.as_bytes())?;
    encoder.write_all(&vec![0; 1 << 20])?;
    let stored =
        Stored { bytes: encoder.finish()?, compression: "+gzip", ..Stored::plain(Vec::new()) };
    image(bed, home, "bomb", &[stored], "bomb")
}

fn programs(bed: &Bed, home: &Home<'_>) -> Result<()> {
    let busybox = fs::read(oci::program("busybox")?)?;
    let mut foreign = busybox.clone();
    if let Some(machine) = foreign.get_mut(18) {
        *machine = 183;
    }
    let mut layer = Layer::default();
    layer.directory("bin/", 0o755)?;
    layer.file("bin/foreign", 0o755, &foreign)?;
    layer.file("bin/cut", 0o755, busybox.get(..100).unwrap_or_default())?;
    layer.file("bin/noise", 0o755, b"neither a program nor a script")?;
    layer.file("bin/empty", 0o755, b"")?;
    layer.file("bin/script", 0o755, b"#!/no/such/interpreter\n")?;
    layer.file("bin/plain", 0o644, b"text")?;
    let stored = Stored::plain(layer.finish()?);
    let source = layout::folder(bed, "programs", &[stored], &json!({ "Env": ["PATH=/bin"] }))?;
    for (program, status, reason) in [
        ("/bin/foreign", 126, "exec format error"),
        ("/bin/cut", 126, "exec format error"),
        ("/bin/noise", 126, "exec format error"),
        ("/bin/empty", 126, "exec format error"),
        ("/bin/script", 127, "no such file"),
        ("/bin/plain", 126, "permission denied"),
        ("plain", 126, "permission denied"),
        ("/bin/none", 127, "no such file"),
        ("none", 127, "not found in $PATH"),
        ("", 127, "not found in $PATH"),
        ("/bin", 126, "permission denied"),
    ] {
        home.run(&["run", "--rm", &source, program]).refuses(status, reason)?;
    }
    Ok(())
}

/// An image with this configuration document.
fn foreign(bed: &Bed, layer: &Stored, config: &Value) -> Result<String> {
    let bytes = serde_json::to_vec(config)?;
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", oci::digest(bytes)), "size": bytes.len() });
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2, "config": descriptor("config.v1+json", &bytes),
        "layers": [descriptor("layer.v1.tar", &layer.bytes)],
    }))?;
    let index =
        json!({ "schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", &manifest)] });
    let files = [
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), serde_json::to_vec(&index)?),
        (format!("blobs/sha256/{}", oci::digest(&bytes)), bytes.clone()),
        (format!("blobs/sha256/{}", oci::digest(&manifest)), manifest.clone()),
        (format!("blobs/sha256/{}", oci::digest(&layer.bytes)), layer.bytes.clone()),
    ];
    layout::write_folder(bed, "foreign", &files)
}
