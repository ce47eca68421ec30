# The boot sector of a guest that is only this: it checks what it has written, says how
# much of it there is, and goes on to write; what it says on its serial line is lines of
# a letter and eight hexadecimal digits.
#
#     H n    stamps 0 to n - 1 are there, n is the first that is not
#     A n    n stamps are written: the firmware said so of the last
#     F n    the firmware could not read or write stamp n; the guest stands still
#
# Stamp n is sector FIRST + n: 128 words, each made from the last, the first from n.
# The firmware's disk driver does not flush, so that QEMU does, after each write.
# Source: Enhanced Disk Drive 1.1 (INT 13h, AH = 42h, 43h), SeaBIOS.

    .code16
    .set FIRST, 8               # as in writer.py
    .set WANTED, 0x8000         # a stamp as it is to be
    .set FOUND, 0x8200          # a sector as it is
    .set LINE_STATUS, 0x3fd
    .set LINE, 0x3f8
    .set PAUSE_US, 20000        # of a slow processor others want something, too

    ljmp $0, $start
start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    cld
    movb %dl, drive
    xorl %ebp, %ebp             # n
check:
    call make
    movb $0x42, %ah
    movw $FOUND, packet_offset
    call ask
    movw $WANTED, %si
    movw $FOUND, %di
    movw $128, %cx
    repe cmpsl
    jne known
    incl %ebp
    jmp check
known:
    movb $'H', %al
    call tell
write:
    call make
    movw $0x4300, %ax
    movw $WANTED, packet_offset
    call ask
    incl %ebp
    movb $'A', %al
    call tell
    movb $0x86, %ah
    movw $(PAUSE_US >> 16), %cx
    movw $(PAUSE_US & 0xffff), %dx
    int $0x15
    jmp write

# Make stamp n.
make:
    movw $WANTED, %di
    movl %ebp, %eax
    movw $128, %cx
1:  imull $1664525, %eax, %eax
    addl $1013904223, %eax
    stosl
    loop 1b
    ret

# Ask the firmware to read or write stamp n; AX says what.
ask:
    movl %ebp, %ebx
    addl $FIRST, %ebx
    movl %ebx, packet_sector
    movw $packet, %si
    movb drive, %dl
    int $0x13
    jc failed
    ret
failed:
    movb $'F', %al
    call tell
1:  hlt
    jmp 1b

# Tell a letter and n.
tell:
    call put
    movl %ebp, %ebx
    movw $8, %cx
1:  roll $4, %ebx
    movb %bl, %al
    andb $15, %al
    cmpb $10, %al
    jb 2f
    addb $('a' - '0' - 10), %al
2:  addb $'0', %al
    call put
    loop 1b
    movb $'\n', %al
put:
    movb %al, %ah
    movw $LINE_STATUS, %dx
1:  inb %dx, %al
    testb $0x20, %al
    jz 1b
    movb %ah, %al
    movw $LINE, %dx
    outb %al, %dx
    ret

drive:
    .byte 0
    .balign 4
packet:
    .byte 16, 0
    .word 1                     # one sector
packet_offset:
    .word 0, 0
packet_sector:
    .long 0, 0

    .org 510
    .word 0xaa55
