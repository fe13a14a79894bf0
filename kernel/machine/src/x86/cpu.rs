//! A CPU's own block, its segment and interrupt tables, and its control registers.
//!
//! The block is found through GS in kernel mode; the assembly in `entry.s` knows its first words by offset.

use super::{
    context::Context,
    instruction::{self, cpuid},
};
use crate::types::{CpuId, MAX_CPUS};
use core::{
    arch::asm,
    cell::UnsafeCell,
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering},
};
use kernel_abi::operation::Protection;

/// Bytes of the stack for exceptions that can come at any instruction.
const TRAP_STACK: usize = 8192;
/// Vectors with such a stack, in the order of the interrupt stack table.
const TRAP_STACK_VECTORS: [usize; 4] = [1, 2, 8, 18];
/// Selector of the task state segment.
const TSS_SELECTOR: u16 = 0x28;

/// One CPU's block.
#[repr(C, align(64))]
pub(super) struct Block {
    this: AtomicPtr<Block>,
    pub stack_top: AtomicU64,
    pub context: AtomicPtr<Context>,
    scratch: AtomicU64,
    pub run_root: AtomicU64,
    pub guest_root: AtomicU64,
    pub state_page: AtomicU64,
    id: AtomicUsize,
    /// The local interrupt controller's number.
    pub apic: AtomicU64,
}

const _: () = {
    assert!(offset_of!(Block, stack_top) == 8);
    assert!(offset_of!(Block, context) == 16);
    assert!(offset_of!(Block, scratch) == 24);
    assert!(offset_of!(Block, run_root) == 32);
    assert!(offset_of!(Block, guest_root) == 40);
    assert!(offset_of!(Block, state_page) == 48);
    assert!(offset_of!(Block, id) == 56);
};

static BLOCKS: [Block; MAX_CPUS] = [const {
    Block {
        this: AtomicPtr::new(ptr::null_mut()),
        stack_top: AtomicU64::new(0),
        context: AtomicPtr::new(ptr::null_mut()),
        scratch: AtomicU64::new(0),
        run_root: AtomicU64::new(0),
        guest_root: AtomicU64::new(0),
        state_page: AtomicU64::new(0),
        id: AtomicUsize::new(0),
        apic: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// The hardware's task state segment, of which only the stacks are used.
#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    stacks: [u64; 3],
    reserved_more: u64,
    trap_stacks: [u64; 7],
    reserved_last: u64,
    reserved_word: u16,
    ports: u16,
}

/// What one CPU's descriptor registers point to.
#[repr(C, align(16))]
struct Tables {
    gdt: [u64; 7],
    tss: TaskState,
    stacks: [[u8; TRAP_STACK]; TRAP_STACK_VECTORS.len()],
}

/// Memory that one CPU writes while it starts and the hardware reads afterwards.
struct HardwareCell<T>(UnsafeCell<T>);

// SAFETY: each CPU's cell is written by that CPU alone, before anything uses it.
unsafe impl<T> Sync for HardwareCell<T> {}

static TABLES: [HardwareCell<Tables>; MAX_CPUS] = [const {
    HardwareCell(UnsafeCell::new(Tables {
        gdt: [0; 7],
        tss: TaskState {
            reserved: 0,
            stacks: [0; 3],
            reserved_more: 0,
            trap_stacks: [0; 7],
            reserved_last: 0,
            reserved_word: 0,
            ports: 104,
        },
        stacks: [[0; TRAP_STACK]; TRAP_STACK_VECTORS.len()],
    }))
}; MAX_CPUS];

/// The interrupt table, shared by all CPUs: two words per vector.
static IDT: HardwareCell<[[u64; 2]; 256]> = HardwareCell(UnsafeCell::new([[0; 2]; 256]));

/// What `lgdt` and `lidt` read.
#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

unsafe extern "C" {
    fn mett_syscall_entry();
    fn mett_trap_stubs();
}

/// The calling CPU.
#[inline]
#[must_use]
pub fn cpu() -> CpuId {
    let id: usize;
    // SAFETY: in the kernel GS is this CPU's block, whose word 56 is its number and never changes.
    unsafe { asm!("mov {}, gs:[56]", out(reg) id, options(pure, readonly, nostack, preserves_flags)) };
    id
}

/// A CPU's block.
pub(super) fn block(id: CpuId) -> &'static Block {
    &BLOCKS[id % MAX_CPUS]
}

/// The calling CPU's block.
#[inline]
pub(super) fn own_block() -> &'static Block {
    block(cpu())
}

