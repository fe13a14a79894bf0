//! Composes a boot module (`kernel_abi::boot`) from `system.toml` and built ELF files.
//!
//! Programs are flattened here so that nobody on the machine needs an ELF loader for native code.

use anyhow::{Context, Result, bail, ensure};
use contract::system::{Description, GrantKind, Service};
use elf::{ElfBytes, abi, endian::LittleEndian};
use kernel_abi::{
    PAGE_SIZE,
    boot::{Header, MAGIC, Program, Segment, VERSION},
    layout,
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use zerocopy::IntoBytes;

/// One named set of services.
#[derive(Clone, Debug)]
pub(crate) struct Composition {
    description: Description,
    /// Programs without a service of their own (the personality, test programs).
    extra: Vec<String>,
    /// Files carried as programs with one read-only segment.
    blobs: BTreeMap<String, String>,
}

/// `system.toml`: compositions by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    composition: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    services: Vec<Service>,
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    blobs: BTreeMap<String, String>,
}

impl Composition {
    /// Reads every composition of a file.
    pub(crate) fn read_all(path: &Path) -> Result<Vec<Self>> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Vec<Self>> {
        let file: File = toml::from_str(text)?;
        file.composition
            .into_iter()
            .map(|(name, entry)| {
                let mut services = entry.services;
                for service in &mut services {
                    if service.program.is_empty() {
                        service.program.clone_from(&service.name);
                    }
                }
                check(&name, &services)?;
                Ok(Self {
                    description: Description { name, services },
                    extra: entry.programs,
                    blobs: entry.blobs,
                })
            })
            .collect()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.description.name
    }

    /// Whether it carries files that are made for it alone, and not by every build.
    pub(crate) fn has_blobs(&self) -> bool {
        !self.blobs.is_empty()
    }

    /// The same with other files in its blobs' place.
    pub(crate) fn with_blobs(&self, blobs: &[(String, PathBuf)]) -> Self {
        let blob = |(name, file): &(String, PathBuf)| (name.clone(), file.display().to_string());
        Self { blobs: blobs.iter().map(blob).collect(), ..self.clone() }
    }

    /// Names of the programs in the module, root first, and of what is built for each: `NAME=PROGRAM` puts another program in a place.
    fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        let services = self.description.services.iter().map(|service| service.program.as_str());
        std::iter::once("root")
            .chain(services)
            .chain(self.extra.iter().map(String::as_str))
            .map(|name| name.split_once('=').unwrap_or((name, name)))
    }

    /// Names of the programs to build.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &str> {
        self.places().map(|(_, program)| program)
    }
}

/// What a service is granted of another one must exist: a Gate's Endpoint, and a Domain of one that is started before.
fn check(name: &str, services: &[Service]) -> Result<()> {
    for (index, service) in services.iter().enumerate() {
        for grant in &service.grants {
            let is_there = match &grant.what {
                GrantKind::Gate { service: other, endpoint, .. } => services.iter().any(|found| {
                    found.name == *other
                        && holds(found, endpoint, |what| *what == GrantKind::Endpoint)
                }),
                GrantKind::Accounts { service: other, domain } => services
                    .iter()
                    .take(index)
                    .any(|found| found.name == *other && has_domain(found, domain)),
                _ => true,
            };
            ensure!(
                is_there,
                "composition {name}: {}'s {:?} names something that does not exist: {:?}",
                service.name,
                grant.name,
                grant.what
            );
        }
    }
    Ok(())
}

/// Whether a service is granted something of a kind under a name.
fn holds(service: &Service, name: &str, is_it: impl Fn(&GrantKind) -> bool) -> bool {
    service.grants.iter().any(|held| held.name == name && is_it(&held.what))
}

/// Whether root knows a Domain that a service has under a name.
fn has_domain(service: &Service, name: &str) -> bool {
    let is_domain = |what: &GrantKind| matches!(what, GrantKind::CompartmentsDomain { .. });
    name == "domain" || holds(service, name, is_domain)
}

/// A flattened program.
#[derive(Debug)]
struct Flat {
    name: String,
    entry: u64,
    segments: Vec<(Segment, Vec<u8>)>,
}

/// Builds the module; `read` gives a program's ELF file.
pub(crate) fn compose(
    composition: &Composition,
    root: &Path,
    read: impl Fn(&str) -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let mut flats = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (name, program) in composition.places() {
        if !seen.contains(&name) {
            seen.push(name);
            let bytes = read(program)?;
            flats.push(flatten(name, &bytes).with_context(|| format!("program {program}"))?);
        }
    }
    for (name, path) in &composition.blobs {
        let bytes = fs::read(root.join(path))
            .with_context(|| format!("blob {name}: {path} cannot be read"))?;
        flats.push(blob(name, bytes)?);
    }
    let description = postcard::to_allocvec(&composition.description)?;
    assemble(&flats, &description)
}

