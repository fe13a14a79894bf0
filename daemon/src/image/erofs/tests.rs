//! Blobs are checked by the reference tools: `fsck.erofs` must accept them and extract what was put in.

use super::*;
use crate::{
    image::tree::{Attributes, Directory, ROOT, Xattrs},
    scratch::Scratch,
};
use proptest::prelude::*;
use std::{collections::BTreeMap, os::unix::ffi::OsStrExt, path::Path, process::Command};

fn attributes(permissions: u16) -> Attributes {
    Attributes { permissions, modified: 1_700_000_000, ..Attributes::default() }
}

fn file(writer: &mut BlobWriter, bytes: &[u8]) -> Kind {
    Kind::File(store_contents(writer, &mut &bytes[..], bytes.len() as u64).unwrap())
}

fn create(path: &Path) -> BlobWriter {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    BlobWriter::new(file).unwrap()
}

fn extract(blob: &Path, to: &Path) {
    let output = Command::new("fsck.erofs")
        .arg(format!("--extract={}", to.display()))
        .args(["--no-preserve-owner", "--preserve-perms", "--overwrite"])
        .arg(blob)
        .output()
        .expect("fsck.erofs (package erofs-utils) runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("<E>"), "{errors}");
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 251 + 1).unwrap()).collect()
}

/// Builds a tree from paths and contents.
fn build(writer: &mut BlobWriter, files: &BTreeMap<Vec<u8>, Vec<u8>>) -> Tree {
    let mut tree = Tree::default();
    for (path, bytes) in files {
        let path: Vec<_> = path.split(|b| *b == b'/').collect();
        let kind = file(writer, bytes);
        // A path that leads through a file of another path is refused; the test compares what is there.
        let _ = tree.insert(&path, attributes(0o644), kind);
    }
    tree
}

/// Compares an extracted directory with a tree.
fn compare(tree: &Tree, id: usize, path: &Path, large: &BTreeMap<u32, Vec<u8>>) {
    let directory = tree.directory(id).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    assert_eq!(names, directory.children.keys().cloned().collect::<Vec<_>>());
    for (name, child) in &directory.children {
        let path = path.join(std::ffi::OsStr::from_bytes(name));
        match &tree.node(*child).kind {
            Kind::Directory(_) => compare(tree, *child, &path, large),
            Kind::File(Contents::Inline(bytes)) => {
                assert_eq!(&std::fs::read(&path).unwrap(), bytes);
            }
            Kind::File(Contents::Plain { first_block, .. }) => {
                assert_eq!(std::fs::read(&path).unwrap(), large[first_block]);
            }
            Kind::Symlink(target) => {
                let found = std::fs::read_link(&path).unwrap();
                assert_eq!(found.as_os_str().as_bytes(), target.as_slice());
            }
            _ => {}
        }
    }
}

fn check(files: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let scratch = Scratch::new("erofs");
    let blob = scratch.path().join("blob");
    let mut writer = create(&blob);
    let mut tree = build(&mut writer, files);
    tree.settle();
    writer.finish(&tree).unwrap();
    let image = std::fs::read(&blob).unwrap();
    let mut large = BTreeMap::new();
    for id in 0..tree.len() {
        if let Kind::File(Contents::Plain { first_block, size }) = tree.node(id).kind {
            let start = first_block as usize * disk::BLOCK_LENGTH;
            let end = start + size as usize;
            large.insert(first_block, image[start..end].to_vec());
            let page_end = end.next_multiple_of(disk::BLOCK_LENGTH);
            assert!(image[end..page_end].iter().all(|b| *b == 0), "bytes after the end are zero");
        }
    }
    let to = scratch.path().join("out");
    extract(&blob, &to);
    compare(&tree, ROOT, &to, &large);
}

#[test]
fn an_empty_layer_is_a_valid_blob() {
    check(&BTreeMap::new());
}

#[test]
fn sizes_around_the_limits_are_kept() {
    let sizes = [0, 1, 31, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 300_000];
    check(&sizes.iter().map(|n| (format!("f{n}").into_bytes(), pattern(*n))).collect());
}

#[test]
fn directories_with_many_long_names_are_kept() {
    let name = |i: usize| format!("d/{i:04}{}", "n".repeat(i % 250)).into_bytes();
    check(&(0..700).map(|i| (name(i), pattern(i % 40))).collect());
}

#[test]
fn every_directory_tail_length_is_accepted() {
    let name = |d: usize, i: usize| format!("{d}/{i:02}{}", "x".repeat(40 + d)).into_bytes();
    check(&(0..60).flat_map(|d| (0..40).map(move |i| (name(d, i), Vec::new()))).collect());
}

