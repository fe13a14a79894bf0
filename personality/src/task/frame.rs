//! The frame of a signal's handler on the guest's stack: putting it there and taking it back (sigreturn(2)).

use super::Task;
use super::signal::{DEFAULT, SS_DISABLE, SS_ONSTACK, bit, deliverable};
use crate::{
    linux::{
        Errno, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SI_KERNEL, SIGKILL, SIGSTOP,
        layouts::{Sigaction, Sigaltstack, Siginfo},
    },
    machine::{
        guest,
        state::{self, Vectors},
    },
};
use alloc::rc::Rc;

/// Magic words around an extended vector state in a frame.
const XSTATE_MAGIC: u32 = 0x4650_5853;

const XSTATE_MAGIC_END: u32 = 0x4650_5845;

/// Offset of the words that describe the extended state.
const XSTATE_WORDS: usize = 464;

/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;

/// Bytes of a frame without vector state: return address, context, info.
const FRAME: u64 = 8 + 304 + 128;

/// Where the general registers begin in the words of a `struct ucontext`, and which of [`state::REGISTERS`] each is.
const REGISTERS_AT: usize = 5;
/// r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, flags.
const CONTEXT: [usize; state::REGISTERS] =
    [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 1, 3, 0, 2, 7, 16, 17];
/// Words of the context after the registers: segments, address of a fault, where the vector state lies, signal mask.
const SEGMENTS: usize = 23;
const FAULT_ADDRESS: usize = 27;
const VECTORS: usize = 28;
const MASK: usize = 37;

/// Builds a frame on the guest's stack and continues at the handler.
pub(super) fn run_handler(
    task: &Rc<Task>,
    info: &Siginfo,
    action: &Sigaction,
) -> Result<(), Errno> {
    let state = task.state;
    let registers = state.registers();
    let stack = task.alternate_stack.get();
    let sp = state.rsp();
    let is_on_alternate = stack.size != 0 && sp > stack.sp && sp - stack.sp <= stack.size;
    let mut top = sp.wrapping_sub(RED_ZONE);
    if action.flags & SA_ONSTACK != 0 && stack.size != 0 && !is_on_alternate {
        top = stack.sp.wrapping_add(stack.size);
    }
    let size = state::area_size();
    let vectors_at = top.wrapping_sub(size as u64 + 4) & !63;
    let frame = (vectors_at.wrapping_sub(FRAME) & !15).wrapping_sub(8);
    Vectors::with_saved(|vectors| {
        describe_vectors(vectors, size);
        guest::write_bytes(vectors_at, vectors.0.get(..size).unwrap_or_default())
    })?;
    guest::write(vectors_at + size as u64, &XSTATE_MAGIC_END)?;
    let mask = task.saved_mask.take().unwrap_or(task.mask.get());
    let context = context_words(&registers, &stack, sp, mask, vectors_at, info);
    guest::write(frame, &action.restorer)?;
    guest::write(frame + 8, &context)?;
    guest::write(frame + 8 + 304, info)?;
    let signo = info.signo as u8;
    let mut blocked = task.mask.get() | action.mask;
    if action.flags & SA_NODEFER == 0 {
        blocked |= bit(signo);
    }
    task.mask.set(blocked & !(bit(SIGKILL) | bit(SIGSTOP)));
    if action.flags & SA_RESETHAND != 0
        && let Some(place) =
            task.process.actions.borrow().0.borrow_mut().get_mut(usize::from(signo) - 1)
    {
        place.handler = DEFAULT;
    }
    state.set_rsp(frame);
    state.set_rip(action.handler);
    state.set_rdi(signo.into());
    state.set_rsi(frame + 8 + 304);
    state.set_rdx(frame + 8);
    state.set_rax(0);
    // Direction, trap and resume flags off.
    state.set_rflags(state.rflags() & !0x1_0500);
    Ok(())
}

/// The words that tell a debugger and sigreturn how long the state is.
fn describe_vectors(vectors: &mut Vectors, size: usize) {
    let mut words = [0_u8; 24];
    words[0..4].copy_from_slice(&XSTATE_MAGIC.to_le_bytes());
    words[4..8].copy_from_slice(&(size as u32 + 4).to_le_bytes());
    words[8..16].copy_from_slice(&state::enabled().to_le_bytes());
    words[16..20].copy_from_slice(&(size as u32).to_le_bytes());
    if let Some(place) = vectors.0.get_mut(XSTATE_WORDS..XSTATE_WORDS + 24) {
        place.copy_from_slice(&words);
    }
}

/// `struct ucontext` in words: flags, link, stack, registers, mask.
fn context_words(
    registers: &[u64; 18],
    stack: &Sigaltstack,
    sp: u64,
    mask: u64,
    vectors_at: u64,
    info: &Siginfo,
) -> [u64; 38] {
    let mut words = [0; 38];
    let is_fault = info.code > 0 && info.code != SI_KERNEL;
    let on_stack = if stack.size == 0 {
        SS_DISABLE
    } else if sp > stack.sp && sp - stack.sp <= stack.size {
        SS_ONSTACK
    } else {
        0
    };
    let head = [7, 0, stack.sp, u64::from(on_stack.cast_unsigned()), stack.size];
    words[..REGISTERS_AT].copy_from_slice(&head);
    for (word, register) in words.iter_mut().skip(REGISTERS_AT).zip(CONTEXT) {
        *word = registers.get(register).copied().unwrap_or(0);
    }
    words[SEGMENTS] = 0x002b_0000_0000_0033;
    words[FAULT_ADDRESS] = if is_fault { info.fields[0] } else { 0 };
    words[VECTORS] = vectors_at;
    words[MASK] = mask;
    words
}

/// rt_sigreturn(2): restores what `run_handler` saved.
///
/// # Errors
/// `EFAULT`.
pub fn sigreturn(task: &Rc<Task>) -> Result<(), Errno> {
    let state = task.state;
    let frame = state.rsp().wrapping_sub(8);
    let words: [u64; 38] = guest::read(frame + 8)?;
    let [_, _, sp, flags, size, ..] = words;
    let vectors_at = words[VECTORS];
    if vectors_at != 0 {
        let length = state::area_size();
        Vectors::load_from(|vectors| {
            guest::read_bytes(vectors_at, vectors.0.get_mut(..length).unwrap_or_default())
        })?;
    }
    let mut registers = [0; state::REGISTERS];
    for (word, register) in words.iter().skip(REGISTERS_AT).zip(CONTEXT) {
        if let Some(place) = registers.get_mut(register) {
            *place = *word;
        }
    }
    state.set_registers(&registers);
    task.mask.set(words[MASK] & !(bit(SIGKILL) | bit(SIGSTOP)));
    if flags as i32 & SS_DISABLE != 0 || size != 0 {
        task.alternate_stack.set(Sigaltstack { sp, flags: 0, padding: 0, size });
    }
    if deliverable(task) != 0 {
        task.has_work.set(true);
    }
    Ok(())
}
