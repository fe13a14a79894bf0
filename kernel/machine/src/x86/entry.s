# Entries from user mode and returns to it.
#
# Interrupts are off from entry to return. GS is this CPU's block (see `cpu`): 8 stack, 16 context, 24 scratch, 32 run root, 40 guest root,
# 48 state page. A context and a state page begin with the same eighteen registers (0 to 136); a context goes on with in_guest (144), by_syscall (148) and
# attention (152). Between `swapgs` and the switch of the stack nothing can interrupt but NMI, machine check and double fault, which have
# stacks of their own and never look at GS.

.set GUEST_MAX, 0x7ffffffff000
.set GUEST_FLAGS, 0x250dd5
.set FIXED_FLAGS, 0x202
.set STEP_FLAGS, 0x10100

# Stores every register but rax, rsp, rip and the flags.
.macro store_registers base
    mov [\base + 8], rbx
    mov [\base + 16], rcx
    mov [\base + 24], rdx
    mov [\base + 32], rsi
    mov [\base + 40], rdi
    mov [\base + 48], rbp
    mov [\base + 64], r8
    mov [\base + 72], r9
    mov [\base + 80], r10
    mov [\base + 88], r11
    mov [\base + 96], r12
    mov [\base + 104], r13
    mov [\base + 112], r14
    mov [\base + 120], r15
.endm

# Loads every register but rax, rcx, r11, rsp, rip and the flags.
.macro load_registers base
    mov rbx, [\base + 8]
    mov rdx, [\base + 24]
    mov rsi, [\base + 32]
    mov rdi, [\base + 40]
    mov rbp, [\base + 48]
    mov r8, [\base + 64]
    mov r9, [\base + 72]
    mov r10, [\base + 80]
    mov r12, [\base + 96]
    mov r13, [\base + 104]
    mov r14, [\base + 112]
    mov r15, [\base + 120]
.endm

.section .text.entry, "ax", @progbits
.align 64
.global mett_syscall_entry
mett_syscall_entry:
    swapgs
    mov gs:[24], rsp
    mov rsp, gs:[16]
    cmp dword ptr [rsp + 144], 0
    jne guest_syscall
    cmp rax, 3                  # GuestEnter
    je enter_guest
operation:
    mov [rsp], rax
    store_registers rsp
    mov rax, gs:[24]
    mov [rsp + 56], rax
    mov [rsp + 128], rcx
    mov [rsp + 136], r11
    mov dword ptr [rsp + 148], 1
    mov rsp, gs:[8]
    xor ebp, ebp
    call mett_operation

return_to_user:
    mov rsp, gs:[16]
    test rsp, rsp
    jz nothing_chosen
    cmp dword ptr [rsp + 144], 0
    jne return_to_guest
    cmp dword ptr [rsp + 148], 0
    je return_to_interrupted
    load_registers rsp
    mov rax, [rsp]
    mov rcx, [rsp + 128]
    mov r11, [rsp + 136]
    mov rsp, [rsp + 56]
    swapgs
    sysretq

nothing_chosen:
    mov rsp, gs:[8]
    xor ebp, ebp
    call mett_idle
    jmp return_to_user

# A native program that was interrupted, or begins.
return_to_interrupted:
    mov rax, rsp
    mov rsp, gs:[8]
    push 0x1b
    push qword ptr [rax + 56]
    push qword ptr [rax + 136]
    push 0x23
    push qword ptr [rax + 128]
    load_registers rax
    mov rcx, [rax + 16]
    mov r11, [rax + 88]
    mov rax, [rax]
    swapgs
    iretq

.align 16
# The fast path of GuestEnter: nobody wants the thread's attention, and it has a guest.
enter_guest:
    cmp dword ptr [rsp + 152], 0
    jne operation
    cmp qword ptr gs:[40], 0
    je operation
    mov [rsp + 8], rbx
    mov [rsp + 48], rbp
    mov [rsp + 96], r12
    mov [rsp + 104], r13
    mov [rsp + 112], r14
    mov [rsp + 120], r15
    mov rax, gs:[24]
    mov [rsp + 56], rax
    mov [rsp + 128], rcx
    mov [rsp + 136], r11
    mov dword ptr [rsp + 148], 1
    mov dword ptr [rsp + 144], 1
    mov rax, gs:[40]
    mov cr3, rax

