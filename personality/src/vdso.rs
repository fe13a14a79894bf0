//! The vDSO (vdso(7)): a page that every program finds mapped, an ELF image whose functions read clocks without a system call.
//!
//! The image is made once, when the first program is loaded: headers, symbols and versions here, code from [`crate::machine::vdso_code`], and the time base,
//! which is the same that system calls use, so that both tell one time.

use crate::{
    linux::Errno,
    machine::{
        pages::Page,
        vdso_code::{self, CODE, DATA, Function},
    },
};
use alloc::{rc::Rc, vec::Vec};
use core::cell::RefCell;

/// Bytes of the image.
pub const SIZE: usize = 4096;
const VERSION: &str = "LINUX_2.6";
const SONAME: &str = "linux-vdso.so.1";

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_SONAME: u64 = 14;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERDEFNUM: u64 = 0x6fff_fffd;

/// The page, once it is made.
#[derive(Debug, Default)]
pub struct Vdso(RefCell<Option<Rc<Page>>>);

impl Vdso {
    /// The page, for mapping it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn page(&self) -> Result<Rc<Page>, Errno> {
        if let Some(page) = &*self.0.borrow() {
            return Ok(page.clone());
        }
        let page = Rc::new(Page::zeroed()?);
        let (boot, rate) = (rt::clock::at_boot(), rt::clock::nanoseconds_per_tick());
        page.write(0, &image([crate::system::time::epoch(), boot, rate]));
        *self.0.borrow_mut() = Some(page.clone());
        Ok(page)
    }
}

/// The hash of a symbol's name in a `DT_HASH` table.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

/// Bytes in the making, with the places of its parts.
struct Image(Vec<u8>);

