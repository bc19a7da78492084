"""The beacon receiver: the level of now, at its times, as volts and dB that say the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pynmeagps import NMEAReader

from firmware_stubs.beacon import NOTHING_DB, PERIOD_NS, BeaconReceiver, report
from firmware_stubs.nmea import checksum


def fields(line: bytes) -> tuple[float, float, bool]:
    body, _, told = line.decode("ascii").removeprefix("$").removesuffix("\r\n").partition("*")
    assert int(told, 16) == checksum(body)
    _, level_db, volts, locked = body.split(",")
    return float(level_db), float(volts), locked == "1"


@given(level_db=st.none() | st.floats(-200, 100), locked=st.booleans())
def test_volts_follow_the_level_within_their_range(level_db: float | None, locked: bool) -> None:
    line = report(level_db, locked=locked)
    shown_db, volts, lock = fields(line)
    assert lock == locked
    assert 0 <= volts <= 10
    assert shown_db >= NOTHING_DB
    if level_db is not None and -20 <= level_db <= 30:
        assert abs(volts - 0.2 * (level_db + 20)) < 0.01
    assert NMEAReader.parse(line, validate=1, msgmode=0) is not None


@given(
    start_ns=st.integers(0, 2**62),
    steps=st.lists(st.integers(0, 3 * PERIOD_NS), max_size=40),
    noise=st.binary(max_size=40),
)
def test_one_report_for_each_period_that_is_polled(start_ns: int, steps: list[int], noise: bytes) -> None:
    """Whatever a client writes; each report is of the moment at which it is made."""
    receiver = BeaconReceiver(lambda at_ns: ((at_ns - start_ns) / 1e9, True), start_ns)
    now_ns, last = start_ns, None
    for step in steps:
        now_ns += step
        receiver.receive(noise, now_ns)
        due = receiver.next_event_ns() <= now_ns
        said = receiver.poll(now_ns)
        assert bool(said) == due
        if said:
            assert last != now_ns // PERIOD_NS
            last = now_ns // PERIOD_NS
            assert abs(fields(said)[0] - (now_ns - start_ns) / 1e9) < 0.006
        assert now_ns < receiver.next_event_ns() <= now_ns + PERIOD_NS
