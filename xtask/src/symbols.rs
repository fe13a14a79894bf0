//! The functions of the machine's programs: names for the addresses of a dump.

use anyhow::{Context, Result};
use elf::{ElfBytes, abi, endian::LittleEndian};
use std::fmt::Write as _;

/// Appends the functions of an executable file as lines of `ADDRESS SIZE PROGRAM FUNCTION`, numbers in hexadecimal.
pub(crate) fn append(table: &mut String, program: &str, bytes: &[u8]) -> Result<()> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).context("not an ELF file")?;
    let (symbols, strings) = file.symbol_table()?.context("no symbols")?;
    for symbol in symbols.iter().filter(|symbol| symbol.st_shndx != abi::SHN_UNDEF) {
        if let (abi::STT_FUNC, Ok(name)) =
            (symbol.st_symtype(), strings.get(symbol.st_name as usize))
        {
            let (start, size) = (symbol.st_value, symbol.st_size);
            writeln!(table, "{start:x} {size:x} {program} {}", plain(name))?;
        }
    }
    Ok(())
}

/// A symbol's name without its hash.
pub(crate) fn plain(symbol: &str) -> String {
    let name = addr2line::demangle_auto(symbol.into(), None);
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 => path.to_owned(),
        _ => name.into_owned(),
    }
}