impl Image {
    fn at(&self) -> u64 {
        self.0.len() as u64
    }
    fn half(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn word(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn long(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn align(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }
}

/// The names, each ended by a zero byte, and where each begins.
fn strings(functions: &[Function]) -> (Vec<u8>, Vec<u32>) {
    let names = functions.iter().map(|function| function.name);
    let mut text = alloc::vec![0];
    let mut places = Vec::new();
    for name in names.chain([VERSION, SONAME]) {
        places.push(text.len() as u32);
        text.extend_from_slice(name.as_bytes());
        text.push(0);
    }
    (text, places)
}

/// The whole image with its time base.
fn image(base: [u64; 3]) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    const ENTRIES: u64 = 9;
    let functions = vdso_code::functions();
    let (text, places) = strings(&functions);
    let place = |index: usize| places.get(index).copied().unwrap_or(0);
    let (version, soname) = (place(functions.len()), place(functions.len() + 1));
    let mut out = Image(alloc::vec![0; HEADERS]);
    let symbols_at = out.at();
    symbols(&mut out, &functions, &places);
    let hash_at = out.at();
    hashes(&mut out, &functions);
    let versions_at = out.at();
    out.half(0);
    for _ in &functions {
        out.half(2);
    }
    out.align();
    let definitions_at = out.at();
    definition(&mut out, 1, 1, SONAME, soname, 28);
    definition(&mut out, 0, 2, VERSION, version, 0);
    out.align();
    let strings_at = out.at();
    out.0.extend_from_slice(&text);
    out.align();
    let dynamic_at = out.at();
    let entries: [(u64, u64); ENTRIES as usize + 1] = [
        (DT_SONAME, soname.into()),
        (DT_HASH, hash_at),
        (DT_SYMTAB, symbols_at),
        (DT_SYMENT, 24),
        (DT_STRTAB, strings_at),
        (DT_STRSZ, text.len() as u64),
        (DT_VERSYM, versions_at),
        (DT_VERDEF, definitions_at),
        (DT_VERDEFNUM, 2),
        (0, 0),
    ];
    for (kind, value) in entries {
        out.long(kind).long(value);
    }
    out.0.resize(CODE, 0);
    out.0.extend_from_slice(vdso_code::code());
    out.0.resize(DATA, 0);
    for value in base {
        out.long(value);
    }
    out.0.resize(SIZE, 0);
    let headers = headers(dynamic_at, (ENTRIES + 1) * 16);
    if let Some(front) = out.0.get_mut(..HEADERS) {
        front.copy_from_slice(&headers.0);
    }
    out.0
}

/// The file header and the program headers.
fn headers(dynamic_at: u64, dynamic_length: u64) -> Image {
    let mut out = Image(Vec::with_capacity(256));
    out.0.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // A shared object for x86-64; no entry; program headers follow, there are no sections.
    out.half(3).half(62).word(1).long(0).long(64).long(0).word(0);
    out.half(64).half(56).half(2).half(64).half(0).half(0);
    out.word(PT_LOAD).word(5).long(0).long(0).long(0);
    out.long(SIZE as u64).long(SIZE as u64).long(SIZE as u64);
    out.word(PT_DYNAMIC).word(4).long(dynamic_at).long(dynamic_at).long(dynamic_at);
    out.long(dynamic_length).long(dynamic_length).long(8);
    out
}

fn symbols(out: &mut Image, functions: &[Function], places: &[u32]) {
    out.long(0).long(0).long(0);
    for (function, name) in functions.iter().zip(places) {
        // A global function of the section that begins at address 0.
        out.word(*name).half(0x12).half(1);
        out.long(function.offset as u64).long(function.length as u64);
    }
}

/// Buckets of symbols by the hash of their names, each a chain.
fn hashes(out: &mut Image, functions: &[Function]) {
    const BUCKETS: u32 = 4;
    let count = functions.len() as u32;
    let mut buckets = [0; BUCKETS as usize];
    let mut chains = alloc::vec![0; functions.len() + 1];
    for (index, function) in (1..).zip(functions) {
        let Some(bucket) = buckets.get_mut((hash(function.name) % BUCKETS) as usize) else {
            continue;
        };
        if let Some(next) = chains.get_mut(index as usize) {
            *next = *bucket;
        }
        *bucket = index;
    }
    out.word(BUCKETS).word(count + 1);
    for value in buckets.iter().chain(&chains) {
        out.word(*value);
    }
    out.align();
}

/// A version: its flags, number, name; `next` is how far the one behind it is.
fn definition(out: &mut Image, flags: u16, index: u16, name: &str, place: u32, next: u32) {
    out.half(1).half(flags).half(index).half(1).word(hash(name)).word(20).word(next);
    out.word(place).word(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(image: &[u8], at: usize, length: usize) -> usize {
        image[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    }

    #[test]
    fn a_loader_finds_every_function_by_its_hash() {
        let image = image([1, 2, 3]);
        let dynamic = number(&image, 64 + 56 + 8, 8);
        let tag = |wanted: u64| {
            (0..)
                .map(|index| dynamic + index * 16)
                .find(|at| number(&image, *at, 8) as u64 == wanted)
                .map(|at| number(&image, at + 8, 8))
                .unwrap()
        };
        let (table, symbols, strings) = (tag(DT_HASH), tag(DT_SYMTAB), tag(DT_STRTAB));
        let buckets = number(&image, table, 4);
        for function in vdso_code::functions() {
            let mut at =
                number(&image, table + 8 + 4 * (hash(function.name) as usize % buckets), 4);
            let name = |at: usize| {
                let begin = strings + number(&image, symbols + 24 * at, 4);
                image[begin..].split(|byte| *byte == 0).next().unwrap()
            };
            while at != 0 && name(at) != function.name.as_bytes() {
                at = number(&image, table + 8 + 4 * (buckets + at), 4);
            }
            assert_eq!(number(&image, symbols + 24 * at + 8, 8), function.offset);
        }
    }

    #[test]
    fn the_version_has_the_hash_that_loaders_ask_for() {
        assert_eq!(hash(VERSION), 0x03ae_75f6);
    }

    #[test]
    fn the_code_fits_between_headers_and_time_base() {
        let image = image([7, 8, 9]);
        assert_eq!(image.len(), SIZE);
        assert!(CODE + vdso_code::code().len() <= DATA);
        assert!(image[64..CODE].iter().any(|byte| *byte != 0));
        assert_eq!([0, 8, 16].map(|at| number(&image, DATA + at, 8)), [7, 8, 9]);
    }
}
