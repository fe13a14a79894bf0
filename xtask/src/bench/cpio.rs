//! Writes initial RAM file systems ("newc" cpio archives), device nodes included, without root.
//!
//! Format: kernel documentation `driver-api/early-userspace/buffer-format`.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

/// When everything was changed: 2026-01-01, as the machines' clocks say. Some programs refuse files of 1970.
const MODIFIED: u32 = 1_767_225_600;

/// An archive being written.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

/// What one entry is, beside its name and contents.
struct Entry {
    mode: u32,
    links: u32,
    device: (u32, u32),
}

impl Archive {
    fn entry(&mut self, name: &str, entry: &Entry, contents: &[u8]) {
        self.inode += 1;
        let fields = [
            self.inode,
            entry.mode,
            0,
            0,
            entry.links,
            MODIFIED,
            u32::try_from(contents.len()).expect("an entry is below 4 GiB"),
            0,
            0,
            entry.device.0,
            entry.device.1,
            u32::try_from(name.len() + 1).expect("a name is short"),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds everything below a folder, owned by root, in sorted order.
    pub(crate) fn tree(&mut self, root: &Path) -> io::Result<()> {
        self.folder(root, "")
    }

    /// Adds everything below a folder below another name, and the folders on the way.
    pub(crate) fn tree_at(&mut self, root: &Path, name: &str) -> io::Result<()> {
        for (end, _) in name.match_indices('/').chain([(name.len(), "")]) {
            self.entry(&name[..end], &Entry { mode: 0o040_755, links: 2, device: (0, 0) }, &[]);
        }
        self.folder(root, &format!("{name}/"))
    }

    fn folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        let mut entries: Vec<_> = fs::read_dir(folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for found in entries {
            let path = found.path();
            let name = format!("{prefix}{}", found.file_name().to_string_lossy());
            let meta = fs::symlink_metadata(&path)?;
            let entry = Entry { mode: meta.mode(), links: 1, device: (0, 0) };
            if meta.is_dir() {
                self.entry(&name, &Entry { links: 2, ..entry }, &[]);
                self.folder(&path, &format!("{name}/"))?;
            } else if meta.is_symlink() {
                let target = fs::read_link(&path)?;
                self.entry(&name, &entry, target.to_string_lossy().as_bytes());
            } else {
                let mode = 0o100_000 | meta.permissions().mode() & 0o7777;
                self.entry(&name, &Entry { mode, ..entry }, &fs::read(&path)?);
            }
        }
        Ok(())
    }

    /// Adds a character device.
    pub(crate) fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, &Entry { mode: 0o020_600, links: 1, device: (major, minor) }, &[]);
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", &Entry { mode: 0, links: 1, device: (0, 0) }, &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_holds_files_devices_and_a_trailer() {
        let folder = std::env::temp_dir().join(format!("cpio-{}", std::process::id()));
        fs::create_dir_all(folder.join("d")).unwrap();
        fs::write(folder.join("d/f"), "text").unwrap();
        let mut archive = Archive::default();
        archive.tree(&folder).unwrap();
        archive.character_device("console", 5, 1);
        let bytes = archive.finish();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let text = String::from_utf8_lossy(&bytes);
        for part in ["d\0", "d/f\0", "text", "console\0", "TRAILER!!!\0"] {
            assert!(text.contains(part), "{part:?} is missing");
        }
        assert_eq!(text.matches("070701").count(), 4);
    }
}