/// A file as a program with one read-only segment.
fn blob(name: &str, bytes: Vec<u8>) -> Result<Flat> {
    let pages = u64::try_from(bytes.len())?.div_ceil(PAGE_SIZE);
    ensure!(pages > 0, "blob {name} is empty");
    let segment = Segment {
        home_offset: layout::home::HEAP_END,
        file_offset: 0,
        file_pages: pages,
        memory_pages: pages,
        access: 1,
        reserved: [0; 7],
    };
    Ok(Flat { name: name.to_owned(), entry: 0, segments: vec![(segment, bytes)] })
}

/// Turns an ELF file into page-aligned segments, checking every field used.
fn flatten(name: &str, bytes: &[u8]) -> Result<Flat> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).context("not an ELF file")?;
    ensure!(file.ehdr.e_machine == abi::EM_X86_64, "not for x86-64");
    ensure!(
        file.ehdr.e_type == abi::ET_EXEC || file.ehdr.e_type == abi::ET_DYN,
        "not an executable"
    );
    let headers = file.segments().context("no program headers")?;
    let mut segments: Vec<(Segment, Vec<u8>)> = Vec::new();
    for header in
        headers.iter().filter(|header| header.p_type == abi::PT_LOAD && header.p_memsz > 0)
    {
        segments.push(segment(&header, bytes)?);
    }
    ensure!(!segments.is_empty(), "nothing to load");
    segments.sort_by_key(|(segment, _)| segment.home_offset);
    for pair in segments.windows(2) {
        let end = pair[0].0.home_offset + pair[0].0.memory_pages * PAGE_SIZE;
        ensure!(end <= pair[1].0.home_offset, "two segments share a page");
    }
    let entry = file.ehdr.e_entry;
    let in_text = segments.iter().any(|(segment, _)| {
        let start = layout::HOME_BASE + segment.home_offset;
        segment.access & 4 != 0
            && entry >= start
            && entry < start + segment.memory_pages * PAGE_SIZE
    });
    ensure!(in_text, "the entry {entry:#x} is not in an executable segment");
    Ok(Flat { name: name.to_owned(), entry, segments })
}

fn segment(header: &elf::segment::ProgramHeader, bytes: &[u8]) -> Result<(Segment, Vec<u8>)> {
    let writable = header.p_flags & abi::PF_W != 0;
    let executable = header.p_flags & abi::PF_X != 0;
    ensure!(!(writable && executable), "a segment is writable and executable");
    ensure!(header.p_filesz <= header.p_memsz, "a segment's contents are longer than its memory");
    let start = header
        .p_vaddr
        .checked_sub(layout::HOME_BASE)
        .filter(|offset| *offset < layout::HOME_SIZE)
        .with_context(|| {
            format!("a segment at {:#x} is outside the home region", header.p_vaddr)
        })?;
    let lead = start % PAGE_SIZE;
    let range = usize::try_from(header.p_offset)?
        ..usize::try_from(
            header.p_offset.checked_add(header.p_filesz).context("a segment's offset overflows")?,
        )?;
    let body = bytes.get(range).context("a segment lies beyond the end of the file")?;
    let mut contents = vec![0; usize::try_from(lead)?];
    contents.extend_from_slice(body);
    let pages = |length: u64| (lead + length).div_ceil(PAGE_SIZE);
    let segment = Segment {
        home_offset: start - lead,
        file_offset: 0,
        file_pages: if header.p_filesz == 0 { 0 } else { pages(header.p_filesz) },
        memory_pages: pages(header.p_memsz),
        access: 1 | u8::from(writable) << 1 | u8::from(executable) << 2,
        reserved: [0; 7],
    };
    Ok((segment, contents))
}

