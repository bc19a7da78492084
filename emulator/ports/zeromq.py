"""ZeroMQ from compiled code: libzmq's own send and receive, without the interpreter and without its lock.

Sockets are made by pyzmq, and belong to the one thread that also runs the compiled loop; the loop gets their handles
(`zmq.Socket.underlying`). libzmq is the one that pyzmq has loaded, wherever that lies.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
import zmq  # loads libzmq
from numba import types

from emulator.errors import ToolMissingError
from emulator.link.compiled import compiled
from emulator.link.state import Bytes, Ints

_zmq_send = types.ExternalFunction("zmq_send", types.int32(types.intp, types.intp, types.uint64, types.int32))
_zmq_recv = types.ExternalFunction("zmq_recv", types.int32(types.intp, types.intp, types.uint64, types.int32))
_zmq_getsockopt = types.ExternalFunction("zmq_getsockopt", types.int32(types.intp, types.int32, types.intp, types.intp))
_zmq_errno = types.ExternalFunction("zmq_errno", types.int32())
NAMES = ("zmq_send", "zmq_recv", "zmq_getsockopt", "zmq_errno")

DONTWAIT, SNDMORE = int(zmq.DONTWAIT), int(zmq.SNDMORE)
RCVMORE = int(zmq.RCVMORE)
HOST_UNREACHABLE = int(zmq.EHOSTUNREACH)


def _share_libzmq() -> bool:
    """Tells LLVM where libzmq's functions are; False if no library of this process shows them."""
    paths = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    for path in sorted(path for path in paths if path.startswith("/") and "zmq" in Path(path).name):
        library = ctypes.CDLL(path)
        if all(hasattr(library, name) for name in NAMES):
            for name in NAMES:
                llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
            return True
    return False


_found = _share_libzmq()


def require_libzmq() -> None:
    """Raises ToolMissingError where pyzmq hides its libzmq inside itself."""
    if not _found:
        raise ToolMissingError(
            "pyzmq: expected one with libzmq as a shared library: pip install --force-reinstall pyzmq"
        )


@compiled
def receive(socket: int, data: Bytes) -> int:
    """The next part of a message into `data`, cut if it is longer; its whole length, or −1 if there is none."""
    return _zmq_recv(socket, data.ctypes.data, np.uint64(len(data)), np.int32(DONTWAIT))


@compiled
def has_more(socket: int, scratch: Ints) -> bool:
    """Whether more parts of the message follow. scratch: (2,), overwritten."""
    scratch[0], scratch[1] = 0, 4  # an int, and its length as size_t
    _zmq_getsockopt(socket, np.int32(RCVMORE), scratch.ctypes.data, scratch.ctypes.data + 8)
    return scratch[0] & 0xFFFFFFFF != 0


@compiled
def send(socket: int, data: Bytes, length: int, flags: int) -> bool:
    """Hands on the first `length` bytes, which are copied. False: no room, or nobody there (`last_error`)."""
    if length < 0 or length > len(data):
        return False
    return _zmq_send(socket, data.ctypes.data, np.uint64(length), np.int32(DONTWAIT | flags)) >= 0


@compiled
def last_error() -> int:
    """errno of the call before."""
    return _zmq_errno()
