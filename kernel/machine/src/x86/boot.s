# The first instructions: from the PVH entry (32-bit, no paging) to 64-bit code at the kernel's own addresses.
#
# The tables made here map the first 4 GiB three times: at their own addresses (for these instructions and the other CPUs' first
# ones), at the direct map, and the first GiB at the image's address. `paging` replaces them before anything else runs.

.set IMAGE_BASE, 0xffffffff80000000
.set TRAMPOLINE, 0x8000

.section .note.pvh, "a", @note
.align 4
.long 4                         # length of the name
.long 8                         # length of the description
.long 18                        # XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long pvh_start - IMAGE_BASE
.long 0

.section .text.boot, "ax", @progbits
.code32
.global pvh_start
pvh_start:
    cld
    mov esp, offset boot_stack_top - IMAGE_BASE
    mov ebp, ebx                # the start info
    rdtsc
    mov dword ptr [mett_first_instruction - IMAGE_BASE], eax
    mov dword ptr [mett_first_instruction - IMAGE_BASE + 4], edx

    mov edi, offset boot_directories - IMAGE_BASE
    mov eax, 0x83               # present, writable, large
    mov ecx, 2048
1:  mov dword ptr [edi], eax
    add eax, 0x200000
    add edi, 8
    dec ecx
    jnz 1b

    mov edi, offset boot_low - IMAGE_BASE
    mov eax, offset boot_directories - IMAGE_BASE + 3
    mov ecx, 4
1:  mov dword ptr [edi], eax
    add eax, 0x1000
    add edi, 8
    dec ecx
    jnz 1b
    mov eax, offset boot_directories - IMAGE_BASE + 3
    mov dword ptr [boot_high - IMAGE_BASE + 510 * 8], eax
    mov eax, offset boot_low - IMAGE_BASE + 3
    mov dword ptr [boot_root - IMAGE_BASE], eax
    mov dword ptr [boot_root - IMAGE_BASE + 384 * 8], eax
    mov eax, offset boot_high - IMAGE_BASE + 3
    mov dword ptr [boot_root - IMAGE_BASE + 511 * 8], eax
    call enter_long_mode
    .byte 0xea                  # far jump into the 64-bit segment
    .long 2f - IMAGE_BASE
    .word 0x08

.code64
2:  movabs rax, offset high_start
    jmp rax
high_start:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    lea rsp, [rip + boot_stack_top]
    mov edi, ebp
    xor ebp, ebp
    call mett_boot_cpu
    ud2

.code32
# Turns on paging with the tables above, no-execute and long mode. Clobbers eax, ecx, edx.
enter_long_mode:
    mov eax, offset boot_root - IMAGE_BASE
    mov cr3, eax
    mov eax, cr4
    or eax, 1 << 5              # PAE
    mov cr4, eax
    mov ecx, 0xc0000080         # EFER
    rdmsr
    or eax, 1 << 8 | 1 << 11    # LME, NXE
    wrmsr
    mov eax, cr0
    or eax, 1 << 31 | 1 << 16   # PG, WP
    mov cr0, eax
    lgdt [boot_gdt_register - IMAGE_BASE]
    ret

# Another CPU begins here, copied to TRAMPOLINE, in real mode.
.code16
.global mett_trampoline
mett_trampoline:
    cli
    cld
    xor ax, ax
    mov ds, ax
    .byte 0x0f, 0x01, 0x16      # lgdt
    .word TRAMPOLINE + (trampoline_gdt_register - mett_trampoline)
    mov eax, cr0
    or eax, 1
    mov cr0, eax
    .byte 0x66, 0xea
    .long TRAMPOLINE + (4f - mett_trampoline)
    .word 0x18
.code32
4:  mov eax, 0x10
    mov ds, eax
    mov ss, eax
    mov esp, TRAMPOLINE + 0x1000
    mov eax, offset enter_long_mode - IMAGE_BASE
    call eax
    .byte 0xea
    .long 5f - IMAGE_BASE
    .word 0x08
.align 4
trampoline_gdt_register:
    .word 4 * 8 - 1
    .long TRAMPOLINE + (trampoline_gdt - mett_trampoline)
.align 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9a000000ffff
    .quad 0x00cf92000000ffff
    .quad 0x00cf9a000000ffff
.global mett_trampoline_end
mett_trampoline_end:

.code64
5:  movabs rax, offset other_high_start
    jmp rax
other_high_start:
    xor eax, eax
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    mov ss, eax
    mov rsp, qword ptr [rip + mett_next_stack]
    mov rdi, qword ptr [rip + mett_next_cpu]
    xor ebp, ebp
    call mett_other_cpu
    ud2

.section .rodata.boot, "a", @progbits
.align 8
boot_gdt:
    .quad 0
    .quad 0x00af9a000000ffff    # 64-bit code
    .quad 0x00cf92000000ffff    # data
    .quad 0x00cf9a000000ffff    # 32-bit code
boot_gdt_register:
    .word 4 * 8 - 1
    .long boot_gdt - IMAGE_BASE
    .long 0

.section .data.boot, "aw", @progbits
.align 8
.global mett_first_instruction
mett_first_instruction: .quad 0
.global mett_next_stack
mett_next_stack: .quad 0
.global mett_next_cpu
mett_next_cpu: .quad 0

.section .bss.boot, "aw", @nobits
.align 4096
boot_root: .skip 4096
boot_low: .skip 4096
boot_high: .skip 4096
boot_directories: .skip 4 * 4096
.skip 32768
.global boot_stack_top
boot_stack_top:
