"""Messages of the control socket: a round trip for what is ours, a refusal for everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.control.messages import MAX_MESSAGE_BYTES, VERSION, MessageError, decode, encode, endpoint, plain
from emulator.errors import EndpointError
from emulator.timeline.causes import Cause

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.binary(), st.text()
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(), values))
def test_a_message_comes_back(message: dict[str, Any]) -> None:
    message["version"] = VERSION
    assert decode(encode(message)) == message


@given(st.binary())
def test_arbitrary_bytes_are_refused_on_one_line(data: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        decode(data)
    assert "\n" not in str(caught.value)


@given(values)
def test_any_msgpack_that_is_no_message_of_this_version_is_refused(value: Any) -> None:
    with pytest.raises(MessageError):
        decode(msgpack.packb(value))


@pytest.mark.parametrize("data", [b"", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff", b"\xc1", b"\x81\x90\x01"])
def test_bombs_and_stumps_are_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data)


def test_a_message_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(MessageError, match="expected at most"):
        decode(b"\x00" * (MAX_MESSAGE_BYTES + 1))


@pytest.mark.parametrize("version", [0, 2, True, "1", None, 1.0])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(MessageError, match="version: expected 1, got "):
        decode(msgpack.packb({"version": version, "verb": "state"}))


def test_values_of_the_project_have_a_plain_form() -> None:
    assert plain({Cause.QUEUE: np.int64(3), "path": Path("/x"), "row": (np.arange(2), np.float64(0.5))}) == {
        "QUEUE": 3,
        "path": "/x",
        "row": [[0, 1], 0.5],
    }
    with pytest.raises(TypeError, match="no message form for object"):
        plain(object())


def test_a_path_that_the_kernel_cannot_take_is_refused_with_its_length() -> None:
    longest = Path("/" + "x" * 106)
    assert endpoint(longest) == f"ipc://{longest}"
    with pytest.raises(EndpointError, match="socket path of at most 107 bytes, got 108; set BENTPIPE_RUNTIME_DIR"):
        endpoint(Path("/" + "é" * 53 + "x"))
