"""The program in the kernel that notes when a packet comes to a TUN or TAP device (in what form: `stamp_ring`).

    application ─▶ TCP, UDP, IP ─▶ queueing discipline ─▶ the program ─▶ the device's queue ─▶ read(2), by the loop

It is BPF, attached as the device's own filter (TUNSETFILTEREBPF), and lets everything pass as it is. It runs behind
whatever shapes, paces or cuts packets on the device, for exactly what will be read, as it is put into the queue. It
wants CAP_BPF on the machine, which an ordinary user has not, and Linux 5.12 (arm64: 5.18) or later; where it is
refused, arrivals are the loop's. Nothing is left behind: it goes with the device.

Opcodes and layouts: linux/bpf.h; instructions: RFC 9669.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import weakref
from pathlib import Path

import numpy as np

from emulator.link.state import Ints
from emulator.ports.stamp_ring import (
    CAME,
    HEAD,
    LEAST_BYTES,
    LONG_BYTES,
    READ,
    RING_HEADER,
    ROW_KEY,
    ROW_LENGTH,
    ROW_NUMBER,
    ROW_STAMP,
    ROW_WORDS,
    SHORT_BYTES,
    WEIGHTS,
)

SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}  # asm/unistd.h
MAP_CREATE, PROG_LOAD = 0, 5  # enum bpf_cmd
ARRAY, SOCKET_FILTER = 2, 1  # BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_SOCKET_FILTER
MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
ATTRIBUTE_BYTES = 128  # union bpf_attr; what is not used is 0
KTIME_GET_NS, SKB_LOAD_BYTES = 5, 26  # helpers
SKB_LENGTH, SKB_VLAN_PRESENT = 0, 20  # places in struct __sk_buff
TUNSETFILTEREBPF = 0x800454E1  # linux/if_tun.h
PASS_WHOLE = -1  # how many bytes of a packet may pass: all

LEAST_ROWS, MOST_ROWS = 1 << 12, 1 << 16
MOST_SENDERS = 64  # processors that put packets into the queue at once, between the program and the queue

# opcodes: class, operation, and K (immediate) or X (register)
MOV_K, MOV_X, ADD_K, ADD_X, SUB_X, AND_K, LSH_K, MUL_K = 0xB7, 0xBF, 0x07, 0x0F, 0x1F, 0x57, 0x67, 0x27
LOAD_WORD, LOAD_LONG, STORE_LONG, ATOMIC_LONG, IMMEDIATE_LONG = 0x61, 0x79, 0x7B, 0xDB, 0x18
JUMP, JUMP_IF_LESS, JUMP_IF_NOT, JUMP_IF_NOT_LESS_SIGNED, CALL, EXIT = 0x05, 0xA5, 0x55, 0x75, 0x85, 0x95
MAP_VALUE = 2  # BPF_PSEUDO_MAP_VALUE
FETCH_ADD, EXCHANGE = 0x01, 0xE1
R0, R1, R2, R3, R4, CONTEXT, LENGTH, KEY, RING, FRAME = 0, 1, 2, 3, 4, 6, 7, 8, 9, 10
BUFFER = -64  # on the stack


class _Program:
    """An assembler of two dozen lines: instructions in order, jumps to labels that come later."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int, int]] = []
        self._jumps: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}

    def add(self, opcode: int, to: int = 0, of: int = 0, offset: int = 0, value: int = 0) -> None:
        self._code.append((opcode, to, of, offset, value))

    def jump(self, opcode: int, register: int, value: int, label: str) -> None:
        self._jumps.append((len(self._code), label))
        self.add(opcode, register, value=value)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def load(self, count: int, weights: tuple[int, ...], *, from_end: bool) -> None:
        """Adds `count` bytes of the packet, word by word with its weight, to KEY; to "out" if they are not there."""
        self.add(MOV_X, R1, CONTEXT)
        self.add(*((MOV_X, R2, LENGTH) if from_end else (MOV_K, R2)))
        if from_end:
            self.add(ADD_K, R2, value=-count)
        self.add(MOV_X, R3, FRAME)
        self.add(ADD_K, R3, value=BUFFER)
        self.add(MOV_K, R4, value=count)
        self.add(CALL, value=SKB_LOAD_BYTES)
        self.jump(JUMP_IF_NOT, R0, 0, "out")
        for place, weight in enumerate(weights):
            self.add(LOAD_WORD, R1, FRAME, BUFFER + 4 * place)
            self.add(MUL_K, R1, value=weight)
            self.add(ADD_X, KEY, R1)

    def code(self) -> bytes:
        for at, label in self._jumps:
            opcode, to, of, _, value = self._code[at]
            self._code[at] = opcode, to, of, self._labels[label] - at - 1, value
        return b"".join(
            struct.pack("=BBhi", opcode, to | of << 4, offset, value) for opcode, to, of, offset, value in self._code
        )