/// Makes this CPU number `id`, with a kernel stack: tables, control registers, system-call entry.
pub(super) fn set_up(id: CpuId, stack_top: u64) {
    let block = block(id);
    block.this.store(ptr::from_ref(block).cast_mut(), Ordering::Relaxed);
    block.stack_top.store(stack_top, Ordering::Relaxed);
    block.id.store(id, Ordering::Relaxed);
    if id == 0 {
        fill_idt();
    }
    load_tables(id, stack_top);
    set_control_registers();
    // SAFETY: the block is this CPU's and lives for ever; a null user base is valid.
    unsafe {
        instruction::write_msr(instruction::GS_BASE, ptr::from_ref(block).addr() as u64);
        instruction::write_msr(instruction::KERNEL_GS_BASE, 0);
    }
    // System calls: kernel segments 8 and 16, user segments 0x1b and 0x23; traps, interrupts, direction and alignment check off.
    // SAFETY: the values name this kernel's segments and its entry.
    unsafe {
        instruction::write_msr(instruction::STAR, 0x13 << 48 | 0x08 << 32);
        instruction::write_msr(instruction::LSTAR, (mett_syscall_entry as *const ()).addr() as u64);
        instruction::write_msr(instruction::SFMASK, 0x0004_7700);
    }
}

/// Fills the interrupt table: every vector leads to its stub.
fn fill_idt() {
    let stubs = (mett_trap_stubs as *const ()).addr() as u64;
    // SAFETY: only the boot CPU runs, before the table is loaded.
    let idt = unsafe { &mut *IDT.0.get() };
    for (vector, entry) in idt.iter_mut().enumerate() {
        let address = stubs + 16 * vector as u64;
        let stack =
            TRAP_STACK_VECTORS.iter().position(|other| *other == vector).map_or(0, |index| index as u64 + 1);
        // Breakpoint and overflow may be raised by instructions of user mode.
        let level: u64 = if vector == 3 || vector == 4 { 3 } else { 0 };
        let kind = 0x8e | level << 5;
        entry[0] = address & 0xffff | 0x08 << 16 | stack << 32 | kind << 40 | (address >> 16 & 0xffff) << 48;
        entry[1] = address >> 32;
    }
}

fn load_tables(id: CpuId, stack_top: u64) {
    let cell = &TABLES[id % MAX_CPUS];
    // SAFETY: this CPU alone uses its tables, and has not loaded them yet.
    let tables = unsafe { &mut *cell.0.get() };
    let mut trap_stacks = [0; 7];
    for (place, stack) in trap_stacks.iter_mut().zip(&tables.stacks) {
        *place = stack.as_ptr_range().end.addr() as u64;
    }
    tables.tss.trap_stacks = trap_stacks;
    tables.tss.stacks = [stack_top, 0, 0];
    let tss = (&raw const tables.tss).addr() as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    tables.gdt = [
        0,
        0x00af_9b00_0000_ffff, // kernel code
        0x00cf_9300_0000_ffff, // kernel data
        0x00cf_f300_0000_ffff, // user data
        0x00af_fb00_0000_ffff, // user code
        limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56,
        tss >> 32,
    ];
    let gdt = TableRegister {
        limit: size_of_val(&tables.gdt) as u16 - 1,
        base: (&raw const tables.gdt).addr() as u64,
    };
    let idt = TableRegister { limit: 16 * 256 - 1, base: IDT.0.get().addr() as u64 };
    // SAFETY: the tables live for ever and describe this kernel's segments and stubs.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "push 0x08",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov {scratch:e}, 0x10",
            "mov ss, {scratch:e}",
            "xor {scratch:e}, {scratch:e}",
            "mov ds, {scratch:e}",
            "mov es, {scratch:e}",
            "lidt [{idt}]",
            "ltr {tss:x}",
            gdt = in(reg) &raw const gdt,
            idt = in(reg) &raw const idt,
            tss = in(reg) TSS_SELECTOR,
            scratch = out(reg) _,
        );
    }
}

