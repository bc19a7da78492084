"""What the probe processes leave on file is read whole, torn, lost, doubled, and across a step of the world's clock."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EndpointError
from emulator.testing import stamps
from emulator.testing.readings import LOST, read_bulk, read_probes, read_records
from emulator.units import NS_PER_MS, NS_PER_S

STREAM = 77
WORLD_NS = 1_759_500_000 * NS_PER_S  # an instant of October 2025
CLOCKS_NS = 40_000 * NS_PER_S  # CLOCK_MONOTONIC at that instant


class File:
    """Records as the processes write them, with the world's clock `world_ns` ahead of the monotonic one."""

    def __init__(self, path: Path) -> None:
        self.path, self._bytes, self.offset_ns = path, bytearray(), WORLD_NS - CLOCKS_NS

    def put(self, kind: int, first: int, second: int, third: int = STREAM) -> None:
        self._bytes += stamps.RECORD.pack(kind, first, second, third)

    def pair(self, monotonic_ns: int) -> None:
        self.put(stamps.CLOCK, monotonic_ns + self.offset_ns, monotonic_ns, 50)

    def stamp(self, kind: int, number: int, monotonic_ns: int) -> None:
        self.put(kind, number, monotonic_ns + self.offset_ns)

    def write(self, torn: int = 0) -> Path:
        self.path.write_bytes(bytes(self._bytes[: len(self._bytes) - torn]))
        return self.path


def two_files(folder: Path, delays_ns: list[int | None], *, kernel: bool = True) -> tuple[File, File]:
    """A sender's and a receiver's file, a probe every 2 ms; None for one that is lost."""
    sent, received = File(folder / "tx"), File(folder / "rx")
    for file in (sent, received):
        file.pair(CLOCKS_NS)
    for number, delay_ns in enumerate(delays_ns):
        at_ns = CLOCKS_NS + (number + 1) * 2 * NS_PER_MS
        sent.stamp(stamps.SENT, number, at_ns - 9_000)
        if kernel:
            sent.stamp(stamps.STAMPED, number, at_ns)
        if delay_ns is not None:
            received.stamp(stamps.RECEIVED, number, at_ns + delay_ns)
    for file in (sent, received):
        file.pair(CLOCKS_NS + NS_PER_S)
    return sent, received


delays = st.lists(st.none() | st.integers(1, 300 * NS_PER_MS), max_size=60)


@given(delays=delays)
def test_delay_is_the_difference_of_the_kernels_stamps(
    tmp_path_factory: pytest.TempPathFactory, delays: list[int | None]
) -> None:
    sent, received = two_files(tmp_path_factory.mktemp("probe"), delays)
    run = read_probes(sent.write(), received.write())
    assert run.delay_ns.tolist() == [LOST if delay is None else delay for delay in delays]
    assert run.stamp_source == ("kernel" if delays else "")


def test_without_the_kernels_stamp_the_senders_own_stands_in(tmp_path: Path) -> None:
    sent, received = two_files(tmp_path, [10 * NS_PER_MS], kernel=False)
    run = read_probes(sent.write(), received.write())
    assert run.stamp_source == "user space"
    assert run.delay_ns.tolist() == [10 * NS_PER_MS + 9_000]


@given(delays=delays, torn=st.integers(0, 31))
def test_a_torn_record_costs_itself_alone(
    tmp_path_factory: pytest.TempPathFactory, delays: list[int | None], torn: int
) -> None:
    sent, received = two_files(tmp_path_factory.mktemp("torn"), delays)
    whole = read_records(sent.write())
    assert len(read_records(sent.write(torn))) == len(whole) - (torn > 0)
    assert len(read_probes(sent.write(torn), received.write(torn)).sequence) == len(delays)


@given(step_s=st.floats(-86_400, 86_400).filter(lambda step: abs(step) > 1), at=st.integers(1, 9))
def test_a_step_of_the_worlds_clock_bends_no_delay(
    tmp_path_factory: pytest.TempPathFactory, step_s: float, at: int
) -> None:
    folder = tmp_path_factory.mktemp("step")
    sent, received = File(folder / "tx"), File(folder / "rx")
    for second in range(10):
        for file in (sent, received):
            if second == at:
                file.offset_ns += round(step_s * NS_PER_S)
            file.pair(CLOCKS_NS + second * NS_PER_S)
        at_ns = CLOCKS_NS + second * NS_PER_S + 500 * NS_PER_MS
        sent.stamp(stamps.SENT, second, at_ns)
        received.stamp(stamps.RECEIVED, second, at_ns + 30 * NS_PER_MS)
    for file in (sent, received):
        file.pair(CLOCKS_NS + 10 * NS_PER_S)
    run = read_probes(sent.write(), received.write())
    assert run.delay_ns.tolist() == [30 * NS_PER_MS] * 10


