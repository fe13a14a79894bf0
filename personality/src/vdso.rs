//! The vDSO (vdso(7)): a page that every program finds mapped, an ELF image whose functions read clocks without a system call.
//!
//! The page is put together once, when the first program is loaded: headers, symbols and versions, which are made when this is compiled, code from
//! [`crate::machine::vdso_code`], and the time base, which is the same that system calls use, so that both tell one time.

use crate::{
    linux::Errno,
    machine::{
        pages::Page,
        vdso_code::{self, CODE, DATA, FUNCTIONS, PLACE},
    },
};
use alloc::rc::Rc;
use core::cell::RefCell;

/// Bytes of the image.
pub const SIZE: usize = 4096;
const VERSION: &str = "LINUX_2.6";
const SONAME: &str = "linux-vdso.so.1";

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
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
        page.write(0, &FRONT);
        page.write(CODE, vdso_code::code());
        for (index, word) in [crate::system::time::epoch(), boot, rate].into_iter().enumerate() {
            page.write(DATA + 8 * index, &word.to_le_bytes());
        }
        *self.0.borrow_mut() = Some(page.clone());
        Ok(page)
    }
}

/// What comes before the code.
static FRONT: [u8; USED] = front();

/// Bytes of the headers.
const HEADERS: usize = 64 + 2 * 56;
/// Bytes of the front: what its parts add up to.
const USED: usize = DYNAMIC + 16 * ENTRIES;
const SYMBOLS: usize = HEADERS;
const HASHES: usize = SYMBOLS + 24 * (FUNCTIONS.len() + 1);
const VERSIONS: usize = HASHES + (4 * (2 + BUCKETS + FUNCTIONS.len() + 1)).next_multiple_of(8);
const DEFINITIONS: usize = VERSIONS + (2 * (FUNCTIONS.len() + 1)).next_multiple_of(8);
const STRINGS: usize = DEFINITIONS + 2 * 28;
const DYNAMIC: usize = STRINGS + STRINGS_LENGTH.next_multiple_of(8);
/// Entries of the dynamic section with the one that ends it.
const ENTRIES: usize = 10;
/// Buckets of symbols by the hash of their names, each a chain.
const BUCKETS: usize = 4;
/// The strings: an empty one, the functions' names, and these.
const STRINGS_LENGTH: usize = place_of(FUNCTIONS.len() + 2);

/// The string with an index: functions, then the version and the image's own name.
const fn string(index: usize) -> &'static str {
    if index < FUNCTIONS.len() {
        FUNCTIONS[index]
    } else if index == FUNCTIONS.len() {
        VERSION
    } else {
        SONAME
    }
}

/// Where a string begins in the table of strings.
const fn place_of(index: usize) -> usize {
    let (mut place, mut before) = (1, 0);
    while before < index {
        place += string(before).len() + 1;
        before += 1;
    }
    place
}

/// The hash of a symbol's name in a `DT_HASH` table.
const fn hash(name: &str) -> u32 {
    let (bytes, mut hash, mut index) = (name.as_bytes(), 0_u32, 0);
    while index < bytes.len() {
        hash = (hash << 4).wrapping_add(bytes[index] as u32);
        let high = hash & 0xf000_0000;
        hash = (hash ^ high >> 24) & !high;
        index += 1;
    }
    hash
}

/// Bytes in the making.
struct Image {
    bytes: [u8; USED],
    at: usize,
}

impl Image {
    const fn bytes(&mut self, bytes: &[u8]) {
        let mut index = 0;
        while index < bytes.len() {
            self.bytes[self.at] = bytes[index];
            self.at += 1;
            index += 1;
        }
    }
    /// Numbers of so many bytes each.
    const fn put(&mut self, length: usize, values: &[u64]) {
        let mut index = 0;
        while index < values.len() {
            self.bytes(values[index].to_le_bytes().split_at(length).0);
            index += 1;
        }
    }
}

const fn front() -> [u8; USED] {
    let mut out = Image { bytes: [0; USED], at: 0 };
    headers(&mut out);
    symbols(&mut out);
    hashes(&mut out);
    out.at = VERSIONS;
    out.put(2, &[0]);
    out.put(2, &[2; FUNCTIONS.len()]);
    out.at = DEFINITIONS;
    definition(&mut out, 1, 1, FUNCTIONS.len() + 1, 28);
    definition(&mut out, 0, 2, FUNCTIONS.len(), 0);
    out.at = STRINGS + 1;
    let mut index = 0;
    while index < FUNCTIONS.len() + 2 {
        out.bytes(string(index).as_bytes());
        out.at += 1;
        index += 1;
    }
    out.at = DYNAMIC;
    out.put(8, &[DT_SONAME, place_of(FUNCTIONS.len() + 1) as u64, DT_HASH, HASHES as u64]);
    out.put(8, &[DT_SYMTAB, SYMBOLS as u64, DT_SYMENT, 24, DT_STRTAB, STRINGS as u64]);
    out.put(8, &[DT_STRSZ, STRINGS_LENGTH as u64, DT_VERSYM, VERSIONS as u64]);
    out.put(8, &[DT_VERDEF, DEFINITIONS as u64, DT_VERDEFNUM, 2]);
    out.bytes
}

