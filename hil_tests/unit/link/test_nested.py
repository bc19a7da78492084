"""What only compiled functions call is not made into code of its own, and still does what it says."""

from __future__ import annotations

import pytest

from emulator.link.compiled import compiled, compiled_apart

pytestmark = pytest.mark.needs("compiled")


@compiled
def inlined(value: int) -> int:
    return value * 2 + 1


@compiled_apart
def apart(value: int) -> int:
    return inlined(value) * 3


@compiled_apart
def outer(value: int) -> int:
    return inlined(value) + apart(value + 1)


def test_only_what_python_calls_becomes_machine_code() -> None:
    for function in (inlined, apart):
        function.overloads.clear()  # type: ignore[attr-defined]
    assert outer(20) == 41 + 43 * 3
    assert not inlined.overloads  # type: ignore[attr-defined]
    assert not apart.overloads  # type: ignore[attr-defined]
    assert inlined(20) == 41
    assert apart(20) == 41 * 3
