"""What each stage does to a few dozen packets is what a person has read and found right (`golden.py`)."""

from __future__ import annotations

import pytest

from hil_tests.unit.link.golden import CASES, TABLES, table


def test_there_is_a_table_for_each_case_and_no_other() -> None:
    assert {path.stem for path in TABLES.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_table_is_as_it_was_read(name: str) -> None:
    assert table(CASES[name]) == (TABLES / f"{name}.txt").read_text(encoding="utf-8")