@given(parts_per_million=st.floats(-500, 500))
def test_a_clock_that_is_steered_is_followed(
    tmp_path_factory: pytest.TempPathFactory, parts_per_million: float
) -> None:
    folder = tmp_path_factory.mktemp("steered")
    file = File(folder / "tx")
    start_ns = file.offset_ns
    for second in range(4):
        file.offset_ns = start_ns + round(second * parts_per_million * 1_000)
        file.pair(CLOCKS_NS + second * NS_PER_S)
        file.offset_ns = start_ns + round((second + 0.25) * parts_per_million * 1_000)
        file.stamp(stamps.SENT, second, CLOCKS_NS + second * NS_PER_S + NS_PER_S // 4)
    file.offset_ns = start_ns + round(4 * parts_per_million * 1_000)
    file.pair(CLOCKS_NS + 4 * NS_PER_S)
    run = read_probes(file.write(), folder / "none")
    truth = CLOCKS_NS + np.arange(4) * NS_PER_S + NS_PER_S // 4
    assert np.abs(run.sent_ns - truth).max() <= 1_000


def test_a_copy_is_counted_and_the_first_one_is_the_arrival(tmp_path: Path) -> None:
    sent, received = two_files(tmp_path, [NS_PER_MS, None])
    received.stamp(stamps.RECEIVED, 0, CLOCKS_NS + 90 * NS_PER_MS)
    run = read_probes(sent.write(), received.write())
    assert (run.duplicates, run.delay_ns.tolist()) == (1, [NS_PER_MS, LOST])


def test_probes_of_another_sender_are_left_out(tmp_path: Path) -> None:
    sent, received = two_files(tmp_path, [None])
    received.put(stamps.RECEIVED, 0, WORLD_NS + NS_PER_S, STREAM + 1)
    assert read_probes(sent.write(), received.write()).lost.all()


def test_what_was_not_sent_is_told(tmp_path: Path) -> None:
    sent, received = two_files(tmp_path, [NS_PER_MS])
    sent.put(stamps.MISSED, 1, 5)
    sent.put(stamps.REFUSED, 6, 105)
    received.put(stamps.OVERFLOW, 3, 0)
    run = read_probes(sent.write(), received.write())
    assert (run.not_sent, run.refused, run.receiver_overflow) == (5, 1, 3)


def test_files_that_never_came_are_a_run_without_probes(tmp_path: Path) -> None:
    run = read_probes(tmp_path / "tx", tmp_path / "rx")
    assert len(run.sequence) == 0
    assert len(read_bulk(tmp_path / "tx", tmp_path / "rx").at_ns) == 0


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=str(tmp_path)):
        read_records(tmp_path)


@given(totals=st.lists(st.integers(0, 10**9), min_size=2, max_size=50).map(sorted))
def test_goodput_adds_up_to_the_bytes_received(tmp_path_factory: pytest.TempPathFactory, totals: list[int]) -> None:
    folder = tmp_path_factory.mktemp("bulk")
    sender, receiver = File(folder / "tx"), File(folder / "rx")
    for index, total in enumerate(totals):
        receiver.put(stamps.BYTES, CLOCKS_NS + index * 20 * NS_PER_MS, total, 0)
    sender.put(stamps.TCP, CLOCKS_NS, 12, 30_000)
    (folder / "tx").write_bytes(struct.pack("=q24s", stamps.CONGESTION, b"cubic") + bytes(sender._bytes))
    run = read_bulk(folder / "tx", receiver.write())
    edges = CLOCKS_NS + np.arange(0, len(totals) * 20 + 100, 100) * NS_PER_MS
    assert run.congestion == "cubic"
    assert run.retransmitted == 12
    assert (run.goodput_bps(edges) * 0.1 / 8).sum() == pytest.approx(totals[-1] - totals[0])
