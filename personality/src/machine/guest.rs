//! Copies to and from guest memory.

use crate::linux::Errno;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use kernel_abi::layout::GUEST_MAX;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes in a page.
const PAGE: u64 = 4096;

#[cfg(target_os = "none")]
core::arch::global_asm!(
    // rdi: to, rsi: from, rdx: length. Returns in rax what was not copied.
    ".global personality_copy",
    "personality_copy:",
    "mov rcx, rdx",
    "shr rcx, 3",
    "rep movsq",
    "mov ecx, edx",
    "and ecx, 7",
    "rep movsb",
    "xor eax, eax",
    "ret",
    // rdi: from. Returns the word in rax, 0 in rdx, or 1 in rdx.
    ".global personality_load32",
    "personality_load32:",
    "mov eax, [rdi]",
    "xor edx, edx",
    "ret",
    // rdi: at, esi: expected, edx: new. Returns the word found in rax, 0 in rdx, or 1 in rdx.
    ".global personality_exchange32",
    "personality_exchange32:",
    "mov eax, esi",
    "lock cmpxchg [rdi], edx",
    "xor edx, edx",
    "ret",
    ".global personality_copy_end",
    "personality_copy_end:",
    "mov eax, 1",
    "mov edx, 1",
    "ret",
    // A fault in home mode: the kernel has put the registers into the state page.
    ".global personality_fault",
    "personality_fault:",
    "cld",
    "and rsp, -16",
    "call personality_on_fault",
    "mov eax, 5", // FaultReturn
    "syscall",
    "ud2",
);

#[cfg(target_os = "none")]
unsafe extern "C" {
    fn personality_copy(to: u64, from: u64, length: u64) -> u64;
    fn personality_copy_end();
    fn personality_load32(from: u64) -> Pair;
    fn personality_exchange32(at: u64, expected: u32, new: u32) -> Pair;
    fn personality_fault();
}

/// A word and whether it could not be had.
#[cfg(target_os = "none")]
#[repr(C)]
struct Pair {
    word: u64,
    failed: u64,
}

