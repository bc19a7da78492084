"""A stage of the user's own: a Python function, compiled, asked about every packet that is about to take to the air.

    def my_stage(packet, data, memory):     # docs/custom_stage.md
        return 0                            # ns of delay to add; below 0: drop the packet

The path calls it through its address, so that neither needs the other to be compiled anew, and links of one process may
have different stages. Interpreted, the function is called as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from emulator.errors import ScenarioError
from emulator.link.classify import transport
from emulator.link.compiled import compiled, compiled_apart, interpreted
from emulator.link.memory import copy_bytes
from emulator.link.state import (
    DIRECTION,
    INDEX_MASK,
    MARKED,
    STAGE_ADDRESS,
    STAGE_CODE,
    STAGE_DATA,
    SUPER_HEADER,
    SUPER_L4,
    SUPER_LINK,
    SUPER_OFFSET,
    SUPER_SEGMENT,
    SUPER_SEGMENTS,
    UTC_OFFSET,
    Bytes,
    Ints,
)
from emulator.link.store import LARGEST_SUPER, VNET_BYTES
from emulator.link.wire import (
    TCP,
    TCP_CHECKSUM,
    TCP_MIN,
    UDP,
    UDP_CHECKSUM,
    UDP_HEADER,
    VNET_OFFSET,
    VNET_START,
    build_run,
    complete_checksum,
    le16,
    put_be16,
    set_congestion,
)

Stage = Callable[[Any, Any, Any], int]

# what a stage reads in `packet`
NUMBER, UTC_NS, BYTES, UPLINK_0_DOWNLINK_1, CLASS, WAITED_NS = range(6)
PACKET_WORDS, MEMORY_WORDS = 8, 64
DATA_WORD = PACKET_WORDS + MEMORY_WORDS  # the packet that it is shown comes behind them, with its virtio_net_hdr
STAGE_WORDS = DATA_WORD + LARGEST_SUPER // 8 + 1
LONGEST_NS = 60_000_000_000  # the most that it may add: whoever is to be later than that is dropped

_SIGNATURE = types.int64(types.CPointer(types.int64), types.CPointer(types.uint8), types.int64)
_codes: dict[int, tuple[Stage, int]] = {}
_kept: dict[int, Any] = {}  # by the number that stands in STAGE_CODE; code must live as long as it may be called


@compiled_apart
def consult(
    reg: Ints, words: Ints, ring: Bytes, entry: Ints, index: int, number: int, at: int, length: int, lane: int,
    waited: int,
) -> int:  # fmt: skip
    """What the stage says of segment `index` of a super-packet: ns to add to its delay, below 0 to drop it."""
    words[NUMBER], words[UTC_NS], words[BYTES] = number, at + reg[UTC_OFFSET], length
    words[UPLINK_0_DOWNLINK_1], words[CLASS], words[WAITED_NS] = reg[DIRECTION], lane, waited
    ip, shown = VNET_BYTES + entry[SUPER_LINK], words[DATA_WORD:].view(np.uint8)
    size = min(length, len(shown) - ip)  # no port takes longer ones
    show(ring, shown, entry, index, size)
    answer = call_stage(reg[STAGE_CODE], reg[STAGE_ADDRESS], reg[STAGE_DATA] + ip, size)
    return answer if answer <= LONGEST_NS else -1


@compiled
def show(ring: Bytes, shown: Bytes, entry: Ints, index: int, length: int) -> None:
    """Copies a wire packet of `length` IP bytes as it is to leave, whatever it came in, behind a virtio_net_hdr.

    The checksum of TCP or UDP is 0, as it may not have been worked out yet.
    """
    ip = VNET_BYTES + entry[SUPER_LINK]
    if entry[SUPER_SEGMENTS] == 1:
        copy_bytes(ring, entry[SUPER_OFFSET], ip + length, shown, 0)
    else:
        segment, headers = index & INDEX_MASK, VNET_BYTES + entry[SUPER_HEADER]
        payload = build_run(ring, entry, segment, 1, shown)
        copy_bytes(ring, entry[SUPER_OFFSET] + headers + segment * entry[SUPER_SEGMENT], payload, shown, headers)
    if entry[SUPER_L4] == entry[SUPER_LINK]:  # not IP
        return
    if index & MARKED:
        set_congestion(shown, ip)
    protocol, at = transport(shown, ip, length)
    field = -1
    if protocol == TCP and at >= 0 and at + TCP_MIN <= ip + length:
        field = at + TCP_CHECKSUM
    elif protocol == UDP and at >= 0 and at + UDP_HEADER <= ip + length:
        field = at + UDP_CHECKSUM
    if VNET_BYTES + le16(shown, VNET_START) + le16(shown, VNET_OFFSET) != field:
        complete_checksum(shown, 0, ip + length)  # of a packet within this one, say
    if field >= 0:
        put_be16(shown, field, 0)


if interpreted:

    def call_stage(code: int, words: int, data: int, size: int) -> int:
        """Calls the stage with this number; what it raises is told as Numba tells it, and adds no delay."""
        both = np.ctypeslib.as_array((ctypes.c_int64 * DATA_WORD).from_address(int(words)))
        packet = np.ctypeslib.as_array((ctypes.c_uint8 * int(size)).from_address(int(data)))
        try:
            return int(_kept[int(code)](both[:PACKET_WORDS], packet, both[PACKET_WORDS:]))
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the stage's)
            _tell(error)
            return 0

    def _tell(error: Exception) -> None:
        """Hands an error to sys.unraisablehook, which is called for those of callbacks from C."""

        def fail() -> None:
            raise error

        ctypes.CFUNCTYPE(None)(fail)()

else:

    @intrinsic  # type: ignore[untyped-decorator,unused-ignore]
    def call_stage(_context: Any, code: Any, words: Any, data: Any, size: Any) -> Any:
        """Calls the compiled stage at this address."""

        def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            word = ir.IntType(64)
            function = ir.FunctionType(word, [word] * 3)
            return builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])

        return types.int64(types.int64, types.int64, types.int64, types.int64), build


def load_stage(name: str, folder: Path | None = None) -> int:
    """Imports and compiles `package.module:function`; what to write to STAGE_CODE.

    folder: where modules are looked for, too. Raises ScenarioError for no such function, or one that does not compile.
    """
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name):
        raise ScenarioError([f"link.stage: expected package.module:function, got {name!r}"])
    with _also_from(folder):
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            what = f"expected a module that can be imported: {type(error).__name__}: {error}"
            raise ScenarioError([f"link.stage: {name}: {what}"]) from error
    function = getattr(module, function_name, None)
    if function is None or not callable(function):
        raise ScenarioError([f"link.stage: {name}: expected a function of that name in {module_name}"])
    plain = getattr(function, "py_func", function)
    try:
        inspect.signature(plain).bind(0, 0, 0)
    except (TypeError, ValueError) as error:
        raise ScenarioError([f"link.stage: {name}: expected a function of packet, data and memory"]) from error
    if id(plain) not in _codes:  # both directions, and every link of a sweep, call the same code
        _codes[id(plain)] = plain, _interpreted(plain) if interpreted else _compiled(name, plain)
    return _codes[id(plain)][1]


@contextlib.contextmanager
def _also_from(folder: Path | None) -> Iterator[None]:
    """Modules may come from `folder`, behind all other places."""
    if folder is None:
        yield
        return
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _interpreted(function: Stage) -> int:
    _kept[id(function)] = function
    return id(function)


def _compiled(name: str, function: Stage) -> int:
    """The address of the function's machine code behind a C signature."""
    stage = numba.njit(nogil=True, error_model="numpy", boundscheck=True)(function)

    def enter(words, data, size):  # type: ignore[no-untyped-def]
        both = numba.carray(words, (DATA_WORD,))
        return np.int64(stage(both[:PACKET_WORDS], numba.carray(data, (size,)), both[PACKET_WORDS:]))

    try:
        code = numba.cfunc(_SIGNATURE, nopython=True, error_model="numpy")(enter)
    except Exception as error:  # of Numba's, whose tree has no common root
        what = f"expected a function that Numba compiles: {_first_line(error)}"
        raise ScenarioError([f"link.stage: {name}: {what}"]) from error
    _kept[code.address] = code
    return int(code.address)


def _first_line(error: Exception) -> str:
    """What Numba complains of, without the page around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Failed in", "During:", "File", "<source", "-", "^"))]
    where = next((line for line in lines if line.startswith("File") and "custom.py" not in line), "")
    return " ".join(part for part in (next(iter(telling), type(error).__name__), where) if part)
