"""A client that behaves badly in every way: the state machine that each stub has to survive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from emulator.units import NS_PER_MS, NS_PER_S, parse_utc_ns
from firmware_stubs.registry import Stub

START_NS = parse_utc_ns("2026-03-01T12:00:00Z")
MOST_SAID = 70_000  # bytes that one poll may give
MOST_HELD = 75_000  # bytes that a stub may hold, waiting answers included, unless it keeps messages


def held_bytes(thing: object, seen: set[int] | None = None) -> int:
    """Bytes of data that can be reached from a stub, in its own objects and the containers in them."""
    seen = set() if seen is None else seen
    if id(thing) in seen or callable(thing) or isinstance(thing, type):
        return 0
    seen.add(id(thing))
    if isinstance(thing, bytes | bytearray | str):
        return len(thing)
    if isinstance(thing, dict):
        return sum(held_bytes(key, seen) + held_bytes(value, seen) + 64 for key, value in thing.items())
    if isinstance(thing, list | tuple | set | frozenset) or type(thing).__name__ == "deque":
        items: Iterable[object] = thing  # type: ignore[assignment]
        return sum(held_bytes(item, seen) + 8 for item in items)
    slots = [getattr(thing, name, None) for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    inside = vars(thing) if hasattr(thing, "__dict__") else {}
    own = type(thing).__module__.startswith(("firmware_stubs", "emulator"))
    return held_bytes([*slots, *inside.values()], seen) if own else 0


def exchange(stub: Stub, data: bytes, now_ns: int, for_s: float = 0.0) -> bytes:
    """What a stub says to `data`, now and whenever it wants to within `for_s`."""
    stub.receive(data, now_ns)
    said = [stub.poll(now_ns)]
    end_ns = now_ns + int(for_s * NS_PER_S)
    for _ in range(1000):
        due_ns = stub.next_event_ns()
        if due_ns is None or due_ns > end_ns:
            break
        now_ns = max(now_ns, due_ns)
        said.append(stub.poll(now_ns))
    return b"".join(said)


def survives(
    make: Callable[[int], Stub],
    commands: list[bytes],
    *,
    settled: Callable[[Stub, int], int],
    probe: bytes,
    answered: Callable[[bytes], bool],
    ends: bytes = b"\r",
    most_held: int = MOST_HELD,
) -> Any:
    """A test case: after anything whatsoever the stub holds little and, once settled, answers `probe`.

    `settled(stub, now)` does what a client does to start afresh and returns the time after it.
    """
    word = st.one_of(st.sampled_from(commands), st.binary(max_size=40), st.text(max_size=20).map(str.encode))

    class Client(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.now_ns = START_NS
            self.stub = make(self.now_ns)

        def said(self, data: bytes) -> None:
            assert len(data) <= MOST_SAID
            assert held_bytes(self.stub) <= most_held

        @rule(words=st.lists(word, max_size=6), end=st.sampled_from([ends, b"\r\n", b"", b" ", b"\n"]))
        def sends(self, words: list[bytes], end: bytes) -> None:
            self.stub.receive(end.join(words) + end, self.now_ns)

        @rule(word=word, times=st.integers(1, 400))
        def repeats(self, word: bytes, times: int) -> None:
            self.stub.receive((word + ends) * times, self.now_ns)

        @rule(length=st.integers(1, 20_000), byte=st.integers(0, 255))
        def sends_an_overlong_line(self, length: int, byte: int) -> None:
            self.stub.receive(bytes([byte]) * length, self.now_ns)

        @rule(command=st.sampled_from(commands), cut=st.integers(0, 20))
        def sends_half_a_command(self, command: bytes, cut: int) -> None:
            self.stub.receive(command[:cut], self.now_ns)

        @rule(command=st.sampled_from(commands), place=st.integers(0, 30), byte=st.integers(0, 255))
        def sends_a_command_with_a_flipped_byte(self, command: bytes, place: int, byte: int) -> None:
            place %= max(1, len(command))
            self.stub.receive(command[:place] + bytes([byte]) + command[place + 1 :] + ends, self.now_ns)

        @rule(command=st.sampled_from(commands))
        def sends_a_command_and_reads(self, command: bytes) -> None:
            self.stub.receive(command + ends, self.now_ns)
            self.said(self.stub.poll(self.now_ns))

        @rule()
        def reads(self) -> None:
            self.said(self.stub.poll(self.now_ns))

        @rule(step_ms=st.integers(0, 60_000))
        def waits(self, step_ms: int) -> None:
            self.now_ns += step_ms * NS_PER_MS

        @rule(back_s=st.integers(1, 86_400))
        def sets_the_clock_back(self, back_s: int) -> None:
            self.now_ns -= back_s * NS_PER_S

        def teardown(self) -> None:
            self.said(self.stub.poll(self.now_ns))
            now_ns = settled(self.stub, self.now_ns)
            answer = exchange(self.stub, probe, now_ns, 1.0)
            assert answered(answer), answer

    case = Client.TestCase
    case.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
    return case
