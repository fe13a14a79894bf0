//! execve(2): finding the program, its interpreter, loading both, the first stack (elf(5), getauxval(3)).

use super::{
    Process, Task,
    elf::{Elf, clear_tails, read_at},
    layout::{Layout, MAX_STACK, WORD},
};
use crate::{
    file::{Kind, Node, device, lower, node::Meta, path::Walker, uses::Part},
    linux::{
        ADDR_NO_RANDOMIZE, Errno, PER_CLEAR_ON_SETID, PROT_EXEC, PROT_READ, PROT_WRITE,
        RLIMIT_STACK, S_IFREG, S_ISGID, S_ISUID,
    },
    machine::{
        attached, guest,
        state::{self, Vectors},
    },
    memory::{self, Mapping, Memory},
    vdso::Vdso,
};
use alloc::{rc::Rc, vec::Vec};
use kernel_abi::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE;
/// Bytes of a `#!` line that are looked at.
const SCRIPT_LINE: usize = 256;
/// `#!` scripts that may name each other before one names a program.
const MAX_SCRIPTS: u32 = 5;
/// Bytes of arguments and environment that the shortest stack has room for, and the longest.
const MIN_STRINGS: u64 = 128 << 10;
const MAX_STRINGS: u64 = 6 << 20;

/// What to run.
#[derive(Clone, Debug)]
pub struct Request {
    /// The file.
    pub node: Rc<Node>,
    /// The path it was called by.
    pub path: Vec<u8>,
    /// Arguments.
    pub arguments: Vec<Vec<u8>>,
    /// Environment.
    pub environment: Vec<Vec<u8>>,
}

/// A loaded program, ready to be entered.
#[derive(Debug)]
pub struct Loaded {
    /// Its memory.
    pub memory: Rc<Memory>,
    /// First instruction.
    pub entry: u64,
    /// First stack pointer.
    pub stack: u64,
    /// The file that runs (of a script: its interpreter).
    pub request: Request,
    /// The path it was called by (of a script: the script's).
    pub called: Vec<u8>,
    /// Users and groups it runs with: set-user-ID and set-group-ID.
    pub set_ids: (Option<u32>, Option<u32>),
}

/// Follows `#!` lines to the program that really runs.
fn resolve_scripts(request: Request, walker: &Walker<'_>) -> Result<Request, Errno> {
    let mut request = request;
    check_executable(&request.node, walker)?;
    for _ in 0..=MAX_SCRIPTS {
        let head = read_at(&request.node, 0, SCRIPT_LINE)?;
        let Some(script) = script_line(&head)? else { return Ok(request) };
        let mut arguments = alloc::vec![script.interpreter.to_vec()];
        arguments.extend(script.argument.map(<[u8]>::to_vec));
        arguments.push(request.path.clone());
        arguments.extend(request.arguments.into_iter().skip(1));
        let node = walker.find(script.interpreter, true)?;
        check_executable(&node, walker)?;
        request = Request {
            node,
            path: script.interpreter.to_vec(),
            arguments,
            environment: request.environment,
        };
    }
    Err(Errno::ELOOP)
}

/// What a script says of who reads it.
struct ScriptLine<'a> {
    interpreter: &'a [u8],
    argument: Option<&'a [u8]>,
}

/// The `#!` line of a file's first bytes, if it has one.
fn script_line(head: &[u8]) -> Result<Option<ScriptLine<'_>>, Errno> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let is_end = |byte: &u8| is_blank(byte) || *byte == 0;
    let from = |text: &'_ [u8]| text.iter().take_while(|byte| is_blank(byte)).count();
    let end = rest.iter().position(|byte| *byte == b'\n');
    let line = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    let line = line.get(from(line)..).unwrap_or_default();
    let split = line.iter().position(is_end);
    // Of a line without an end in sight, the interpreter's name may be cut off.
    let is_cut = end.is_none() && split.is_none() && head.len() >= SCRIPT_LINE;
    let (interpreter, argument) = line.split_at(split.unwrap_or(line.len()));
    if interpreter.is_empty() || is_cut {
        return Err(Errno::ENOEXEC);
    }
    let argument = argument.get(from(argument)..).unwrap_or_default();
    let argument = argument.split(|byte| *byte == 0).next().unwrap_or_default();
    let length = argument.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    let argument = argument.get(..length).filter(|argument| !argument.is_empty());
    Ok(Some(ScriptLine { interpreter, argument }))
}

fn check_executable(node: &Rc<Node>, walker: &Walker<'_>) -> Result<(), Errno> {
    if node.file_type() != S_IFREG || lower::forbids_programs(node.device) {
        return Err(Errno::EACCES);
    }
    walker.check(&node.meta(), 1)?;
    match &node.kind {
        Kind::File(data) if data.uses.is_written() => Err(Errno::ETXTBSY),
        _ => Ok(()),
    }
}

