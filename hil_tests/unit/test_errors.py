"""The error tree: what a shell, a person and an `except` clause get of it."""

from __future__ import annotations

import re

import pytest

from emulator import errors
from emulator.errors import BentpipeError, ScenarioError

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BentpipeError)]
DERIVED = [cls for cls in CLASSES if cls is not BentpipeError]
TAKEN_BY_SHELLS = {0, 1, 2, 130, 143}


def test_no_two_errors_share_an_exit_status() -> None:
    statuses = [cls.exit_status for cls in CLASSES]
    assert len(set(statuses)) == len(statuses)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_exit_status_means_nothing_else_to_a_shell(cls: type[BentpipeError]) -> None:
    assert cls.exit_status not in TAKEN_BY_SHELLS
    assert 0 < cls.exit_status < 128


@pytest.mark.parametrize("cls", DERIVED)
def test_each_error_is_also_a_built_in_one(cls: type[BentpipeError]) -> None:
    built_in = [base for base in cls.__mro__ if base.__module__ == "builtins"]
    assert built_in[0] not in (Exception, BaseException, object)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_tree_in_the_docstring_gives_the_exit_status(cls: type[BentpipeError]) -> None:
    assert errors.__doc__ is not None
    assert re.search(rf"\b{cls.__name__}\b.* {cls.exit_status}\b", errors.__doc__)


def test_a_scenario_error_has_a_line_for_each_problem() -> None:
    error = ScenarioError(["a.toml: x: expected 1, got 2", "a.toml: y: unknown key"])
    assert str(error).splitlines() == list(error.problems)