# Loads the guest's registers from the state page. Each word is read once: another thread of the compartment may be writing it.
return_to_guest:
    mov rsp, gs:[48]
    mov rcx, [rsp + 128]
    cmp rcx, [rsp + 16]
    jne return_to_guest_fully
    mov r11, [rsp + 136]
    cmp r11, [rsp + 88]
    jne return_to_guest_fully
    movabs rax, GUEST_MAX
    cmp rcx, rax
    jae return_to_guest_fully
    test r11d, STEP_FLAGS       # sysret would trap before the first instruction, and loses the resume flag
    jnz return_to_guest_fully
    and r11d, GUEST_FLAGS
    or r11d, FIXED_FLAGS
    load_registers rsp
    mov rax, [rsp]
    mov rsp, [rsp + 56]
    swapgs
    sysretq

return_to_guest_fully:
    mov rax, rsp
    mov rsp, gs:[8]
    push 0x1b
    push qword ptr [rax + 56]
    mov rcx, [rax + 136]
    and ecx, GUEST_FLAGS
    or ecx, FIXED_FLAGS
    push rcx
    push 0x23
    mov rcx, [rax + 128]
    movabs rdx, GUEST_MAX
    cmp rcx, rdx
    jb 1f
    xor ecx, ecx                # never mapped: the guest faults there
1:  push rcx
    load_registers rax
    mov rcx, [rax + 16]
    mov r11, [rax + 88]
    mov rax, [rax]
    swapgs
    iretq

.align 16
# The fast path of a guest's system call: straight back to the personality.
guest_syscall:
    mov rsp, gs:[48]
    mov [rsp], rax
    store_registers rsp
    mov rax, gs:[24]
    mov [rsp + 56], rax
    mov [rsp + 128], rcx
    mov [rsp + 136], r11
    mov rsp, gs:[16]
    mov dword ptr [rsp + 144], 0
    mov rax, gs:[32]
    mov cr3, rax
    mov rbx, [rsp + 8]
    mov rbp, [rsp + 48]
    mov r12, [rsp + 96]
    mov r13, [rsp + 104]
    mov r14, [rsp + 112]
    mov r15, [rsp + 120]
    mov rcx, [rsp + 128]
    mov r11, [rsp + 136]
    mov rsp, [rsp + 56]
    xor eax, eax                # Exit::Syscall
    swapgs
    sysretq

# Every interrupt and exception: the stack holds vector, error code, rip, cs, flags, rsp, ss.
trap:
    test byte ptr [rsp + 24], 3
    jz kernel_trap
    swapgs
    cld
    clac
    push rax
    mov rax, gs:[16]
    cmp dword ptr [rax + 144], 0
    jne 1f
    mov dword ptr [rax + 148], 0
    jmp 2f
1:  mov rax, gs:[48]
2:  store_registers rax
    pop qword ptr [rax]
    pop rdi
    pop rsi
    pop qword ptr [rax + 128]
    add rsp, 8
    pop qword ptr [rax + 136]
    pop qword ptr [rax + 56]
    mov rsp, gs:[8]
    xor ebp, ebp
    call mett_user_trap
    jmp return_to_user

# In the kernel: an interrupt of an idle CPU, or the end.
kernel_trap:
    clac
    push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    cld
    mov rdi, rsp
    mov rsi, rbp
    call mett_kernel_trap
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

# Leaves boot for the first thread, or idleness.
.global mett_leave_boot
mett_leave_boot:
    mov rsp, gs:[8]
    jmp return_to_user

# One stub per vector, 16 bytes each.
.align 16
.global mett_trap_stubs
mett_trap_stubs:
.set vector, 0
.rept 256
    .align 16
    .if (vector != 8) && (vector < 10 || vector > 14) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30)
    push 0
    .endif
    .byte 0x68
    .long vector
    jmp trap
    .set vector, vector + 1
.endr