#[test]
fn a_last_inode_anywhere_in_its_block_is_accepted() {
    // Nothing but inodes of 64 bytes and the root's directory; one of these trees ends where a block does.
    for count in 40..110 {
        check(&(0..count).map(|i| (format!("{i:03}").into_bytes(), Vec::new())).collect());
    }
}

#[test]
fn equal_trees_give_equal_blobs() {
    let scratch = Scratch::new("erofs-equal");
    let files = BTreeMap::from([(b"a/b".to_vec(), pattern(5000)), (b"c".to_vec(), pattern(10))]);
    let digest = |name: &str| {
        let mut writer = create(&scratch.path().join(name));
        let tree = build(&mut writer, &files);
        writer.finish(&tree).unwrap()
    };
    assert_eq!(digest("one"), digest("two"));
}

#[test]
fn every_kind_and_attribute_is_accepted() {
    let scratch = Scratch::new("erofs-kinds");
    let blob = scratch.path().join("blob");
    let mut writer = create(&blob);
    let mut tree = Tree::default();
    let xattrs = Xattrs::from([
        (b"security.capability".to_vec(), b"\x01\0\0\x02\n\0\0\0".to_vec()),
        (b"user.long".to_vec(), pattern(3000)),
    ]);
    let mut with = attributes(0o4755);
    with.xattrs = xattrs.clone();
    let kind = file(&mut writer, &pattern(1000));
    tree.insert(&[b"bin", b"su"], with.clone(), kind).unwrap();
    tree.hard_link(&[b"bin", b"sudo"], &[b"bin", b"su"]).unwrap();
    let long = vec![b'l'; 4000];
    tree.insert(&[b"link"], attributes(0o777), Kind::Symlink(long)).unwrap();
    tree.insert(&[b"fifo"], attributes(0o600), Kind::Fifo).unwrap();
    tree.insert(&[b"socket"], attributes(0o600), Kind::Socket).unwrap();
    let null = Kind::CharacterDevice { major: 1, minor: 3 };
    tree.insert(&[b"dev", b"null"], attributes(0o666), null).unwrap();
    with.permissions = 0o1777;
    let directory = Kind::Directory(Directory::default());
    tree.insert(&[b"tmp"], with.clone(), directory).unwrap();
    tree.whiteout(&[b"tmp"], b"gone").unwrap();
    tree.make_opaque(&[b"opaque"]).unwrap();
    tree.settle();
    writer.finish(&tree).unwrap();
    let output = Command::new("fsck.erofs").arg(&blob).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut reader = reader::BlobReader::new(File::open(&blob).unwrap()).unwrap();
    assert_eq!(reader.directory(&[b"tmp".to_vec()]).unwrap(), Some(with));
    assert_eq!(reader.directory(&[b"link".to_vec()]).unwrap(), None);
    assert_eq!(reader.directory(&[b"absent".to_vec()]).unwrap(), None);
    let opaque = reader.directory(&[b"opaque".to_vec()]).unwrap().unwrap();
    assert_eq!(opaque.xattrs[&b"trusted.overlay.opaque"[..]], b"y");
}

#[test]
fn sparse_contents_read_as_zeros() {
    let scratch = Scratch::new("erofs-sparse");
    let blob = scratch.path().join("blob");
    let mut writer = create(&blob);
    let first_block = writer.begin_file().unwrap();
    writer.write(b"start").unwrap();
    writer.write_hole(1_000_000).unwrap();
    writer.write(b"end").unwrap();
    writer.end_file().unwrap();
    let mut tree = Tree::default();
    let kind = Kind::File(Contents::Plain { first_block, size: 1_000_008 });
    tree.insert(&[b"sparse"], attributes(0o644), kind).unwrap();
    writer.finish(&tree).unwrap();
    let to = scratch.path().join("out");
    extract(&blob, &to);
    let bytes = std::fs::read(to.join("sparse")).unwrap();
    assert_eq!(bytes.len(), 1_000_008);
    assert!(bytes.starts_with(b"start\0") && bytes.ends_with(b"\0end"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]
    #[test]
    fn random_trees_are_extracted_as_they_were(
        files in prop::collection::btree_map(
            "[a-c]{1,3}(/[a-e.]{3,60}){0,3}".prop_map(String::into_bytes),
            prop_oneof![0usize..64, 1900usize..2200, 4000usize..9000].prop_map(pattern),
            0..60,
        )
    ) {
        // The names "." and ".." never reach the writer.
        let files = files.into_iter()
            .filter(|(path, _)| path.split(|b| *b == b'/').all(|c| c != b"." && c != b".."))
            .collect();
        check(&files);
    }
}
