//! Names of addresses: which program, which function, and which function was inlined there.

use crate::symbols::plain;
use addr2line::Loader;
use anyhow::{Context, Result, anyhow};
use elf::{ElfBytes, abi, endian::LittleEndian};
use std::{fs, path::PathBuf};

/// One program's code.
struct Program {
    name: &'static str,
    /// Executable addresses.
    ranges: Vec<(u64, u64)>,
    /// Functions: address and demangled name.
    functions: Vec<(u64, String)>,
    loader: Loader,
}

/// All programs that may run. Native programs share no address; Linux programs may, and the first one that is named here is believed.
pub(crate) struct Names {
    programs: Vec<Program>,
}

impl Names {
    /// Reads executable files.
    pub(crate) fn read(files: &[(&'static str, PathBuf)]) -> Result<Self> {
        let read = |(name, file): &(&'static str, PathBuf)| {
            Program::read(name, file).with_context(|| format!("{} cannot be read", file.display()))
        };
        Ok(Self { programs: files.iter().map(read).collect::<Result<_>>()? })
    }

    /// Where a function of a program begins.
    pub(crate) fn address(&self, program: &str, function: &str) -> Option<u64> {
        let program = self.programs.iter().find(|known| known.name == program)?;
        program.functions.iter().find(|(_, name)| name == function).map(|(address, _)| *address)
    }

    fn find(&self, address: u64) -> Option<&Program> {
        let holds = |program: &&Program| {
            program.ranges.iter().any(|(start, end)| (*start..*end).contains(&address))
        };
        self.programs.iter().find(holds)
    }

    /// The program whose code an address is.
    pub(crate) fn program(&self, address: u64) -> &'static str {
        self.find(address).map_or("?", |program| program.name)
    }

    /// The program and the first address of the function at an address.
    pub(crate) fn function(&self, address: u64) -> (&'static str, u64) {
        let Some(program) = self.find(address) else { return ("?", address) };
        let index = program.functions.partition_point(|(start, _)| *start <= address);
        let start = index.checked_sub(1).and_then(|index| program.functions.get(index));
        (program.name, start.map_or(address, |(start, _)| *start))
    }

    /// The function at an address, and the innermost inlined one with where it was inlined.
    pub(crate) fn describe(&self, address: u64) -> (String, String) {
        let Some(program) = self.find(address) else {
            return (format!("{address:#x}"), format!("{address:#x}"));
        };
        let index = program.functions.partition_point(|(start, _)| *start <= address);
        let function = match index.checked_sub(1).and_then(|index| program.functions.get(index)) {
            Some((_, name)) => name.clone(),
            None => format!("{address:#x}"),
        };
        let place = match program.innermost(address) {
            Some(inner) if inner != function => format!("{inner}  <- {function}"),
            _ => function.clone(),
        };
        (function, place)
    }

    /// The functions inlined at an address, innermost first, up to the one that is a function of its own.
    pub(crate) fn chain(&self, address: u64) -> String {
        let Some(program) = self.find(address) else { return format!("{address:#x}") };
        let chain = program.inlined(address);
        let ours: Vec<&str> = chain.iter().map(String::as_str).collect();
        ours.join(" <- ")
    }
}

impl Program {
    fn read(name: &'static str, file: &PathBuf) -> Result<Self> {
        let bytes = fs::read(file)?;
        let elf = ElfBytes::<LittleEndian>::minimal_parse(&bytes)?;
        let segments = elf.segments().context("no segments")?;
        let ranges = segments
            .iter()
            .filter(|segment| segment.p_type == abi::PT_LOAD && segment.p_flags & abi::PF_X != 0)
            .map(|segment| (segment.p_vaddr, segment.p_vaddr + segment.p_memsz))
            .collect();
        // A program that was stripped still has those it offers to others.
        let table = elf.symbol_table()?;
        let table = table.map_or_else(|| elf.dynamic_symbol_table(), |table| Ok(Some(table)));
        let (symbols, strings) = table?.context("no symbols")?;
        let mut functions = Vec::new();
        for symbol in symbols.iter().filter(|symbol| symbol.st_shndx != abi::SHN_UNDEF) {
            let is_code = matches!(symbol.st_symtype(), abi::STT_FUNC | abi::STT_NOTYPE);
            if let (true, Ok(text)) = (is_code, strings.get(symbol.st_name as usize))
                && !text.is_empty()
            {
                functions.push((symbol.st_value, plain(text)));
            }
        }
        functions.sort();
        let loader = Loader::new(file).map_err(|error| anyhow!("no debug information: {error}"))?;
        Ok(Self { name, ranges, functions, loader })
    }

    /// The innermost function inlined at an address.
    fn innermost(&self, address: u64) -> Option<String> {
        self.inlined(address).into_iter().next()
    }

    /// The functions at an address, innermost first.
    fn inlined(&self, address: u64) -> Vec<String> {
        let mut names = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(address) else { return names };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.and_then(|name| name.raw_name().ok().map(|raw| plain(&raw)));
            names.extend(name);
        }
        names
    }
}
