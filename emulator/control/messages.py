"""What goes over the control socket: one msgpack map per message, versioned and bounded.

Request: {"version": 1, "verb": …, "author": … if you like, and what the verb takes by emulator.control.model}.
Reply: {"version": 1, "ok": true, "result": …} or
{"version": 1, "ok": false, "kind": name of an error class, "error": one line per fault}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import msgpack

from emulator.errors import BenchNotFoundError, EndpointError

VERSION = 1
SOCKET_NAME = "control.ipc"  # in the bench's runtime directory
MAX_MESSAGE_BYTES = 1 << 20
LONGEST_SOCKET_PATH = 107  # unix(7): sun_path has 108 bytes, the last of them 0


class MessageError(ValueError):
    """Bytes that are not a message of this protocol; the text says why, on one line."""


def encode(message: Mapping[str, Any]) -> bytes:
    """A message as bytes. Raises TypeError for what msgpack has no form for."""
    data: bytes = msgpack.packb(plain(message), use_bin_type=True)
    return data


def decode(data: bytes) -> dict[str, Any]:
    """Bytes as a message of our version. Raises MessageError and nothing else, whatever the bytes are."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError(f"expected at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    try:
        message = msgpack.unpackb(data, raw=False, strict_map_key=True)
    except Exception as error:
        raise MessageError("expected one msgpack map, got bytes that are not msgpack") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise MessageError(f"expected a map with text keys, got {_short(message)}")
    if type(message.get("version")) is not int or message["version"] != VERSION:
        raise MessageError(f"version: expected {VERSION}, got {_short(message.get('version'))}")
    return message


def plain(value: Any) -> Any:
    """Frozen dataclasses (with their properties), enums (by name), paths and NumPy values as what msgpack knows."""
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        names += [name for name, member in vars(type(value)).items() if isinstance(member, property)]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # a NumPy scalar or array
        return value.tolist()
    raise TypeError(f"no message form for {type(value).__name__}")


def endpoint(path: Path, error: type[EndpointError] | type[BenchNotFoundError] = EndpointError) -> str:
    """The ZeroMQ endpoint of a socket file. Raises `error` if the kernel cannot take so long a path."""
    length = len(str(path).encode())
    if length > LONGEST_SOCKET_PATH:
        raise error(
            f"{path}: expected a socket path of at most {LONGEST_SOCKET_PATH} bytes, got {length}; "
            "set BENTPIPE_RUNTIME_DIR to a shorter directory"
        )
    return f"ipc://{path}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
