//! The code of the vDSO: clocks read without leaving the guest.
//!
//! It is copied to a fixed offset of a page whose end holds the time base ([`DATA`]), which it finds relative to itself; it runs in the guest only.
//! Each function has a place of its own of [`PLACE`] bytes, so that the rest of the page is known when the program is compiled.

/// Where in its page the code begins.
pub const CODE: usize = 0x800;
/// Where in its page the time base begins: epoch (nanoseconds), ticks at boot, and what a tick is worth as a fraction of `1 << rt::clock::FRACTION`.
pub const DATA: usize = 0xfe0;

/// Bytes of each function's place.
pub const PLACE: usize = 0x80;
/// The functions' names, in the order of their places.
pub const FUNCTIONS: [&str; 5] = [
    "__vdso_clock_gettime",
    "__vdso_gettimeofday",
    "__vdso_time",
    "__vdso_clock_getres",
    "__vdso_getcpu",
];

core::arch::global_asm!(
    ".pushsection .rodata.vdso, \"a\"",
    ".balign 16",
    ".global personality_vdso_begin",
    "personality_vdso_begin:",
    // edi: clock, rsi: struct timespec.
    "cmp edi, 11",
    "ja 9f",
    "mov ecx, edi",
    "mov eax, 1",
    "shl eax, cl",
    // REALTIME, REALTIME_COARSE, TAI.
    "test eax, 0x821",
    "jnz 1f",
    "xor r8d, r8d",
    // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME.
    "test eax, 0xd2",
    "jz 9f",
    "jmp 2f",
    "1: mov r8, [rip + personality_vdso_begin + {data}]",
    "2: call personality_vdso_nanoseconds",
    "add rax, r8",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [rsi], rax",
    "mov [rsi + 8], rdx",
    "xor eax, eax",
    "ret",
    "9: mov eax, 228",
    "syscall",
    "ret",
    // rdi: struct timeval or null, rsi: struct timezone or null.
    ".org personality_vdso_begin + 1 * {place}",
    "test rdi, rdi",
    "jz 4f",
    "call personality_vdso_nanoseconds",
    "add rax, [rip + personality_vdso_begin + {data}]",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "mov [rdi], rax",
    "mov eax, edx",
    "xor edx, edx",
    "mov ecx, 1000",
    "div ecx",
    "mov [rdi + 8], rax",
    "4: test rsi, rsi",
    "jz 5f",
    "mov qword ptr [rsi], 0",
    "5: xor eax, eax",
    "ret",
    // rdi: time_t or null.
    ".org personality_vdso_begin + 2 * {place}",
    "call personality_vdso_nanoseconds",
    "add rax, [rip + personality_vdso_begin + {data}]",
    "xor edx, edx",
    "mov ecx, 1000000000",
    "div rcx",
    "test rdi, rdi",
    "jz 6f",
    "mov [rdi], rax",
    "6: ret",
    // edi: clock, rsi: struct timespec or null.
    ".org personality_vdso_begin + 3 * {place}",
    "cmp edi, 11",
    "ja 8f",
    "mov ecx, edi",
    "mov eax, 0x8f3",
    "shr eax, cl",
    "test al, 1",
    "jz 8f",
    "test rsi, rsi",
    "jz 7f",
    "mov qword ptr [rsi], 0",
    "mov qword ptr [rsi + 8], 1",
    "7: xor eax, eax",
    "ret",
    "8: mov eax, 229",
    "syscall",
    "ret",
    ".org personality_vdso_begin + 4 * {place}",
    "mov eax, 309",
    "syscall",
    "ret",
    ".org personality_vdso_begin + 5 * {place}",
    // Nanoseconds since boot in rax. Changes rdx.
    "personality_vdso_nanoseconds:",
    "lfence",
    "rdtsc",
    "shl rdx, 32",
    "or rax, rdx",
    "sub rax, [rip + personality_vdso_begin + {data} + 8]",
    "jae 3f",
    "xor eax, eax",
    "3: mul qword ptr [rip + personality_vdso_begin + {data} + 16]",
    "shrd rax, rdx, {fraction}",
    "ret",
    ".org personality_vdso_begin + 6 * {place}",
    ".popsection",
    data = const DATA - CODE,
    place = const PLACE,
    fraction = const rt::clock::FRACTION,
);

unsafe extern "C" {
    static personality_vdso_begin: [u8; (FUNCTIONS.len() + 1) * PLACE];
}

/// The code.
#[must_use]
pub fn code() -> &'static [u8] {
    // SAFETY: the label is followed by that many bytes of the program that nothing changes.
    unsafe { &personality_vdso_begin }
}
