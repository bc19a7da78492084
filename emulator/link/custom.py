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
from emulator.link.compiled import compiled_apart, interpreted
from emulator.link.state import (
    DIRECTION,
    RING_ADDRESS,
    STAGE_CODE,
    STAGE_WORDS,
    SUPER_HEADER,
    SUPER_LENGTH,
    SUPER_LINK,
    SUPER_OFFSET,
    SUPER_SEGMENTS,
    UTC_OFFSET,
    Ints,
)
from emulator.link.store import VNET_BYTES

Stage = Callable[[Any, Any, Any], int]

# what a stage reads in `packet`
NUMBER, UTC_NS, BYTES, UPLINK_0_DOWNLINK_1, CLASS, WAITED_NS = range(6)
PACKET_WORDS, MEMORY_WORDS = 8, 64

_WORDS = PACKET_WORDS + MEMORY_WORDS
_SIGNATURE = types.int64(types.CPointer(types.int64), types.CPointer(types.uint8), types.int64)
_kept: dict[int, Any] = {}  # by the number that stands in STAGE_CODE; code must live as long as it may be called


@compiled_apart
def consult(reg: Ints, words: Ints, entry: Ints, number: int, at: int, length: int, lane: int, waited: int) -> int:
    """What the stage says of a packet: ns to add to its delay, below 0 to drop it."""
    words[NUMBER], words[UTC_NS], words[BYTES] = number, at + reg[UTC_OFFSET], length
    words[UPLINK_0_DOWNLINK_1], words[CLASS], words[WAITED_NS] = reg[DIRECTION], lane, waited
    first, size = entry[SUPER_OFFSET] + VNET_BYTES + entry[SUPER_LINK], entry[SUPER_LENGTH]
    if entry[SUPER_SEGMENTS] > 1:
        size = entry[SUPER_HEADER]
    return call_stage(reg[STAGE_CODE], reg[STAGE_WORDS], reg[RING_ADDRESS] + first, size - entry[SUPER_LINK])


if interpreted:

    def call_stage(code: int, words: int, data: int, size: int) -> int:
        """Calls the stage with this number."""
        both = np.ctypeslib.as_array((ctypes.c_int64 * _WORDS).from_address(int(words)))
        packet = np.ctypeslib.as_array((ctypes.c_uint8 * int(size)).from_address(int(data)))
        return int(_kept[int(code)](both[:PACKET_WORDS], packet, both[PACKET_WORDS:]))

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
    return _interpreted(plain) if interpreted else _compiled(name, plain)


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
    stage = numba.njit(nogil=True, error_model="numpy")(function)

    def enter(words, data, size):  # type: ignore[no-untyped-def]
        both = numba.carray(words, (_WORDS,))
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
