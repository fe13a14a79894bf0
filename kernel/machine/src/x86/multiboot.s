# Another way in, for machines that do not speak PVH: a Multiboot 2 loader's information becomes a start info.
#
# Only in a kernel built with the feature `multiboot`, for the tests; what ships has the one entry in boot.s.
# Source: Multiboot 2 specification 2.0, chapter 3.

.set IMAGE_BASE, 0xffffffff80000000
.set MULTIBOOT, 0xe85250d6
.set LOADED, 0x36d76289

.section .multiboot, "a", @progbits
.align 8
multiboot_header:
.long MULTIBOOT, 0, multiboot_header_end - multiboot_header
.long -(MULTIBOOT + (multiboot_header_end - multiboot_header))
.word 3, 0                      # where to begin
.long 12, multiboot_start - IMAGE_BASE
.align 8
.word 6, 0                      # modules begin with a page
.long 8
.word 0, 0
.long 8
multiboot_header_end:

.section .text.boot, "ax", @progbits
.code32
multiboot_start:
    cld
    cmp eax, LOADED
    jne 9f
    mov esp, offset boot_stack_top - IMAGE_BASE
    mov edx, offset multiboot_info - IMAGE_BASE
    lea ebx, [ebx + 8]
1:  mov eax, dword ptr [ebx]    # a tag: kind, length, contents
    test eax, eax
    jz 8f
    cmp eax, 1                  # the command line
    jne 2f
    lea eax, [ebx + 8]
    mov dword ptr [edx + 24], eax
    jmp 7f
2:  cmp eax, 3                  # a module: the first one counts
    jne 3f
    cmp dword ptr [edx + 12], 0
    jne 7f
    mov dword ptr [edx + 12], 1
    mov eax, dword ptr [ebx + 8]
    mov dword ptr [multiboot_module - IMAGE_BASE], eax
    sub eax, dword ptr [ebx + 12]
    neg eax
    mov dword ptr [multiboot_module - IMAGE_BASE + 8], eax
    jmp 7f
3:  cmp eax, 6                  # the memory map, whose entries are those of a start info
    jne 4f
    cmp dword ptr [ebx + 8], 24
    jne 7f
    lea eax, [ebx + 16]
    mov dword ptr [edx + 40], eax
    mov eax, dword ptr [ebx + 4]
    sub eax, 16
    mov ecx, 24
    push edx
    xor edx, edx
    div ecx
    pop edx
    mov dword ptr [edx + 48], eax
    jmp 7f
4:  cmp eax, 14                 # copies of ACPI's root pointer, kept where nothing overwrites them
    je 5f
    cmp eax, 15
    jne 7f
5:  lea esi, [ebx + 8]
    mov edi, offset multiboot_acpi - IMAGE_BASE
    mov dword ptr [edx + 32], edi
    mov ecx, dword ptr [ebx + 4]
    sub ecx, 8
    cmp ecx, 36
    ja 7f
    rep movsb
7:  mov eax, dword ptr [ebx + 4]
    add eax, 7
    and eax, -8
    add ebx, eax
    jmp 1b
8:  mov ebx, edx
    jmp pvh_start
9:  hlt
    jmp 9b

.section .data.boot, "aw", @progbits
.align 8
multiboot_info:
    .long 0x336ec578, 1, 0, 0   # magic, version, flags, modules
    .quad multiboot_module - IMAGE_BASE, 0, 0, 0
    .long 0, 0
multiboot_module: .skip 32
multiboot_acpi: .skip 40