/// Whether a range lies wholly in guest memory's addresses.
///
/// # Errors
/// `EFAULT`.
pub fn check(address: u64, length: u64) -> Result<(), Errno> {
    match address.checked_add(length) {
        Some(end) if end <= GUEST_MAX => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Copies; the bytes that were. They are fewer than the length if the guest's side has a page that no touch brings.
#[cfg(target_os = "none")]
#[inline]
fn copy_some(to: u64, from: u64, length: u64) -> u64 {
    // SAFETY: one side was checked to be guest addresses, the other is a buffer of that length; faults on the guest's side end the copy.
    if unsafe { personality_copy(to, from, length) } == 0 {
        length
    } else {
        copy_on(to, from, length)
    }
}

/// Goes on with a copy that has faulted, as long as the pages it faults at can be brought.
#[cfg(target_os = "none")]
#[cold]
fn copy_on(to: u64, from: u64, length: u64) -> u64 {
    let is_write = to < GUEST_MAX;
    let guest = if is_write { to } else { from };
    let mut done = 0;
    loop {
        let (fault, _) = super::GuestState::of_thread().home_fault();
        let is_brought = super::attached::resolve(fault, is_write);
        // All before the page of the fault can be copied, and was but for a word that reaches into it.
        let before = (fault & !(PAGE - 1)).clamp(guest, guest + length) - guest;
        let (begin, end) = if is_brought { (done, length) } else { (done, before.max(done)) };
        // SAFETY: as in `copy_some`, for a part of the range.
        let is_whole = unsafe { personality_copy(to + begin, from + begin, end - begin) } == 0;
        match (is_brought, is_whole) {
            (true, true) => return length,
            (true, false) => done = before.saturating_sub(8).max(done),
            (false, true) => return end,
            (false, false) => return done,
        }
    }
}

#[cfg(not(target_os = "none"))]
fn copy_some(_to: u64, _from: u64, _length: u64) -> u64 {
    0
}

#[inline]
fn copy(to: u64, from: u64, length: u64) -> Result<(), Errno> {
    if copy_some(to, from, length) == length { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads bytes.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn read_bytes(address: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    check(address, buffer.len() as u64)?;
    copy(buffer.as_mut_ptr().expose_provenance() as u64, address, buffer.len() as u64)
}

/// Writes bytes.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn write_bytes(address: u64, bytes: &[u8]) -> Result<(), Errno> {
    check(address, bytes.len() as u64)?;
    copy(address, bytes.as_ptr().expose_provenance() as u64, bytes.len() as u64)
}

/// Reads a structure.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn read<T: FromBytes + IntoBytes>(address: u64) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    read_bytes(address, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn write<T: IntoBytes + zerocopy::Immutable>(address: u64, value: &T) -> Result<(), Errno> {
    write_bytes(address, value.as_bytes())
}

/// Reads a string that ends with a zero byte, without it.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG` when it is longer than the limit.
pub fn read_string(address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut string = Vec::new();
    let mut at = address;
    let mut chunk = [MaybeUninit::<u8>::uninit(); 256];
    loop {
        // Never beyond the page that is known to be needed.
        let length = (PAGE - at % PAGE).min(chunk.len() as u64);
        // SAFETY: any bytes are a value of `u8`; those of the chunk are written before they are looked at, or the call fails.
        let bytes = unsafe {
            core::slice::from_raw_parts_mut(chunk.as_mut_ptr().cast::<u8>(), length as usize)
        };
        read_bytes(at, bytes)?;
        match bytes.iter().position(|byte| *byte == 0) {
            Some(end) => {
                string.extend_from_slice(bytes.get(..end).unwrap_or_default());
                return if string.len() > limit { Err(Errno::ENAMETOOLONG) } else { Ok(string) };
            }
            None => string.extend_from_slice(bytes),
        }
        if string.len() > limit {
            return Err(Errno::ENAMETOOLONG);
        }
        at += length;
    }
}

/// Loads a word of a futex.
///
/// # Errors
/// `EFAULT`; `EINVAL` when it is not aligned.
#[cfg(target_os = "none")]
pub fn load(address: u64) -> Result<u32, Errno> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    check(address, 4)?;
    // SAFETY: the address is the guest's; a fault ends the load.
    atomically(address, false, || unsafe { personality_load32(address) })
}

/// Replaces a word of a futex if it has a value; what it had.
///
/// # Errors
/// `EFAULT`; `EINVAL` when it is not aligned.
#[cfg(target_os = "none")]
pub fn exchange(address: u64, expected: u32, new: u32) -> Result<u32, Errno> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    check(address, 4)?;
    // SAFETY: as for `load`.
    atomically(address, true, || unsafe { personality_exchange32(address, expected, new) })
}

/// The word that an operation on an aligned word of the guest's has found; once more if its page had to be brought.
#[cfg(target_os = "none")]
fn atomically(address: u64, is_write: bool, operate: impl Fn() -> Pair) -> Result<u32, Errno> {
    let mut pair = operate();
    if pair.failed != 0 && super::attached::resolve(address, is_write) {
        pair = operate();
    }
    if pair.failed == 0 { Ok(pair.word as u32) } else { Err(Errno::EFAULT) }
}

/// There is no guest on the host.
///
/// # Errors
/// Always `EFAULT`.
#[cfg(not(target_os = "none"))]
pub fn load(_address: u64) -> Result<u32, Errno> {
    Err(Errno::EFAULT)
}

/// There is no guest on the host.
///
/// # Errors
/// Always `EFAULT`.
#[cfg(not(target_os = "none"))]
pub fn exchange(_address: u64, _expected: u32, _new: u32) -> Result<u32, Errno> {
    Err(Errno::EFAULT)
}

/// Makes faults of this thread's copies come back as errors.
pub fn catch_faults() {
    #[cfg(target_os = "none")]
    {
        let entry = (personality_fault as *const ()).addr() as u64;
        let stack = rt::thread::fault_stack();
        let _ = rt::arch::call(kernel_abi::Operation::FaultHandler, [entry, stack, 0, 0, 0, 0]);
    }
}

#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
extern "C" fn personality_on_fault() {
    let state = super::GuestState::of_thread();
    let begin = (personality_copy as *const ()).addr() as u64;
    let end = (personality_copy_end as *const ()).addr() as u64;
    let ip = state.home_ip();
    if (begin..end).contains(&ip) {
        state.set_home_ip(end);
        return;
    }
    let (address, code) = state.home_fault();
    rt::log!("personality: fault {code:#x} at {ip:#x} address {address:#x}");
    rt::exit();
}

/// Where a system call's data goes: guest memory in one or several pieces, or a buffer of the personality.
pub struct Sink<'a> {
    pieces: Pieces,
    kernel: Option<&'a mut [u8]>,
    done: usize,
}

/// Where a system call's data comes from.
pub struct Source<'a> {
    pieces: Pieces,
    kernel: Option<&'a [u8]>,
    done: usize,
}

/// Pieces of guest memory that are used up from the front.
struct Pieces {
    first: (u64, u64),
    more: alloc::collections::VecDeque<(u64, u64)>,
    left: usize,
}

impl Pieces {
    fn one(address: u64, length: usize) -> Self {
        Self {
            first: (address, length as u64),
            more: alloc::collections::VecDeque::new(),
            left: length,
        }
    }
    fn many(pieces: &[(u64, u64)]) -> Self {
        let left = pieces.iter().map(|(_, length)| *length as usize).sum();
        let mut more: alloc::collections::VecDeque<_> = pieces.iter().copied().collect();
        let first = more.pop_front().unwrap_or((0, 0));
        Self { first, more, left }
    }
    /// Copies `length` bytes, piece by piece, as far as that goes; the bytes copied. `each` gets the guest address, what was done before, and a length, and gives the
    /// bytes it has copied.
    fn walk(
        &mut self,
        length: usize,
        mut each: impl FnMut(u64, usize, usize) -> Result<usize, Errno>,
    ) -> usize {
        let mut done = 0;
        while done < length {
            let (address, room) = self.first;
            if room == 0 {
                let Some(next) = self.more.pop_front() else { break };
                self.first = next;
                continue;
            }
            let now = (length - done).min(room as usize);
            let count = each(address, done, now).unwrap_or(0);
            self.first = (address + count as u64, room - count as u64);
            self.left -= count;
            done += count;
            if count < now {
                break;
            }
        }
        done
    }
}

impl core::fmt::Debug for Sink<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Sink({} of {})", self.done, self.done + self.room())
    }
}

impl core::fmt::Debug for Source<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Source({} of {})", self.done, self.done + self.left())
    }
}

