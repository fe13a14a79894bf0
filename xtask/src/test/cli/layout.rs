//! Images built by hand, with what other tools put into theirs.

use super::home::Bed;
use crate::oci::{self, Layer, Stored};
use anyhow::Result;
use serde_json::Value;
use std::{fs, io::Write as _, path::PathBuf};
use tar::EntryType;

/// How a layer is stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// Stores a tar.
pub(super) fn store(tar: Vec<u8>, compression: Compression) -> Result<Stored> {
    let plain = Stored::plain(tar);
    Ok(match compression {
        Compression::Plain => plain,
        Compression::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain.bytes)?;
            Stored { bytes: encoder.finish()?, compression: "+gzip", ..plain }
        }
        Compression::Zstd => {
            let bytes = zstd::encode_all(plain.bytes.as_slice(), 1)?;
            Stored { bytes, compression: "+zstd", ..plain }
        }
    })
}

/// Writes an image layout as a folder; its source for `mett`.
pub(super) fn folder(bed: &Bed, name: &str, layers: &[Stored], config: &Value) -> Result<String> {
    let files = oci::files(layers, config)?;
    write_folder(bed, name, &files)
}

/// Writes the files of a layout as a folder.
pub(super) fn write_folder(bed: &Bed, name: &str, files: &[(String, Vec<u8>)]) -> Result<String> {
    let path = bed.folder.join("layouts").join(name);
    let _ = fs::remove_dir_all(&path);
    for (file, bytes) in files {
        let to = path.join(file);
        fs::create_dir_all(to.parent().unwrap_or(&path))?;
        fs::write(to, bytes)?;
    }
    Ok(format!("oci:{}", path.display()))
}

/// Writes a file beside the layouts.
pub(super) fn write_file(bed: &Bed, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = bed.folder.join("layouts").join(name);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, bytes)?;
    Ok(path)
}

/// A layer with one raw entry, whose name is written as it is.
pub(super) fn raw(path: &[u8], kind: EntryType, target: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    add_raw(&mut layer, path, kind, target, bytes)?;
    layer.finish()
}

/// Adds an entry whose name no careful tool would write.
pub(super) fn add_raw(
    layer: &mut Layer,
    path: &[u8],
    kind: EntryType,
    target: &str,
    bytes: &[u8],
) -> Result<()> {
    let mut header = Layer::header(kind, 0o755, bytes.len() as u64);
    let name = &mut header.as_old_mut().name;
    name.fill(0);
    for (place, byte) in name.iter_mut().zip(path) {
        *place = *byte;
    }
    // The name of a link's target is as raw as its own.
    for (place, byte) in header.as_old_mut().linkname.iter_mut().zip(target.bytes()) {
        *place = byte;
    }
    header.set_cksum();
    Ok(layer.0.append(&header, bytes)?)
}

/// A first layer with everything awkward in it.
pub(super) fn awkward_lower() -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    layer.directory("d/", 0o755)?;
    layer.file("d/hidden", 0o644, b"hidden")?;
    layer.file("d/kept", 0o644, b"kept")?;
    layer.directory("opaque/", 0o755)?;
    layer.file("opaque/old", 0o644, b"old")?;
    layer.file("replaced", 0o644, b"a file")?;
    layer.file("original", 0o640, b"linked")?;
    add_raw(&mut layer, b"second-name", EntryType::Link, "original", b"")?;
    layer.link("absolute", "/d/kept")?;
    layer.link("dangling", "no/where")?;
    layer.file("set-user-id", 0o4755, b"#!/bin/sh\n")?;
    let long = format!("long/{}/{}", "n".repeat(120), "m".repeat(200));
    layer.file(&long, 0o644, b"long")?;
    let mut header = Layer::header(EntryType::Char, 0o666, 0);
    header.set_device_major(1)?;
    header.set_device_minor(7)?;
    layer.0.append_data(&mut header, "own-full", &[][..])?;
    let mut header = Layer::header(EntryType::Fifo, 0o644, 0);
    layer.0.append_data(&mut header, "fifo", &[][..])?;
    let mut header = Layer::header(EntryType::Regular, 0o600, 5);
    header.set_uid(1000);
    header.set_gid(3_000_000);
    header.set_mtime(1_000_000_000);
    layer.0.append_data(&mut header, "owned", &b"owned"[..])?;
    let records: [(&str, &[u8]); 2] =
        [("path", "p\u{e4}x-\u{20ac}".as_bytes()), ("SCHILY.xattr.user.note", b"written")];
    layer.0.append_pax_extensions(records)?;
    layer.file("short", 0o644, b"pax")?;
    layer.file("page", 0o644, &[b'p'; 4096])?;
    layer.file("half", 0o644, &[b'h'; 2047])?;
    layer.finish()
}

/// What a second layer does to the first.
pub(super) fn awkward_upper() -> Result<Vec<u8>> {
    let mut layer = Layer::default();
    layer.file("d/.wh.hidden", 0o644, b"")?;
    layer.file("d/added", 0o644, b"added")?;
    layer.file("opaque/.wh..wh..opq", 0o644, b"")?;
    layer.file("opaque/new", 0o644, b"new")?;
    layer.directory("replaced/", 0o755)?;
    layer.file("replaced/by", 0o644, b"a folder")?;
    layer.finish()
}

/// A sparse file in GNU's form: 1 MiB of which the last byte is written.
pub(super) fn gnu_sparse() -> Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(1);
    header.set_path("sparse")?;
    if let Some(gnu) = header.as_gnu_mut() {
        let octal = |field: &mut [u8; 12], value: u64| {
            for (place, digit) in field.iter_mut().zip(format!("{value:011o}").bytes()) {
                *place = digit;
            }
        };
        if let Some(first) = gnu.sparse.first_mut() {
            octal(&mut first.offset, (1 << 20) - 1);
            octal(&mut first.numbytes, 1);
        }
        octal(&mut gnu.realsize, 1 << 20);
    }
    header.set_cksum();
    let mut layer = Layer::default();
    layer.0.append(&header, &b"!"[..])?;
    layer.finish()
}
