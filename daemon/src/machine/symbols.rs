//! Names of the addresses in the machine's log: a dump says where, this says in which function.
//!
//! Owns: the table of functions that the build makes of the kernel and the native programs, which share no address. Must not know: what a dump looks like. Its input is a
//! log that anything may have been written to: an address that is no function's stays as it is.

use super::system_image::SystemImage;
use std::{fmt::Write as _, path::Path};

/// Digits of the shortest address that is looked up: native programs and the kernel live in the upper half.
const DIGITS: usize = 16;

/// A function.
#[derive(Debug)]
struct Function {
    start: u64,
    size: u64,
    /// The program and the function in it.
    name: String,
}

/// Functions by address.
#[derive(Debug, Default)]
pub struct Symbols {
    functions: Vec<Function>,
}

impl Symbols {
    /// The table of the machine's system image; empty when it has none.
    #[must_use]
    pub fn find(machine: &Path) -> Self {
        let image = SystemImage::find(machine).ok();
        let text = image.and_then(|image| std::fs::read_to_string(image.symbols).ok());
        Self::parse(&text.unwrap_or_default())
    }

    /// Reads lines of `ADDRESS SIZE PROGRAM FUNCTION`, numbers in hexadecimal; what is no such line is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let function = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let start = u64::from_str_radix(words.next()?, 16).ok()?;
            let size = u64::from_str_radix(words.next()?, 16).ok()?;
            Some(Function { start, size, name: words.next()?.to_owned() })
        };
        let mut functions: Vec<_> = text.lines().filter_map(function).collect();
        functions.sort_by_key(|function| function.start);
        Self { functions }
    }

    /// The function at an address, and how far in it.
    fn describe(&self, address: u64) -> Option<String> {
        let after = self.functions.partition_point(|function| function.start <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        let offset = address - function.start;
        // A return address may be the one after a function that does not return.
        (offset <= function.size).then(|| format!("{}+{offset:#x}", function.name))
    }

    /// Writes the function behind every address in a log that has one.
    #[must_use]
    pub fn annotate(&self, log: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(log);
        let mut out = String::with_capacity(text.len());
        let mut rest = &*text;
        while let Some(at) = rest.find("0x") {
            let digits = rest.get(at + 2..).unwrap_or_default();
            let count = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
            let end = at + 2 + count;
            out.push_str(rest.get(..end).unwrap_or_default());
            if count == DIGITS
                && let Ok(address) = u64::from_str_radix(&digits[..count], 16)
                && let Some(name) = self.describe(address)
            {
                let _ = write!(out, " <{name}>");
            }
            rest = rest.get(end..).unwrap_or_default();
        }
        out.push_str(rest);
        out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "ffff800001200000 20 control control::serve\n\
        not a line\nffffffff80100000 100 kernel <kernel_core::Domain as Drop>::drop\n";

    fn check(line: &str, expected: &str) {
        let annotated = Symbols::parse(TABLE).annotate(line.as_bytes());
        assert_eq!(String::from_utf8(annotated).unwrap(), expected);
    }

    #[test]
    fn addresses_of_functions_get_their_names_and_nothing_else_does() {
        check(
            "control:   called from 0xffff80000120001f\r\n",
            "control:   called from 0xffff80000120001f <control control::serve+0x1f>\r\n",
        );
        check(
            "  0xffffffff80100004 0xffffffff80100004\n",
            "  0xffffffff80100004 <kernel <kernel_core::Domain as Drop>::drop+0x4> \
             0xffffffff80100004 <kernel <kernel_core::Domain as Drop>::drop+0x4>\n",
        );
        for line in
            ["", "0x", "0xffff800001200021", "0x00007f0001200000", "0xffff80000120000100", "ä0xfä"]
        {
            check(line, line);
        }
    }
}