impl<'a> Sink<'a> {
    /// One piece of guest memory.
    #[must_use]
    pub fn guest(address: u64, length: usize) -> Self {
        Self { pieces: Pieces::one(address, length), kernel: None, done: 0 }
    }
    /// Several pieces.
    #[must_use]
    pub fn pieces(pieces: &[(u64, u64)]) -> Self {
        Self { pieces: Pieces::many(pieces), kernel: None, done: 0 }
    }
    /// A buffer of the personality.
    #[must_use]
    pub fn kernel(buffer: &'a mut [u8]) -> Self {
        Self { pieces: Pieces::one(0, 0), kernel: Some(buffer), done: 0 }
    }
    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        match &self.kernel {
            Some(buffer) => buffer.len() - self.done,
            None => self.pieces.left,
        }
    }
    /// Bytes that were put.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }
    /// Puts bytes, of which there must be room for all.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        if let Some(buffer) = &mut self.kernel {
            buffer
                .get_mut(self.done..self.done + bytes.len())
                .ok_or(Errno::EFAULT)?
                .copy_from_slice(bytes);
        } else {
            let count = self.pieces.walk(bytes.len(), |address, done, now| {
                let bytes = bytes.get(done..done + now).unwrap_or_default();
                check(address, now as u64)?;
                let from = bytes.as_ptr().expose_provenance() as u64;
                Ok(copy_some(address, from, now as u64) as usize)
            });
            self.done += count;
            return if count == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) };
        }
        self.done += bytes.len();
        Ok(())
    }
    /// Puts bytes of a file's page.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn put_page(
        &mut self,
        page: &super::pages::Page,
        within: usize,
        length: usize,
    ) -> Result<(), Errno> {
        if let Some(buffer) = &mut self.kernel {
            page.read(within, buffer.get_mut(self.done..self.done + length).ok_or(Errno::EFAULT)?);
        } else {
            let count = self.pieces.walk(length, |address, done, now| {
                check(address, now as u64)?;
                Ok(copy_some(address, page.address(within + done), now as u64) as usize)
            });
            self.done += count;
            return if count == length { Ok(()) } else { Err(Errno::EFAULT) };
        }
        self.done += length;
        Ok(())
    }
    /// Puts zeros.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn put_zeros(&mut self, length: usize) -> Result<(), Errno> {
        let mut left = length;
        while left > 0 {
            let now = left.min(ZEROS.len());
            self.put(ZEROS.get(..now).unwrap_or_default())?;
            left -= now;
        }
        Ok(())
    }
}

static ZEROS: [u8; 4096] = [0; 4096];

impl<'a> Source<'a> {
    /// One piece of guest memory.
    #[must_use]
    pub fn guest(address: u64, length: usize) -> Self {
        Self { pieces: Pieces::one(address, length), kernel: None, done: 0 }
    }
    /// Several pieces.
    #[must_use]
    pub fn pieces(pieces: &[(u64, u64)]) -> Self {
        Self { pieces: Pieces::many(pieces), kernel: None, done: 0 }
    }
    /// A buffer of the personality.
    #[must_use]
    pub fn kernel(bytes: &'a [u8]) -> Self {
        Self { pieces: Pieces::one(0, 0), kernel: Some(bytes), done: 0 }
    }
    /// Bytes that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        match self.kernel {
            Some(bytes) => bytes.len() - self.done,
            None => self.pieces.left,
        }
    }
    /// Bytes that were taken.
    #[must_use]
    pub const fn done(&self) -> usize {
        self.done
    }
    /// Takes bytes, which must be left.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn take(&mut self, buffer: &mut [u8]) -> Result<(), Errno> {
        let length = buffer.len();
        if let Some(bytes) = self.kernel {
            buffer.copy_from_slice(bytes.get(self.done..self.done + length).ok_or(Errno::EFAULT)?);
        } else {
            let count = self.pieces.walk(length, |address, done, now| {
                let buffer = buffer.get_mut(done..done + now).unwrap_or_default();
                check(address, now as u64)?;
                let to = buffer.as_mut_ptr().expose_provenance() as u64;
                Ok(copy_some(to, address, now as u64) as usize)
            });
            self.done += count;
            return if count == length { Ok(()) } else { Err(Errno::EFAULT) };
        }
        self.done += length;
        Ok(())
    }
    /// Takes bytes into a file's page.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn take_page(
        &mut self,
        page: &super::pages::Page,
        within: usize,
        length: usize,
    ) -> Result<(), Errno> {
        if let Some(bytes) = self.kernel {
            page.write(within, bytes.get(self.done..self.done + length).ok_or(Errno::EFAULT)?);
        } else {
            let count = self.pieces.walk(length, |address, done, now| {
                check(address, now as u64)?;
                Ok(copy_some(page.address(within + done), address, now as u64) as usize)
            });
            self.done += count;
            return if count == length { Ok(()) } else { Err(Errno::EFAULT) };
        }
        self.done += length;
        Ok(())
    }
}
