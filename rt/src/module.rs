//! Reading the boot module (`kernel_abi::boot`): its programs and the system description.
//!
//! The module was composed by the build and is trusted, but every offset is checked all the same: a broken build is an error, not a crash.

use crate::{Result, Space, view::View};
use alloc::vec::Vec;
use kernel_abi::{
    Error, PAGE_SIZE,
    boot::{Header, MAGIC, Program, Segment, VERSION},
    space::Access,
};
use zerocopy::FromBytes;

/// The module's tables.
#[derive(Debug)]
pub struct Module {
    space: Space,
    programs: Vec<Program>,
    segments: Vec<Segment>,
    description: Vec<u8>,
}

/// One program of it.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// The module's Space.
    pub space: Space,
    /// Entry address.
    pub entry: u64,
    /// Its segments.
    pub segments: &'a [Segment],
}

impl Module {
    /// Reads the tables of a module that a Space holds.
    ///
    /// # Errors
    /// `BadArgument` when the tables are wrong; errors of mapping.
    pub fn read(space: Space) -> Result<Self> {
        let header: Header = {
            let first = View::map(space, 0, 1, Access::READ)?;
            read(bytes_of(&first), 0)?
        };
        if header.magic != MAGIC || header.version != VERSION {
            return Err(Error::BadArgument);
        }
        let tables = header
            .description_offset
            .checked_add(header.description_length)
            .ok_or(Error::BadArgument)?;
        let view = View::map(space, 0, tables.div_ceil(PAGE_SIZE), Access::READ)?;
        let bytes = bytes_of(&view);
        let mut at = size_of::<Header>();
        let mut programs = Vec::new();
        for _ in 0..header.program_count {
            programs.push(read(bytes, at)?);
            at += size_of::<Program>();
        }
        let mut segments = Vec::new();
        for _ in 0..header.segment_count {
            segments.push(read(bytes, at)?);
            at += size_of::<Segment>();
        }
        let range = header.description_offset as usize..tables as usize;
        let description = bytes.get(range).ok_or(Error::BadArgument)?.to_vec();
        Ok(Self { space, programs, segments, description })
    }

    /// Names of all programs.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().filter_map(|program| core::str::from_utf8(name_of(program)).ok())
    }

    /// A program by name.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<Image<'_>> {
        let program = self.programs.iter().find(|program| name_of(program) == name.as_bytes())?;
        let first = program.first_segment as usize;
        let segments =
            self.segments.get(first..first.checked_add(program.segment_count as usize)?)?;
        Some(Image { space: self.space, entry: program.entry, segments })
    }

    /// The system description, encoded.
    #[must_use]
    pub fn description(&self) -> &[u8] {
        &self.description
    }
}

fn name_of(program: &Program) -> &[u8] {
    let length = program.name.iter().position(|byte| *byte == 0).unwrap_or(program.name.len());
    program.name.get(..length).unwrap_or_default()
}

fn bytes_of(view: &View) -> &[u8] {
    // SAFETY: the module is frozen, so its bytes never change while the view exists.
    unsafe { core::slice::from_raw_parts(view.pointer(), view.length()) }
}

fn read<T: FromBytes>(bytes: &[u8], at: usize) -> Result<T> {
    let rest = bytes.get(at..).ok_or(Error::BadArgument)?;
    T::read_from_prefix(rest).map(|(value, _)| value).map_err(|_| Error::BadArgument)
}
