"""A signal that comes while something is compiled is not lost, whatever swallows the exception of its handler."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from emulator.link.compiled import compiling

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Asked(BaseException):
    """What the handlers raise here."""


def end(number: int, _frame: FrameType | None) -> None:
    raise Asked(number)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.signal(number, end) for number in ENDINGS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_swallowed_signal_ends_it_all_the_same(number: signal.Signals) -> None:
    with pytest.raises(Asked), compiling(), contextlib.suppress(Asked):
        os.kill(os.getpid(), number)
    assert all(signal.getsignal(one) is end for one in ENDINGS)


@pytest.mark.parametrize("number", ENDINGS)
def test_a_compilation_that_fails_for_it_ends_as_the_signal_says(number: signal.Signals) -> None:
    def compile_badly() -> None:
        with contextlib.suppress(Asked):
            os.kill(os.getpid(), number)
        raise RuntimeError("LLVM was interrupted")

    with pytest.raises(Asked), compiling():
        compile_badly()


def test_what_a_callback_could_not_raise_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    callback = ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGINT))
    hook = sys.unraisablehook
    with pytest.raises(Asked), compiling():
        callback()
    assert sys.unraisablehook is hook
    assert capsys.readouterr().err == ""


def test_an_error_of_its_own_stays_that_error() -> None:
    with pytest.raises(RuntimeError, match="own"), compiling():
        raise RuntimeError("own")


def test_without_a_signal_nothing_is_raised_and_ignored_ones_stay_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with compiling():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_in_another_thread_nothing_is_touched() -> None:
    seen: list[object] = []

    def body() -> None:
        with compiling():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [end]