/// The file header and the program headers.
const fn headers(out: &mut Image) {
    const LENGTH: u64 = (16 * ENTRIES) as u64;
    out.bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // A shared object for x86-64; no entry; program headers follow, there are no sections.
    out.put(2, &[3, 62]);
    out.put(4, &[1]);
    out.put(8, &[0, 64, 0]);
    out.put(4, &[0]);
    out.put(2, &[64, 56, 2, 64, 0, 0]);
    out.put(4, &[PT_LOAD, 5]);
    out.put(8, &[0, 0, 0, SIZE as u64, SIZE as u64, SIZE as u64]);
    out.put(4, &[PT_DYNAMIC, 4]);
    out.put(8, &[DYNAMIC as u64, DYNAMIC as u64, DYNAMIC as u64, LENGTH, LENGTH, 8]);
}

const fn symbols(out: &mut Image) {
    out.at = SYMBOLS + 24;
    let mut index = 0;
    while index < FUNCTIONS.len() {
        // A global function of the section that begins at address 0.
        out.put(4, &[place_of(index) as u64]);
        out.put(2, &[0x12, 1]);
        out.put(8, &[(CODE + index * PLACE) as u64, PLACE as u64]);
        index += 1;
    }
}

const fn hashes(out: &mut Image) {
    let (mut buckets, mut chains) = ([0; BUCKETS], [0; FUNCTIONS.len() + 1]);
    let mut index = 0;
    while index < FUNCTIONS.len() {
        let bucket = &mut buckets[hash(FUNCTIONS[index]) as usize % BUCKETS];
        index += 1;
        chains[index] = *bucket;
        *bucket = index as u64;
    }
    out.at = HASHES;
    out.put(4, &[BUCKETS as u64, FUNCTIONS.len() as u64 + 1]);
    out.put(4, &buckets);
    out.put(4, &chains);
}

/// A version: its flags, number, and the index of its name; `next` is how far the one behind it is.
const fn definition(out: &mut Image, flags: u64, number: u64, name: usize, next: u64) {
    out.put(2, &[1, flags, number, 1]);
    out.put(4, &[hash(string(name)) as u64, 20, next, place_of(name) as u64, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(image: &[u8], at: usize, length: usize) -> usize {
        image[at..at + length].iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte))
    }

    #[test]
    fn a_loader_finds_every_function_by_its_hash() {
        let image = &FRONT[..];
        let dynamic = number(image, 64 + 56 + 8, 8);
        let tag = |wanted: u64| {
            (0..)
                .map(|index| dynamic + index * 16)
                .find(|at| number(image, *at, 8) as u64 == wanted)
                .map(|at| number(image, at + 8, 8))
                .unwrap()
        };
        let (table, symbols, strings) = (tag(DT_HASH), tag(DT_SYMTAB), tag(DT_STRTAB));
        let buckets = number(image, table, 4);
        for (index, function) in FUNCTIONS.into_iter().enumerate() {
            let mut at = number(image, table + 8 + 4 * (hash(function) as usize % buckets), 4);
            let name = |at: usize| {
                let begin = strings + number(image, symbols + 24 * at, 4);
                image[begin..].split(|byte| *byte == 0).next().unwrap()
            };
            while at != 0 && name(at) != function.as_bytes() {
                at = number(image, table + 8 + 4 * (buckets + at), 4);
            }
            assert_eq!(number(image, symbols + 24 * at + 8, 8), CODE + index * PLACE);
        }
    }

    #[test]
    fn the_version_has_the_hash_that_loaders_ask_for() {
        assert_eq!(hash(VERSION), 0x03ae_75f6);
    }

    #[test]
    fn the_code_fits_between_headers_and_time_base() {
        const { assert!(USED <= CODE) };
        assert!(CODE + vdso_code::code().len() <= DATA);
        assert!(vdso_code::code().chunks(PLACE).all(|place| place[0] != 0));
    }
}
