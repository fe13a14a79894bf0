//! Reading and mapping a program's file (elf(5)).
//!
//! The file is the guest's: everything it says is checked before anything is mapped.

use crate::{
    file::{Kind, Node},
    linux::{Errno, PROT_EXEC, PROT_READ, PROT_WRITE, layouts::number},
    machine::guest::Sink,
    memory::{Mapping, Memory},
};
use alloc::{rc::Rc, vec::Vec};
use kernel_abi::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE;
/// Program headers of a program.
const MAX_HEADERS: u64 = 64;
const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;
const EM_X86_64: u64 = 62;
const PT_LOAD: u64 = 1;
const PT_INTERP: u64 = 3;
const PT_PHDR: u64 = 6;
const PT_GNU_STACK: u64 = 0x6474_e551;

pub(super) fn read_at(node: &Node, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
    let Kind::File(data) = &node.kind else { return Err(Errno::EACCES) };
    let mut bytes = alloc::vec![0; length];
    let count = data.read(offset, &mut Sink::kernel(&mut bytes))?;
    bytes.truncate(count);
    Ok(bytes)
}

/// A loadable part.
#[derive(Clone, Copy, Debug)]
struct Segment {
    flags: u64,
    offset: u64,
    address: u64,
    in_file: u64,
    in_memory: u64,
}

/// What an ELF file says, checked.
#[derive(Debug)]
pub struct Elf {
    pub(super) is_fixed: bool,
    pub(super) entry: u64,
    segments: Vec<Segment>,
    pub(super) interpreter: Option<Vec<u8>>,
    pub(super) headers_at: Option<u64>,
    pub(super) header_count: u64,
    pub(super) stack_executable: bool,
}

impl Elf {
    pub(super) fn parse(node: &Node) -> Result<Self, Errno> {
        Self::decode(|offset, length| read_at(node, offset, length))
    }

    /// Checks what a file says that is read by a function: as many bytes from an offset as there are, at most so many.
    ///
    /// # Errors
    /// `ENOEXEC` for what is no program of this processor, and those of the function.
    pub fn decode(read: impl Fn(u64, usize) -> Result<Vec<u8>, Errno>) -> Result<Self, Errno> {
        let head = read(0, 64)?;
        let is_elf = head.len() == 64 && head.starts_with(b"\x7fELF\x02\x01");
        let kind = number(&head, 16, 2);
        if !is_elf || (kind != ET_EXEC && kind != ET_DYN) || number(&head, 18, 2) != EM_X86_64 {
            return Err(Errno::ENOEXEC);
        }
        let (table, size, count) =
            (number(&head, 32, 8), number(&head, 54, 2), number(&head, 56, 2));
        if size != 56 || count == 0 || count > MAX_HEADERS {
            return Err(Errno::ENOEXEC);
        }
        let headers = read(table, (count * size) as usize)?;
        if headers.len() as u64 != count * size {
            return Err(Errno::ENOEXEC);
        }
        let mut elf = Self {
            is_fixed: kind == ET_EXEC,
            entry: number(&head, 24, 8),
            segments: Vec::new(),
            interpreter: None,
            headers_at: None,
            header_count: count,
            stack_executable: false,
        };
        for header in headers.chunks_exact(56) {
            elf.header(&read, header, table)?;
        }
        if elf.segments.is_empty() { Err(Errno::ENOEXEC) } else { Ok(elf) }
    }