/// Bytes of arguments and environment that a process may give a program: a quarter of the stack, within bounds.
#[must_use]
pub fn room_for_strings(process: &Process) -> u64 {
    (process.limit(RLIMIT_STACK) / 4).clamp(MIN_STRINGS, MAX_STRINGS)
}

/// Loads a program into new memory and attaches the calling thread to it.
///
/// # Errors
/// Those of execve(2). The caller's old memory is attached again by the caller.
pub fn load(
    request: Request,
    walker: &Walker<'_>,
    process: &Process,
    vdso: &Vdso,
) -> Result<Loaded, Errno> {
    let called = request.path.clone();
    let request = resolve_scripts(request, walker)?;
    // Those of the program that runs: a script's own bits count for nothing.
    let elf = Elf::parse(&request.node)?;
    let interpreter = match &elf.interpreter {
        Some(path) => {
            let node = walker.find(path, true)?;
            check_executable(&node, walker)?;
            let parsed = Elf::parse(&node).map_err(|_| Errno::ELIBBAD)?;
            Some((node, parsed, path.clone()))
        }
        None => None,
    };
    let set_ids = set_ids(process, &request.node);
    let layout = choose_layout(process, set_ids);
    let memory = Rc::new(Memory::new(layout.mappings)?);
    let at = (!elf.is_fixed).then_some(layout.program);
    let bias = elf.load(&memory, &request.node, &request.path, at)?;
    let end = layout.break_at(bias.wrapping_add(elf.bounds().1));
    memory.break_start.set(end);
    memory.break_end.set(end);
    let (mut entry, mut interpreter_bias) = (bias.wrapping_add(elf.entry), 0);
    if let Some((node, parsed, path)) = &interpreter {
        interpreter_bias = parsed.load(&memory, node, path, None)?;
        entry = interpreter_bias.wrapping_add(parsed.entry);
    }
    // What it begins with does not count against a short stack.
    let strings = size_of_strings(&request, &called);
    if strings > room_for_strings(process) {
        return Err(Errno::ETOOBIG);
    }
    let size = process.limit(RLIMIT_STACK).clamp(128 << 10, MAX_STACK);
    let size = size.max(strings + (128 << 10)) & !(PAGE - 1);
    let first = layout.stack_end - layout.stack_unused;
    // All of the limit is left below where it begins; what is more than that costs nothing, and a page table for the rest of 2 MiB would.
    let unit = if size < WORD { PAGE } else { WORD };
    let low = (first - size) & !(unit - 1);
    let executable = if elf.stack_executable { PROT_EXEC } else { 0 };
    let stack_mapping = Mapping {
        protection: PROT_READ | PROT_WRITE | executable,
        shared: false,
        file: None,
        flags: 0,
        name: "[stack]",
        path: None,
    };
    memory.map(low, layout.stack_end - low, true, false, &stack_mapping)?;
    let vdso = memory.map_code(&*vdso.page()?, "[vdso]")?;
    attached::attach(&memory)?;
    clear_tails(&elf, bias)?;
    if let Some((_, parsed, _)) = &interpreter {
        clear_tails(parsed, interpreter_bias)?;
    }
    let vector = Vector {
        headers: elf.headers_at.map_or(0, |at| bias.wrapping_add(at)),
        header_count: elf.header_count,
        base: interpreter_bias,
        entry: bias.wrapping_add(elf.entry),
        is_secure: set_ids != (None, None),
        vdso,
    };
    let stack = build_stack(&memory, (&request, &called), &vector, process, first)?;
    Ok(Loaded { memory, entry, stack, request, called, set_ids })
}

/// Where the parts go. Who asked for no randomness gets it, but not for a program that runs with the rights of another.
fn choose_layout(process: &Process, set_ids: (Option<u32>, Option<u32>)) -> Layout {
    if set_ids == (None, None) && process.execution_domain.get() & ADDR_NO_RANDOMIZE != 0 {
        Layout::FIXED
    } else {
        Layout::drawn(device::random())
    }
}

fn set_ids(process: &Process, node: &Node) -> (Option<u32>, Option<u32>) {
    let Meta { mode, uid, gid, .. } = node.meta();
    if process.no_new_privileges.get() || lower::forbids_set_id(node.device) {
        return (None, None);
    }
    let user = (mode & S_ISUID != 0).then_some(uid);
    let group = (mode & (S_ISGID | 0o010) == S_ISGID | 0o010).then_some(gid);
    (user, group)
}

/// What the auxiliary vector tells of the program.
struct Vector {
    headers: u64,
    header_count: u64,
    base: u64,
    entry: u64,
    is_secure: bool,
    vdso: u64,
}

/// Bytes of a program's strings and of the pointers to them.
fn size_of_strings(request: &Request, called: &[u8]) -> u64 {
    let all = request.arguments.iter().chain(&request.environment);
    all.map(|text| text.len() as u64 + 9).sum::<u64>() + called.len() as u64 + 1
}