def program(ring: int, rows: int, room: int) -> bytes:
    """The instructions. ring: the descriptor of the map that holds it, of `rows` rows.

    room: from so many packets in the device's queue on, none is noted: it might be dropped, and its row would be there.
    """
    long_words, short_words = LONG_BYTES // 4, SHORT_BYTES // 4
    made = _Program()
    made.add(MOV_X, CONTEXT, R1)
    made.add(IMMEDIATE_LONG, RING, MAP_VALUE, value=ring)
    made.add(0)
    made.add(MOV_K, R1, value=1)
    made.add(ATOMIC_LONG, RING, R1, CAME * 8, FETCH_ADD)
    made.add(LOAD_LONG, R2, RING, READ * 8)
    made.add(SUB_X, R1, R2)
    made.jump(JUMP_IF_NOT_LESS_SIGNED, R1, room, "out")
    made.add(LOAD_WORD, R1, CONTEXT, SKB_VLAN_PRESENT)  # its tag stands beside the frame, and is put back behind us
    made.jump(JUMP_IF_NOT, R1, 0, "out")
    made.add(LOAD_WORD, LENGTH, CONTEXT, SKB_LENGTH)
    made.add(MOV_K, KEY)
    made.jump(JUMP_IF_LESS, LENGTH, LEAST_BYTES, "out")
    made.jump(JUMP_IF_LESS, LENGTH, LONG_BYTES, "short")
    made.load(LONG_BYTES, WEIGHTS[:long_words], from_end=False)
    made.load(8, WEIGHTS[long_words : long_words + 2], from_end=True)
    made.jump(JUMP, 0, 0, "note")
    made.label("short")
    made.load(SHORT_BYTES, WEIGHTS[:short_words], from_end=False)
    made.load(SHORT_BYTES, WEIGHTS[short_words : 2 * short_words], from_end=True)
    made.label("note")
    made.add(CALL, value=KTIME_GET_NS)
    made.add(MOV_K, R1, value=1)
    made.add(ATOMIC_LONG, RING, R1, HEAD * 8, FETCH_ADD)
    made.add(MOV_X, R2, R1)
    made.add(AND_K, R2, value=rows - 1)
    made.add(LSH_K, R2, value=(ROW_WORDS * 8).bit_length() - 1)
    made.add(ADD_X, RING, R2)
    for word, register in ((ROW_STAMP, R0), (ROW_KEY, KEY), (ROW_LENGTH, LENGTH)):
        made.add(STORE_LONG, RING, register, (RING_HEADER + word) * 8)
    made.add(ADD_K, R1, value=1)
    made.add(ATOMIC_LONG, RING, R1, (RING_HEADER + ROW_NUMBER) * 8, EXCHANGE)  # seen after all the others
    made.label("out")
    made.add(MOV_K, R0, value=PASS_WHOLE)
    made.add(EXIT)
    return made.code()


def _bpf(command: int, attribute: bytes) -> int:
    """bpf(2): a descriptor. Raises OSError."""
    number = SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "no BPF known on this kind of processor")
    memory = ctypes.create_string_buffer(attribute.ljust(ATTRIBUTE_BYTES, b"\0"), ATTRIBUTE_BYTES)
    libc = ctypes.CDLL(None, use_errno=True)
    found = int(libc.syscall(number, command, memory, ATTRIBUTE_BYTES))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found


def _load(code: bytes) -> int:
    instructions, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"MIT")
    where = ctypes.addressof(instructions), ctypes.addressof(licence)
    return _bpf(PROG_LOAD, struct.pack("=IIQQ", SOCKET_FILTER, len(code) // 8, *where))


def ring_of(descriptor: int) -> Ints:
    """The ring behind the descriptor of its map, which may be closed afterwards; no descriptor of its own stays open.

    Python's mmap would keep one for as long as anybody knows the ring. Raises OSError.
    """
    size, libc = _bytes_of(descriptor), ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]
    where = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
    if where is None or where == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    memory = (ctypes.c_int64 * (size // 8)).from_address(where)
    unmap = weakref.finalize(memory, libc.munmap, ctypes.c_void_p(where), ctypes.c_size_t(size))
    unmap.atexit = False  # a loop in a thread may still read it then
    return np.ctypeslib.as_array(memory)


def _bytes_of(descriptor: int) -> int:
    """How large the one value of a map is: /proc says."""
    told = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines()
    sizes = [int(line.split()[1]) for line in told if line.startswith("value_size")]
    if not sizes:
        raise OSError(errno.EINVAL, "no BPF map")
    return sizes[0]


def _require_one_clock() -> None:
    """Raises OSError in a time namespace whose monotonic clock is not the machine's, on which the program notes."""
    offsets = Path("/proc/self/timens_offsets")
    if offsets.exists() and any(
        words[0] == "monotonic" and words[1:] != ["0", "0"]
        for words in map(str.split, offsets.read_text(encoding="ascii").splitlines())
    ):
        raise OSError(errno.EOPNOTSUPP, "the monotonic clock of this time namespace is not the machine's")


class Stamper:
    """The program at a device, and its ring. Raises OSError where the kernel refuses.

    device: the descriptor of the TUN or TAP device; queue_packets: how many places its queue has.
    `descriptor`: of the map, for another process that reads the device (`ring_of`).
    """

    def __init__(self, device: int, queue_packets: int) -> None:
        _require_one_clock()
        rows = min(MOST_ROWS, max(LEAST_ROWS, 1 << queue_packets.bit_length()))
        room = min(queue_packets, rows)
        room -= min(MOST_SENDERS, room // 2)
        size = (RING_HEADER + rows * ROW_WORDS) * 8
        self.descriptor = _bpf(MAP_CREATE, struct.pack("=IIIII", ARRAY, 4, size, 1, MMAPABLE))
        try:
            self.ring = ring_of(self.descriptor)
            loaded = _load(program(self.descriptor, rows, room))
            try:
                fcntl.ioctl(device, TUNSETFILTEREBPF, struct.pack("i", loaded))
            finally:
                os.close(loaded)  # the device holds it
        except BaseException:
            os.close(self.descriptor)
            raise

    def close(self) -> None:
        """Lets go of the map; the program goes with the device."""
        os.close(self.descriptor)