    fn header(
        &mut self,
        read: impl Fn(u64, usize) -> Result<Vec<u8>, Errno>,
        header: &[u8],
        table: u64,
    ) -> Result<(), Errno> {
        let segment = Segment {
            flags: number(header, 4, 4),
            offset: number(header, 8, 8),
            address: number(header, 16, 8),
            in_file: number(header, 32, 8),
            in_memory: number(header, 40, 8),
        };
        match number(header, 0, 4) {
            PT_LOAD if segment.in_memory > 0 => {
                let end = segment.address.checked_add(segment.in_memory).ok_or(Errno::ENOEXEC)?;
                let follows = self
                    .segments
                    .last()
                    .is_none_or(|last| last.address + last.in_memory <= segment.address);
                let fits = end < kernel_abi::layout::GUEST_MAX
                    && segment.in_file <= segment.in_memory
                    && follows;
                if !fits
                    || segment.address % PAGE != segment.offset % PAGE
                    || segment.offset.checked_add(segment.in_file).is_none()
                {
                    return Err(Errno::ENOEXEC);
                }
                if (segment.offset..segment.offset + segment.in_file).contains(&table) {
                    self.headers_at = Some(segment.address + (table - segment.offset));
                }
                self.segments.push(segment);
            }
            PT_INTERP => {
                if !(2..=crate::linux::PATH_MAX as u64).contains(&segment.in_file) {
                    return Err(Errno::ENOEXEC);
                }
                let mut path = read(segment.offset, segment.in_file as usize)?;
                if path.pop() != Some(0) || path.contains(&0) {
                    return Err(Errno::ENOEXEC);
                }
                self.interpreter = Some(path);
            }
            PT_PHDR => self.headers_at = Some(segment.address),
            PT_GNU_STACK => self.stack_executable = segment.flags & 1 != 0,
            _ => {}
        }
        Ok(())
    }

    /// First address of its first page and the one behind its last.
    #[must_use]
    pub fn bounds(&self) -> (u64, u64) {
        let low = self.segments.first().map_or(0, |segment| segment.address & !(PAGE - 1));
        let high = self
            .segments
            .last()
            .map_or(0, |segment| (segment.address + segment.in_memory).next_multiple_of(PAGE));
        (low, high)
    }

    /// Maps the parts; what is added to every address.
    pub(super) fn load(
        &self,
        memory: &Memory,
        node: &Rc<Node>,
        path: &[u8],
        at: Option<u64>,
    ) -> Result<u64, Errno> {
        let (low, high) = self.bounds();
        let bias = if self.is_fixed {
            0
        } else {
            let reservation = Mapping {
                protection: 0,
                shared: false,
                file: None,
                flags: 0,
                name: "",
                path: None,
            };
            let base = memory.map(at.unwrap_or(0), high - low, false, false, &reservation)?;
            memory.unmap(base, high - low)?;
            base.wrapping_sub(low)
        };
        let path: Rc<[u8]> = path.into();
        for segment in &self.segments {
            load_segment(memory, node, &path, segment, bias)?;
        }
        Ok(bias)
    }
}

fn load_segment(
    memory: &Memory,
    node: &Rc<Node>,
    path: &Rc<[u8]>,
    segment: &Segment,
    bias: u64,
) -> Result<(), Errno> {
    let mut protection = 0;
    for (flag, bit) in [(4, PROT_READ), (2, PROT_WRITE), (1, PROT_EXEC)] {
        if segment.flags & flag != 0 {
            protection |= bit;
        }
    }
    let start = bias.wrapping_add(segment.address);
    let page = start & !(PAGE - 1);
    let lead = start - page;
    let file_end = start + segment.in_file;
    let end = start + segment.in_memory;
    if segment.in_file > 0 {
        let file = Some((node.clone(), segment.offset - lead));
        let mapping = Mapping {
            protection,
            shared: false,
            file,
            flags: 0,
            name: "",
            path: Some(path.clone()),
        };
        memory.map(page, file_end - page, true, false, &mapping)?;
    }
    let mapped = if segment.in_file > 0 { file_end.next_multiple_of(PAGE) } else { page };
    if end > mapped {
        let mapping =
            Mapping { protection, shared: false, file: None, flags: 0, name: "", path: None };
        memory.map(mapped, end - mapped, true, false, &mapping)?;
    }
    Ok(())
}

/// The zeros from the end of a writable part's file contents to the end of its page: loaders allocate from what lies behind their variables.
/// Needs the memory attached.
pub(super) fn clear_tails(elf: &Elf, bias: u64) -> Result<(), Errno> {
    for segment in elf
        .segments
        .iter()
        .filter(|segment| segment.flags & 2 != 0 && segment.in_memory > segment.in_file)
    {
        let from = bias.wrapping_add(segment.address + segment.in_file);
        let end = from.next_multiple_of(PAGE);
        if segment.in_file > 0 && end > from {
            Sink::guest(from, (end - from) as usize).put_zeros((end - from) as usize)?;
        }
    }
    Ok(())
}