/// Lays everything out.
fn assemble(flats: &[Flat], description: &[u8]) -> Result<Vec<u8>> {
    let segment_count: usize = flats.iter().map(|flat| flat.segments.len()).sum();
    let tables = size_of::<Header>()
        + flats.len() * size_of::<Program>()
        + segment_count * size_of::<Segment>();
    let page = usize::try_from(PAGE_SIZE)?;
    let mut offset = (tables + description.len()).next_multiple_of(page);
    let (mut programs, mut segments, mut contents) = (Vec::new(), Vec::new(), Vec::new());
    for flat in flats {
        let mut name = [0; 32];
        ensure!(flat.name.len() < name.len(), "the name {} is too long", flat.name);
        name[..flat.name.len()].copy_from_slice(flat.name.as_bytes());
        programs.extend_from_slice(
            Program {
                name,
                entry: flat.entry,
                first_segment: u32::try_from(segments.len() / size_of::<Segment>())?,
                segment_count: u32::try_from(flat.segments.len())?,
            }
            .as_bytes(),
        );
        for (segment, bytes) in &flat.segments {
            let mut segment = *segment;
            segment.file_offset = u64::try_from(offset)?;
            segments.extend_from_slice(segment.as_bytes());
            let length = usize::try_from(segment.file_pages * PAGE_SIZE)?;
            contents.extend_from_slice(&bytes[..bytes.len().min(length)]);
            contents.resize(contents.len().next_multiple_of(page), 0);
            offset += length;
        }
    }
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        program_count: u32::try_from(flats.len())?,
        segment_count: u32::try_from(segment_count)?,
        reserved: 0,
        description_offset: u64::try_from(tables)?,
        description_length: u64::try_from(description.len())?,
        length: u64::try_from(offset)?,
    };
    let mut image = header.as_bytes().to_vec();
    image.extend_from_slice(&programs);
    image.extend_from_slice(&segments);
    image.extend_from_slice(description);
    image.resize(image.len().next_multiple_of(page), 0);
    image.extend_from_slice(&contents);
    if image.len() != offset {
        bail!("the layout is inconsistent: {} bytes instead of {offset}", image.len());
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromBytes;

    /// A minimal executable: one text segment at the start of the program area.
    fn executable() -> Vec<u8> {
        let mut file = vec![0; 0x1000 + 16];
        file[..16].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &2u16.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(24, &layout::PROGRAM_BASE.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(52, &64u16.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(64, &1u32.to_le_bytes());
        put(68, &5u32.to_le_bytes());
        put(72, &0x1000u64.to_le_bytes());
        put(80, &layout::PROGRAM_BASE.to_le_bytes());
        put(96, &16u64.to_le_bytes());
        put(104, &0x1800u64.to_le_bytes());
        file
    }

    #[test]
    fn a_module_holds_programs_and_description() {
        let text = "[composition.system]\nprograms = [\"extra\"]\n[[composition.system.services]]\nname = \"a\"\nmemory_pages = 1\nthreads = 1\nobjects = 1\nslots = 1\nlatency = 1\ngrants = []\non_death = \"Restart\"\nprogram = \"\"\n";
        let composition = Composition::parse(text).unwrap().remove(0);
        let image = compose(&composition, Path::new("."), |_| Ok(executable())).unwrap();
        let (header, rest) = Header::read_from_prefix(&image).unwrap();
        assert_eq!((header.magic, header.program_count, header.segment_count), (MAGIC, 3, 3));
        assert_eq!(header.length, image.len() as u64);
        let (program, _) = Program::read_from_prefix(rest).unwrap();
        assert_eq!((&program.name[..5], program.entry), (&b"root\0"[..], layout::PROGRAM_BASE));
        let start = usize::try_from(header.description_offset).unwrap();
        let end = start + usize::try_from(header.description_length).unwrap();
        let description: Description = postcard::from_bytes(&image[start..end]).unwrap();
        assert_eq!(description.services[0].program, "a");
    }

    #[test]
    fn corrupt_programs_are_refused_with_the_cause() {
        let cause = |change: fn(&mut Vec<u8>)| {
            let mut file = executable();
            change(&mut file);
            flatten("p", &file).unwrap_err().to_string()
        };
        assert_eq!(cause(|file| file.truncate(40)), "not an ELF file");
        assert_eq!(cause(|file| file[18] = 3), "not for x86-64");
        assert_eq!(cause(|file| file[68] = 7), "a segment is writable and executable");
        assert!(cause(|file| file[85] = 1).contains("outside the home region"));
        assert!(cause(|file| file[100] = 1).contains("longer than its memory"));
        assert!(cause(|file| file[31] = 0).contains("not in an executable segment"));
        assert!(cause(|file| file.truncate(0x1001)).contains("beyond the end of the file"));
    }

    #[test]
    fn a_gate_to_nowhere_is_refused() {
        let text = "[[composition.system.services]]\nname = \"a\"\nprogram = \"\"\nmemory_pages = 1\nthreads = 1\nobjects = 1\nslots = 1\nlatency = 1\non_death = \"Restart\"\ngrants = [{ name = \"g\", what = { Gate = { service = \"b\", endpoint = \"e\", badge = 1, limit = 1 } } }]\n";
        let error = Composition::parse(text).unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
    }
}
