"""Recorded exchanges played again, to a stub or to hardware, and two of them compared.

A turn is what the client said, and all that the device said until the client spoke again: turns are what is compared,
for the pieces in which bytes come are the transport's business.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import zip_longest
from math import inf
from pathlib import Path

from firmware_stubs.attach import open_port
from firmware_stubs.record import Exchange, Recorder

PATIENCE_S = 5.0  # that an answer may be late or short
AFTERWARDS_S = 1.0  # in which more may come behind the last answer
MASK = b"\xe2\x80\xa6"  # … in UTF-8, where a pattern's bytes stood


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer; the first question may be empty. Times in seconds; None: no answer.

    `first_s`, `last_s`: from the end of the question to the first and to the last piece of the answer.
    """

    question: bytes
    answer: bytes
    asked_s: float
    first_s: float | None
    last_s: float | None


def turns_of(pieces: Iterable[Exchange]) -> list[Turn]:
    """A record as turns."""
    turns: list[Turn] = []
    question, answer = bytearray(), bytearray()
    asked_s = 0.0
    times: list[float] = []

    def end() -> None:
        if question or answer:
            first, last = (times[0] - asked_s, times[-1] - asked_s) if times else (None, None)
            turns.append(Turn(bytes(question), bytes(answer), asked_s, first, last))
        question.clear()
        answer.clear()
        times.clear()

    for piece in pieces:
        if piece.speaker == "client":
            if answer:
                end()
            question += piece.data
            asked_s = piece.t_s
        else:
            answer += piece.data
            times.append(piece.t_s)
    end()
    return turns


@dataclass(frozen=True, slots=True)
class Difference:
    """A turn of two records. `what`: what differs, empty if nothing does; a turn of None is missing."""

    number: int
    first: Turn | None
    second: Turn | None
    what: str


def compare(
    first: Iterable[Exchange], second: Iterable[Exchange], *, ignore: Iterable[str] = (), tolerance_s: float = 0.1
) -> list[Difference]:
    """Two records turn by turn. `ignore`: patterns whose matches are not compared, as of clocks and serial numbers.

    Answers are the same if their bytes are, and if they began and ended within `tolerance_s` of each other: an echo
    comes at once, however long what is behind it takes. Raises re.error.
    """
    patterns = [re.compile(pattern.encode("latin-1", "replace")) for pattern in ignore]

    def masked(data: bytes) -> bytes:
        for pattern in patterns:
            data = pattern.sub(MASK, data)
        return data

    def what(one: Turn | None, other: Turn | None) -> str:
        if one is None or other is None:
            return "missing"
        if masked(one.question) != masked(other.question):
            return "question"
        if masked(one.answer) != masked(other.answer):
            return "answer"
        times = zip((one.first_s, one.last_s), (other.first_s, other.last_s), strict=True)
        return "time" if any(abs((a or 0.0) - (b or 0.0)) > tolerance_s for a, b in times) else ""

    pairs = zip_longest(turns_of(first), turns_of(second))
    return [Difference(number, one, other, what(one, other)) for number, (one, other) in enumerate(pairs)]


def replay(
    record: Iterable[Exchange],
    url: str,
    baud: int,
    out: Path,
    *,
    patience_s: float = PATIENCE_S,
    utc_ns: Callable[[], int] = time.time_ns,
    stop: threading.Event | None = None,
) -> int:
    """Asks the device at `url` what the client of a record asked, and records what comes back.

    As a program would: the next question waits until the answer to the last one is as long as it was, for `patience_s`
    longer than that took at most, and then for as long as the client paused. Returns how many bytes the device said.
    Raises EndpointError if the port or the file cannot be had, OSError if the port goes away.
    """
    heard, stopping, done_s, now_s = 0, stop or threading.Event(), 0.0, 0.0
    with Recorder(out, utc_ns) as recorder, open_port(url, baud) as port:

        def listen(until_s: float, length: float = inf) -> int:
            """Until a time, or until the answer is as long as this."""
            got = 0
            while time.monotonic() < until_s and got < length and not stopping.is_set():
                if answer := port.read(1):
                    answer += port.read(port.in_waiting)
                    recorder.note("device", answer)
                    got += len(answer)
            return got

        now_s = time.monotonic()
        for turn in turns_of(record):
            heard += listen(now_s + max(0.0, turn.asked_s - done_s))
            if turn.question:
                recorder.note("client", turn.question)
                port.write(turn.question)
            lasts_s = turn.last_s or 0.0
            heard += listen(time.monotonic() + lasts_s + patience_s, len(turn.answer))
            now_s, done_s = time.monotonic(), turn.asked_s + lasts_s
        heard += listen(time.monotonic() + AFTERWARDS_S)
    return heard
