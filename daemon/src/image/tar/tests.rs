//! Archives written by the `tar` crate and by GNU tar are read as they were meant.

use super::*;
use crate::scratch::Scratch;
use std::{fs::File, io::Seek, io::Write as _, process::Command};

fn read_all(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(bytes);
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents)?;
        members.push((member, contents));
    }
    Ok(members)
}

fn gnu_tar(scratch: &Scratch, options: &[&str], member: &str) -> Vec<u8> {
    let archive = scratch.path().join("archive.tar");
    let output = Command::new("tar")
        .args(options)
        .arg("-cf")
        .arg(&archive)
        .arg("-C")
        .arg(scratch.path())
        .arg(member)
        .output()
        .expect("GNU tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(archive).unwrap()
}

#[test]
fn every_sparse_format_gives_the_same_map() {
    let scratch = Scratch::new("sparse");
    let mut file = File::create(scratch.path().join("holes")).unwrap();
    for part in 0..9u64 {
        file.seek(io::SeekFrom::Start(part * 1_000_000)).unwrap();
        file.write_all(&[u8::try_from(part).unwrap() + 1; 4096]).unwrap();
    }
    file.set_len(20_000_000).unwrap();
    drop(file);
    let formats: [&[&str]; 4] = [
        &["--format=gnu"],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ];
    for format in formats {
        let options = [&["-S"], format].concat();
        let members = read_all(&gnu_tar(&scratch, &options, "holes")).unwrap();
        let [(member, contents)] = members.as_slice() else { panic!("one member: {format:?}") };
        assert_eq!(member.path, b"holes", "{format:?}");
        assert_eq!(member.size, 20_000_000, "{format:?}");
        let mut expanded = vec![0; 20_000_000];
        let mut rest = contents.as_slice();
        for segment in member.segments.as_ref().unwrap() {
            let (part, after) = rest.split_at(segment.length as usize);
            expanded[segment.offset as usize..][..part.len()].copy_from_slice(part);
            rest = after;
        }
        assert_eq!(expanded, std::fs::read(scratch.path().join("holes")).unwrap(), "{format:?}");
    }
}

#[test]
fn long_names_are_read_in_both_forms() {
    let scratch = Scratch::new("long");
    let name = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    std::fs::create_dir(scratch.path().join("d".repeat(200))).unwrap();
    std::fs::write(scratch.path().join(&name), "x").unwrap();
    for format in ["--format=gnu", "--format=pax"] {
        let members = read_all(&gnu_tar(&scratch, &[format], &name)).unwrap();
        assert_eq!(members[0].0.path, name.as_bytes(), "{format}");
        assert_eq!(members[0].1, b"x");
    }
}

#[test]
fn a_cut_archive_is_an_error_wherever_it_is_cut_inside_a_member() {
    let scratch = Scratch::new("cut");
    std::fs::write(scratch.path().join("f"), [1; 1000]).unwrap();
    let whole = gnu_tar(&scratch, &["--format=pax"], "f");
    let contents = whole.windows(1000).position(|part| part == [1; 1000]).unwrap();
    for end in [0, 100, 511, 600, 1023, 1100, contents, contents + 999] {
        assert!(read_all(&whole[..end]).is_err(), "{end}");
    }
}

#[test]
fn the_padding_of_the_last_member_may_be_missing() {
    let scratch = Scratch::new("unpadded");
    std::fs::write(scratch.path().join("f"), [1; 1000]).unwrap();
    let whole = gnu_tar(&scratch, &["--format=pax"], "f");
    let contents = whole.windows(1000).position(|part| part == [1; 1000]).unwrap();
    for end in [contents + 1000, contents + 1010, contents + 1024] {
        let members = read_all(&whole[..end]).unwrap();
        assert_eq!((members.len(), members[0].1.len()), (1, 1000), "{end}");
    }
}

#[test]
fn something_else_is_not_an_archive() {
    let refused = read_all(&[b'x'; 4096]).unwrap_err();
    assert!(matches!(refused, TarError::Damaged(_)), "{refused:?}");
}

#[test]
fn binary_numbers_are_read() {
    assert_eq!(header::number(b"\x80\0\0\0\0\0\0\x01\0\0\0\0").unwrap(), 1 << 32);
    assert_eq!(header::number(&[0xff; 12]).unwrap(), -1);
    assert_eq!(header::number(b"0000644\0").unwrap(), 0o644);
    assert_eq!(header::number(b"       \0").unwrap(), 0);
    assert!(header::number(b"0000849\0").is_err());
    assert!(header::number(&[0x80 | 0x3f; 12]).is_err());
}