/// Writes strings, auxiliary vector, environment and arguments; the first stack pointer.
fn build_stack(
    memory: &Memory,
    (request, called): (&Request, &[u8]),
    vector: &Vector,
    process: &Process,
    first: u64,
) -> Result<u64, Errno> {
    let mut at = first - 16;
    let mut push = |bytes: &[u8], terminated: bool| -> Result<u64, Errno> {
        at -= bytes.len() as u64 + u64::from(terminated);
        guest::write_bytes(at, bytes)?;
        if terminated {
            guest::write_bytes(at + bytes.len() as u64, &[0])?;
        }
        Ok(at)
    };
    let name = push(called, true)?;
    let platform = push(b"x86_64", true)?;
    let strings_end = first - 16 - called.len() as u64 - 8;
    let mut environment = alloc::vec![0; request.environment.len()];
    for (place, text) in environment.iter_mut().zip(&request.environment).rev() {
        *place = push(text, true)?;
    }
    let environment_at = environment.first().copied().unwrap_or(strings_end);
    memory.environment.set((environment_at, strings_end));
    let mut arguments = alloc::vec![0; request.arguments.len()];
    for (place, text) in arguments.iter_mut().zip(&request.arguments).rev() {
        *place = push(text, true)?;
    }
    memory.arguments.set((arguments.first().copied().unwrap_or(environment_at), environment_at));
    let (low, high) = device::random();
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&low.to_le_bytes());
    seed[8..].copy_from_slice(&high.to_le_bytes());
    let random = push(&seed, false)?;
    let at = at;
    let credentials = process.credentials.borrow().clone();
    let auxiliary: [(u64, u64); 21] = [
        (33, vector.vdso),
        (16, u64::from(core::arch::x86_64::__cpuid(1).edx)),
        (6, PAGE),
        (17, 100),
        (3, vector.headers),
        (4, 56),
        (5, vector.header_count),
        (7, vector.base),
        (8, 0),
        (9, vector.entry),
        (11, credentials.users[0].into()),
        (12, credentials.users[1].into()),
        (13, credentials.groups[0].into()),
        (14, credentials.groups[1].into()),
        (23, vector.is_secure.into()),
        (25, random),
        (31, name),
        (15, platform),
        // Programs may use the instructions that read and write the FS and GS bases.
        (26, 2),
        (51, (state::area_size() as u64 + 1024).max(2048)),
        (0, 0),
    ];
    let mut words: Vec<u64> = Vec::with_capacity(64);
    words.push(arguments.len() as u64);
    words.extend(&arguments);
    words.push(0);
    words.extend(&environment);
    words.push(0);
    words.extend(auxiliary.iter().flat_map(|(kind, value)| [*kind, *value]));
    let sp = (at - 8 * words.len() as u64) & !15;
    guest::write_bytes(sp, zerocopy::IntoBytes::as_bytes(words.as_slice()))?;
    Ok(sp)
}

/// Makes a loaded program what a task runs: registers, signals, files.
pub fn enter(task: &Rc<Task>, loaded: Loaded) {
    let process = &task.process;
    let Loaded { memory, entry, stack, request, called, set_ids } = loaded;
    memory::leave(process.memory.replace(memory));
    process.borrows_memory.set(false);
    process.end_queue.wake();
    if set_ids != (None, None) {
        let mut credentials = (**process.credentials.borrow()).clone();
        let before = credentials.users;
        if let Some(uid) = set_ids.0 {
            credentials.users = [before[0], uid, uid, uid];
            if uid == 0 {
                credentials.permitted = credentials.bounding;
            }
            credentials.update_capabilities(before);
        }
        if let Some(gid) = set_ids.1 {
            credentials.groups = [credentials.groups[0], gid, gid, gid];
        }
        *process.credentials.borrow_mut() = Rc::new(credentials);
        let domain = process.execution_domain.get();
        process.execution_domain.set(domain & !PER_CLEAR_ON_SETID);
    }
    let name = called.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    set_name(task, name);
    *process.program.borrow_mut() = super::Program {
        file: Some(Part::running(&request.node)),
        path: request.path.clone(),
        arguments: request.arguments,
    };
    Rc::make_mut(&mut process.actions.borrow_mut()).reset_handlers();
    process.has_executed.set(true);
    process.timers.borrow_mut().clear();
    task.alternate_stack.set(crate::linux::layouts::Sigaltstack {
        sp: 0,
        flags: super::signal::SS_DISABLE,
        padding: 0,
        size: 0,
    });
    task.clear_tid.set(0);
    task.robust_list.set(0);
    task.rseq.set((0, 0));
    let state = task.state;
    state.set_registers(&[0; state::REGISTERS]);
    state.set_rip(entry);
    state.set_rsp(stack);
    state.set_rflags(0x202);
    state::set_fs_base(0);
    state::set_gs_base(0);
    Vectors::reset();
}

/// Sets a task's name from a program's.
pub fn set_name(task: &Task, name: &[u8]) {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name) {
        *to = *from;
    }
    task.name.set(bytes);
}
