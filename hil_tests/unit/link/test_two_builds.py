"""Compiled, interpreted, and compiled with bounds checks: one outcome."""

from __future__ import annotations

from hil_tests.unit.link.subprocesses import python

CASES = "300"


def test_compiled_equals_interpreted() -> None:
    compiled, interpreted = (
        python("-m", "hil_tests.unit.link.cases", CASES, NUMBA_DISABLE_JIT=flag) for flag in ("0", "1")
    )
    assert len(compiled) == 64
    assert compiled == interpreted


def test_nothing_is_read_or_written_out_of_bounds() -> None:
    """Hostile headers among the cases. Compiled without checks, an index out of bounds would show nothing, or crash."""
    checked = python("-m", "hil_tests.unit.link.cases", CASES, NUMBA_BOUNDSCHECK="1", NUMBA_OPT="1")
    assert checked == python("-m", "hil_tests.unit.link.cases", CASES)
