//! What a layer may hold and what it may not.

use super::*;
use crate::{image::tree::ROOT, scratch::Scratch};
use std::fs::File;
use tar::{Builder, EntryType, Header};

/// A member of a test archive: type, name, link target or contents.
type Entry<'a> = (EntryType, &'a str, &'a str);

pub(crate) fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, text) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let link = matches!(kind, EntryType::Link | EntryType::Symlink);
        let body = if link { "" } else { text };
        // Written into the raw fields, because the builder refuses the names that these tests are about.
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        if link {
            fields.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpack_with(bytes: &[u8], limits: Limits) -> Result<Tree, ImageError> {
    let scratch = Scratch::new("layer");
    let path = scratch.path().join("blob");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let mut blob = BlobWriter::new(file).unwrap();
    let mut report = || Ok(());
    unpack(bytes, Algorithm::Sha256, "layer 1", limits, &mut blob, &path, &mut report)
        .map(|unpacked| unpacked.tree)
}

fn check_refused(entries: &[Entry<'_>], reason: &str) {
    let error = unpack_with(&archive(entries), Limits::default()).unwrap_err();
    assert!(error.to_string().contains(reason), "{entries:?}: {error}");
}

#[test]
fn names_that_leave_the_root_are_refused() {
    use EntryType::{Directory, Link, Regular, Symlink};
    check_refused(&[(Regular, "../x", "")], "'..'");
    check_refused(&[(Regular, "a/../../x", "")], "'..'");
    check_refused(&[(Regular, "/etc/passwd", "")], "absolute");
    check_refused(&[(Link, "x", "/etc/passwd")], "absolute");
    check_refused(&[(Link, "x", "../../etc/passwd")], "'..'");
    check_refused(&[(Symlink, "a", "/etc"), (Regular, "a/passwd", "")], "symbolic link");
    check_refused(&[(Symlink, "a", "/etc"), (Link, "b", "a/passwd")], "symbolic link");
    check_refused(&[(Symlink, "a", ".."), (Directory, "a/b/", "")], "symbolic link");
    check_refused(&[(Symlink, "a", ".."), (Regular, "a/.wh.x", "")], "symbolic link");
}

#[test]
fn impossible_members_are_refused() {
    use EntryType::{Directory, Link, Regular};
    check_refused(&[(Regular, "f", ""), (Regular, "f/x", "")], "not a directory");
    check_refused(&[(Link, "x", "missing")], "not in the layer");
    check_refused(&[(Directory, "d/", ""), (Link, "x", "d")], "is a directory");
    check_refused(&[(Regular, ".wh.", "")], "names no file");
    check_refused(&[(Regular, ".wh...", "")], "names no file");
    check_refused(&[(Regular, ".", "x")], "root of an image");
}

#[test]
fn symbolic_links_may_point_anywhere() {
    let bytes = archive(&[(EntryType::Symlink, "a", "/../../etc")]);
    unpack_with(&bytes, Limits::default()).unwrap();
}

#[test]
fn whiteouts_and_opaque_directories_are_understood() {
    use EntryType::Regular;
    let bytes = archive(&[
        (Regular, "d/.wh..wh..opq", ""),
        (Regular, "d/new", "x"),
        (Regular, ".wh.gone", ""),
        (Regular, ".wh..wh.plnk", ""),
    ]);
    let tree = unpack_with(&bytes, Limits::default()).unwrap();
    let root = tree.directory(ROOT).unwrap();
    assert_eq!(root.whiteouts, [b"gone"]);
    assert_eq!(root.children.keys().collect::<Vec<_>>(), [b"d"]);
    assert!(tree.directory(root.children[&b"d"[..]]).unwrap().opaque);
}

#[test]
fn layers_over_a_limit_are_bombs() {
    use EntryType::Regular;
    let bytes = archive(&[(Regular, "a", "xxxx"), (Regular, "b", "xxxx")]);
    let check = |bytes_limit, members| {
        let limits = Limits { bytes: bytes_limit, members };
        let error = unpack_with(&bytes, limits).unwrap_err();
        assert!(matches!(error, ImageError::Bomb { .. }), "{error}");
    };
    check(7, 10);
    check(100, 1);
    unpack_with(&bytes, Limits { bytes: 8, members: 2 }).unwrap();
}
