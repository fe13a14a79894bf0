//! The code of the vDSO: clocks read without leaving the guest.
//!
//! It is copied to a fixed offset of a page whose end holds the time base ([`DATA`]), which it finds relative to itself; it runs in the guest only.

/// Where in its page the code begins.
pub const CODE: usize = 0x800;
/// Where in its page the time base begins: epoch (nanoseconds), ticks at boot, and what a tick is worth as a fraction of `1 << rt::clock::FRACTION`.
pub const DATA: usize = 0xfe0;

/// A function of the vDSO.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Where in the page it begins.
    pub offset: usize,
    /// Its bytes.
    pub length: usize,
}

core::arch::global_asm!(
    ".pushsection .rodata.vdso, \"a\"",
    ".balign 16",
    ".global personality_vdso_begin",
    "personality_vdso_begin:",
    // edi: clock, rsi: struct timespec.
    ".global personality_vdso_clock_gettime",
    "personality_vdso_clock_gettime:",
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
    // rdi: struct timeval or null, rsi: struct timezone or null.
    ".global personality_vdso_gettimeofday",
    "personality_vdso_gettimeofday:",
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
    ".global personality_vdso_time",
    "personality_vdso_time:",
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
    ".global personality_vdso_clock_getres",
    "personality_vdso_clock_getres:",
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
    ".global personality_vdso_getcpu",
    "personality_vdso_getcpu:",
    "mov eax, 309",
    "syscall",
    "ret",
    ".global personality_vdso_end",
    "personality_vdso_end:",
    ".popsection",
    data = const DATA - CODE,
    fraction = const rt::clock::FRACTION,
);

unsafe extern "C" {
    static personality_vdso_begin: u8;
    static personality_vdso_clock_gettime: u8;
    static personality_vdso_gettimeofday: u8;
    static personality_vdso_time: u8;
    static personality_vdso_clock_getres: u8;
    static personality_vdso_getcpu: u8;
    static personality_vdso_end: u8;
}

/// The code.
#[must_use]
pub fn code() -> &'static [u8] {
    let (begin, end) = (&raw const personality_vdso_begin, &raw const personality_vdso_end);
    // SAFETY: the labels enclose bytes of the program that nothing changes.
    unsafe { core::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// The functions, in the order of the code.
#[must_use]
pub fn functions() -> [Function; 5] {
    let begin = (&raw const personality_vdso_begin).addr();
    let starts = [
        ("__vdso_clock_gettime", (&raw const personality_vdso_clock_gettime).addr()),
        ("__vdso_gettimeofday", (&raw const personality_vdso_gettimeofday).addr()),
        ("__vdso_time", (&raw const personality_vdso_time).addr()),
        ("__vdso_clock_getres", (&raw const personality_vdso_clock_getres).addr()),
        ("__vdso_getcpu", (&raw const personality_vdso_getcpu).addr()),
    ];
    core::array::from_fn(|index| {
        let (name, start) = starts[index];
        let end = starts
            .get(index + 1)
            .map_or((&raw const personality_vdso_end).addr(), |(_, start)| *start);
        Function { name, offset: CODE + start - begin, length: end - start }
    })
}