/// What is wrong with this CPU, if the kernel cannot run on it.
pub(super) fn missing_feature() -> Option<&'static str> {
    let seven = cpuid(7, 0);
    let one = cpuid(1, 0);
    let extended = cpuid(0x8000_0001, 0);
    [
        (one.ecx & 1 << 26 != 0, "XSAVE"),
        (seven.ebx & 1 != 0, "FSGSBASE"),
        (seven.ebx & 1 << 7 != 0, "SMEP"),
        (seven.ebx & 1 << 20 != 0, "SMAP"),
        (extended.edx & 1 << 20 != 0, "NX"),
    ]
    .into_iter()
    .find_map(|(is_there, name)| (!is_there).then_some(name))
}

/// State components that threads may use: x87, SSE, AVX, and AVX-512 if all of it fits a vector area.
pub(super) fn vector_components() -> u64 {
    let leaf = cpuid(0xd, 0);
    let supported = u64::from(leaf.eax) | u64::from(leaf.edx) << 32;
    let all = supported & 0b1110_0111;
    if leaf.ecx <= 4096 { all } else { all & 0b111 }
}

fn set_control_registers() {
    let umip = if cpuid(7, 0).ecx & 1 << 2 != 0 { 1 << 11 } else { 0 };
    // PAE, MCE, PGE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE, SMEP, SMAP.
    let cr4 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 9 | 1 << 10 | umip | 1 << 16 | 1 << 18 | 1 << 20 | 1 << 21;
    // PE, MP, ET, NE, WP, PG.
    let cr0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
    let components = vector_components();
    // SAFETY: `missing_feature` has found every bit that is not universal; paging and long mode stay as they are.
    unsafe {
        asm!("mov cr4, {}", in(reg) cr4 as u64, options(nostack));
        asm!("mov cr0, {}", in(reg) cr0, options(nostack));
        asm!("xsetbv", in("ecx") 0, in("eax") components as u32, in("edx") (components >> 32) as u32, options(nostack));
        let efer = instruction::read_msr(instruction::EFER);
        instruction::write_msr(instruction::EFER, efer | 1 | 1 << 11);
    }
    super::memory::HAS_SLOW_STRINGS.store(cpuid(7, 0).ebx & 1 << 9 == 0, Ordering::Relaxed);
}

/// The protections that the calling CPU's control registers turn on.
#[must_use]
pub fn protections() -> Protection {
    let (cr0, cr4): (u64, u64);
    // SAFETY: reading control registers has no effect.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack, preserves_flags));
    };
    // SAFETY: every CPU in long mode has this register.
    let efer = unsafe { instruction::read_msr(instruction::EFER) };
    let mut on = Protection::empty();
    on.set(Protection::SMEP, cr4 & 1 << 20 != 0);
    on.set(Protection::SMAP, cr4 & 1 << 21 != 0);
    on.set(Protection::UMIP, cr4 & 1 << 11 != 0);
    on.set(Protection::NO_EXECUTE, efer & 1 << 11 != 0);
    on.set(Protection::WRITE_PROTECT, cr0 & 1 << 16 != 0);
    on
}
