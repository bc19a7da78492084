"""Signals wait for what must not be cut in two, and are not lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from emulator.errors import EmulationError
from emulator.ports.interrupts import SIGNALS, interrupts_wait


class CameError(Exception):
    """What a handler raises."""


def come(number: int, _frame: object) -> None:
    raise CameError(number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = [signal.signal(number, come) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_comes_at_the_end_and_not_before(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        with interrupts_wait():
            os.kill(os.getpid(), number)
            done.append("all of it")

    with pytest.raises(CameError) as came:
        work()
    assert done == ["all of it"]
    assert came.value.args == (number,)
    assert all(signal.getsignal(each) is come for each in SIGNALS)


def test_without_a_signal_nothing_happens() -> None:
    with interrupts_wait():
        assert signal.getsignal(signal.SIGINT) is not come
    assert signal.getsignal(signal.SIGINT) is come


def fail(*, told_to_end: bool) -> None:
    with interrupts_wait():
        if told_to_end:
            os.kill(os.getpid(), signal.SIGTERM)
        raise EmulationError("failed")


def test_what_fails_meanwhile_is_told_and_the_handlers_are_back() -> None:
    with pytest.raises(EmulationError, match="failed"):
        fail(told_to_end=False)
    assert signal.getsignal(signal.SIGTERM) is come


def test_a_failure_does_not_lose_a_signal() -> None:
    with pytest.raises(CameError) as came:
        fail(told_to_end=True)
    assert isinstance(came.value.__context__, EmulationError)
