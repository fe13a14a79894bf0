//! The files of an image source: a directory, or a tar archive that is read like one.

use super::{
    compression,
    error::ImageError,
    tar::{MemberKind, TarReader},
};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Largest JSON document that is read.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
/// Most members an archive of an image may have.
const MAX_MEMBERS: usize = 100_000;
/// Symbolic links followed inside an archive.
const MAX_LINKS: usize = 8;

/// The bytes of an open file.
pub(crate) type Stream = Box<dyn Read>;

/// An open file and its length.
pub(crate) type Opened = (Stream, u64);

/// A place that holds files by name.
#[derive(Debug)]
pub(crate) enum Files {
    /// A directory.
    Directory(PathBuf),
    /// An archive with an index of its members.
    Archive(Archive),
}

/// An archive, uncompressed, and where its members are.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    members: HashMap<String, Place>,
}

#[derive(Debug)]
enum Place {
    Contents { offset: u64, length: u64 },
    Link(String),
}

/// Opens a file that the user named.
pub(crate) fn open(path: &Path) -> Result<File, ImageError> {
    File::open(path).map_err(|cause| ImageError::CannotOpen { path: path.to_owned(), cause })
}

impl Files {
    /// A directory that must exist.
    pub(crate) fn directory(path: &Path) -> Result<Self, ImageError> {
        let cannot = |cause| ImageError::CannotOpen { path: path.to_owned(), cause };
        if !std::fs::metadata(path).map_err(cannot)?.is_dir() {
            return Err(cannot(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self::Directory(path.to_owned()))
    }

    /// An archive, compressed or not; `scratch` is where it is uncompressed.
    pub(crate) fn archive(
        path: &Path,
        scratch: &Path,
        limit: u64,
        form: &'static str,
    ) -> Result<Self, ImageError> {
        let what = path.display().to_string();
        let mut file = open(path)?;
        if file.metadata().is_ok_and(|data| data.is_dir()) {
            let cause = io::ErrorKind::IsADirectory.into();
            return Err(ImageError::CannotOpen { path: path.to_owned(), cause });
        }
        let mut head = [0; 4];
        let read = file.read(&mut head).map_err(|cause| ImageError::read(&what, cause))?;
        rewind(&mut file, &what)?;
        if compression::is_compressed(head.get(..read).unwrap_or_default()) {
            file = uncompressed_copy(file, scratch, limit, &what)?;
        }
        let members = index(&mut file, &what).map_err(|error| match error {
            ImageError::BadArchive { reason, .. } => {
                ImageError::NotAnImage { path: path.to_owned(), form, reason }
            }
            other => other,
        })?;
        Ok(Self::Archive(Archive { path: path.to_owned(), file, members }))
    }

    /// Where the files are.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) => path,
            Self::Archive(archive) => &archive.path,
        }
    }

    /// Opens a file; none when it does not exist.
    pub(crate) fn open(&self, name: &str) -> Result<Option<Opened>, ImageError> {
        match self {
            Self::Directory(root) => {
                let path = root.join(name);
                let cannot = |cause| ImageError::CannotOpen { path: path.clone(), cause };
                match File::open(&path) {
                    Ok(file) => {
                        let length = file.metadata().map_err(cannot)?.len();
                        Ok(Some((Box::new(file), length)))
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(cause) => Err(cannot(cause)),
                }
            }
            Self::Archive(archive) => archive.open(name),
        }
    }

    /// Reads a whole small file; none when it does not exist.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let Some((source, length)) = self.open(name)? else { return Ok(None) };
        if length > MAX_DOCUMENT {
            let what = name.to_owned();
            return Err(ImageError::DocumentTooLarge { what, limit: MAX_DOCUMENT });
        }
        let mut bytes = Vec::new();
        source
            .take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(|cause| ImageError::read(name, cause))?;
        Ok(Some(bytes))
    }
}

impl Archive {
    fn open(&self, name: &str) -> Result<Option<Opened>, ImageError> {
        let mut name = normal(name);
        for _ in 0..MAX_LINKS {
            match self.members.get(&name) {
                None => return Ok(None),
                Some(Place::Link(target)) => name.clone_from(target),
                Some(Place::Contents { offset, length }) => {
                    let what = self.path.display().to_string();
                    let file =
                        self.file.try_clone().map_err(|cause| ImageError::read(&what, cause))?;
                    let part = Part { file, position: *offset, left: *length };
                    return Ok(Some((Box::new(part), *length)));
                }
            }
        }
        Ok(None)
    }
}

/// A part of a file, read by position, so that several can be read in turn.
struct Part {
    file: File,
    position: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let limit = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let portion = buffer.get_mut(..limit).unwrap_or_default();
        let length = self.file.read_at(portion, self.position)?;
        self.position += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

fn rewind(file: &mut File, what: &str) -> Result<(), ImageError> {
    file.seek(SeekFrom::Start(0)).map(|_| ()).map_err(|cause| ImageError::read(what, cause))
}

/// Uncompresses a whole archive into a file without a name.
fn uncompressed_copy(
    file: File,
    scratch: &Path,
    limit: u64,
    what: &str,
) -> Result<File, ImageError> {
    let store = |cause| ImageError::store(scratch, cause);
    let mut copy = crate::home::unnamed_file(scratch).map_err(store)?;
    let mut source = compression::uncompress(file, what)?.take(limit.saturating_add(1));
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let length = source.read(&mut buffer).map_err(|cause| ImageError::read(what, cause))?;
        if length == 0 {
            break;
        }
        total += length as u64;
        if total > limit {
            return Err(ImageError::Bomb { what: what.to_owned(), limit, unit: "bytes" });
        }
        io::Write::write_all(&mut copy, buffer.get(..length).unwrap_or_default()).map_err(store)?;
    }
    rewind(&mut copy, what)?;
    Ok(copy)
}

/// A member's name without `.` and empty components; `..` goes up, but not out.
fn normal(name: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn index(file: &mut File, what: &str) -> Result<HashMap<String, Place>, ImageError> {
    let mut members = HashMap::new();
    let mut reader = TarReader::new(BufReader::with_capacity(1 << 20, &mut *file));
    while let Some(member) = reader.next_member().map_err(|error| error.about(what))? {
        let name = normal(&String::from_utf8_lossy(&member.path));
        let text = |target: &[u8]| String::from_utf8_lossy(target).into_owned();
        let place = match &member.kind {
            MemberKind::File if member.segments.is_none() => {
                Place::Contents { offset: reader.position(), length: member.size }
            }
            MemberKind::HardLink(target) => Place::Link(normal(&text(target))),
            MemberKind::Symlink(target) => {
                Place::Link(normal(&format!("{name}/../{}", text(target))))
            }
            _ => continue,
        };
        members.insert(name, place);
        if members.len() > MAX_MEMBERS {
            let limit = MAX_MEMBERS as u64;
            return Err(ImageError::Bomb { what: what.to_owned(), limit, unit: "members" });
        }
    }
    drop(reader);
    rewind(file, what)?;
    Ok(members)
}
