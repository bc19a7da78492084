"""Laws of a replay's time: gaps cost nothing and change nothing, sums hold, and no memory of the link overruns."""

from __future__ import annotations

import io
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.link import state
from emulator.link.link import Bucket, Link, LinkOptions
from emulator.scenario.model import Scenario
from emulator.taps.pcapng import RAW
from emulator.taps.replay import WINDOW_NS, ReplayCounters, offer_all, replay, settle
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import Channel, Timeline, Windows
from emulator.timeline.model import Path as Serving
from emulator.units import NS_PER_MS, NS_PER_S
from hil_tests.unit.taps.test_replay import START_NS, packet, scenario
from hil_tests.unit.taps.test_replay_arrivals import run, write_pcap


class Changing(Windows):
    """Another delay, rate and loss each second, and a gate that is shut for one second of ten."""

    def __init__(self) -> None:
        self.asked = 0

    def window(self, start_ns: int, end_ns: int) -> Timeline:
        self.asked += 1
        starts = np.arange(start_ns // NS_PER_S, -(-end_ns // NS_PER_S), dtype=np.int64)
        zeros, none = np.zeros(len(starts), np.int64), np.full(1, -1, np.int64)
        channel = Channel(
            starts * NS_PER_S,
            (starts * 7919 % 40) * NS_PER_MS,
            zeros,
            20_000 + starts * 104_729 % 50_000,
            (starts * 31 % 4) << 28,
            zeros,
            zeros,
            np.where(starts % 10 == 3, Gate.HOLD, Gate.PASS).astype(np.int64),
            zeros,
        )
        nobody = np.array([np.nan])
        path = Serving(np.array([start_ns], np.int64), none, none, nobody, nobody, nobody, np.zeros(1, np.int64))
        return Timeline(start_ns, end_ns, channel, channel, path, (), ())


def changing(source: Path, wanted: Scenario) -> tuple[bytes, ReplayCounters, int]:
    """What a replay over a changing link writes, and how many windows that took."""
    target, windows = io.BytesIO(), Changing()
    counters = replay(wanted, windows, source, target)
    return target.getvalue(), counters, windows.asked


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 5 * NS_PER_MS, NS_PER_S, 59 * NS_PER_S, 61 * NS_PER_S, 500 * NS_PER_S]),
                  st.integers(24, 1500)),
        min_size=1,
        max_size=20,
    )
)  # fmt: skip
def test_across_gaps_packets_fare_as_on_a_link_that_was_planned_throughout(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int]]
) -> None:
    wanted, at, packets = scenario(queue_packets=50), START_NS, []
    for number, (gap, size) in enumerate(steps):
        at += gap
        packets.append((at, packet(True, size, number)))
    source = tmp_path_factory.mktemp("replay") / "in.pcap"
    write_pcap(source, packets, RAW)
    written, counters, _ = changing(source, wanted)
    assert changing(source, wanted)[0] == written
    end_ns = at + 600 * NS_PER_S
    timeline = Changing().window(START_NS - START_NS % NS_PER_S, end_ns)
    link = Link(timeline.uplink, end_ns, seed=wanted.seed, direction=0, options=LinkOptions(queue_packets=50))
    delivered = []
    for when, data in packets:
        delivered += link.poll(when)
        link.offer(data, when)
    delivered += link.poll(end_ns)
    assert counters.uplink.dropped == link.counters().dropped
    assert counters.uplink.delivered_packets == len(delivered)
    assert [due for due, data in delivered if struct.pack("<I", due & 0xFFFFFFFF) + struct.pack(
        "<II", len(data), len(data)) + data not in written] == []  # fmt: skip


@pytest.mark.parametrize("days", [1, 365, 28_000])
def test_a_gap_costs_no_more_than_the_packets_at_its_ends(tmp_path: Path, days: int) -> None:
    packets = [(START_NS, packet(True, 100, 1)), (START_NS + days * 86_400 * NS_PER_S, packet(True, 100, 2))]
    write_pcap(tmp_path / "in.pcap", packets, RAW)
    _, counters, asked = changing(tmp_path / "in.pcap", scenario())
    assert counters.uplink.offered_packets == 2
    assert asked <= 8


def test_who_waits_for_the_gap_to_end_meets_every_window_of_it(tmp_path: Path) -> None:
    wanted = Scenario.model_validate(
        {"link": {"profile": "fixed", "delay_ms": 1}, "overlay": [{"kind": "hold", "at_s": 0, "duration_s": 1000}]}
    )
    packets = [(START_NS, packet(True, 100, 1)), (START_NS + 7200 * NS_PER_S, packet(True, 100, 2))]
    write_pcap(tmp_path / "in.pcap", packets, RAW)
    written, counters, asked = changing(tmp_path / "in.pcap", wanted)
    assert counters.uplink.delivered_packets + counters.uplink.dropped_packets == 2
    assert 1000 * NS_PER_S // WINDOW_NS <= asked <= 1000 * NS_PER_S // WINDOW_NS + 8
    assert written


def kinds(fates: list[tuple[int, bytes, str]]) -> Counter[str]:
    """How many packets of each direction and kind, by their comments."""
    return Counter(told.split(" after ")[0].replace(" a second time", "") for _, _, told in fates)


@given(
    sizes=st.lists(st.tuples(st.booleans(), st.integers(24, 1500)), min_size=1, max_size=60),
    rate=st.sampled_from([0, 0.00001, 0.0001, 0.001]),
    copies=st.sampled_from([0.0, 0.5]),
    held=st.sampled_from([0, 1, 1e6]),
    delay_ms=st.sampled_from([1, 10_000]),
)
def test_the_file_has_as_many_of_each_kind_as_are_counted(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[tuple[bool, int]],
    rate: float,
    copies: float,
    held: float,
    delay_ms: float,
) -> None:
    """However slow the link is, and even if it never lets anything out."""
    overlay = [{"kind": "hold", "at_s": 0, "duration_s": held}] if held else []
    wanted = Scenario.model_validate(
        {
            "link": {"profile": "fixed", "rate_mbps": rate, "duplicate": copies, "loss": 0.1, "delay_ms": delay_ms,
                     "queue_packets": 40},
            "overlay": overlay,
        }
    )  # fmt: skip
    source = tmp_path_factory.mktemp("replay") / "in.pcap"
    packets = [(START_NS + n, packet(up or n == 0, size, n)) for n, (up, size) in enumerate(sizes)]
    write_pcap(source, packets, RAW)
    counters, fates = run(source, wanted)
    told, expected = kinds(fates), Counter[str]()
    for name in ("uplink", "downlink"):
        counted = getattr(counters, name)
        assert counted.offered_packets + counted.copied_packets == (
            counted.delivered_packets + counted.dropped_packets + counted.held_packets
        )
        expected[f"{name}, delivered"] = counted.delivered_packets
        expected[f"{name}, still held"] = counted.held_packets
        for cause, count in counted.dropped.items():
            expected[f"{name}, dropped: {cause.name.lower()}"] = count
    assert told == +expected
    assert [at for at, _, _ in fates] == sorted(at for at, _, _ in fates)
    if rate in (0, 0.001) and held < 1e6:
        assert counters.uplink.held_packets == counters.downlink.held_packets == 0


def test_a_slow_link_is_followed_until_it_is_empty(tmp_path: Path) -> None:
    """200 × 1500 bytes at 1 kbit/s: 40 minutes."""
    write_pcap(tmp_path / "in.pcap", [(START_NS + n, packet(True, 1500, n)) for n in range(200)], RAW)
    counters, fates = run(tmp_path / "in.pcap", scenario(delay_ms=20, rate_mbps=0.001))
    assert counters.uplink.delivered_packets == 200
    assert fates[-1][0] - START_NS == 2400 * NS_PER_S + 20 * NS_PER_MS


def offered(link: Link, packets: list[tuple[int, bytes]]) -> None:
    frames = [bytes(10) + data for _, data in packets]
    lengths = np.array([len(frame) for frame in frames], np.int64)
    data = np.frombuffer(bytearray(b"".join(frames)), np.uint8)
    arrivals = np.array([at for at, _ in packets], np.int64)
    offer_all(
        link.state, data, np.cumsum(lengths) - lengths, lengths, arrivals, np.zeros(state.SUPER_COLUMNS, np.int64)
    )


def ledger_of(link: Link) -> list[list[int]]:
    rows: list[list[int]] = link.state.ledger[: int(link.state.reg[state.LEDGER_TAIL])].tolist()
    return rows


@given(
    gaps=st.lists(st.integers(0, 40 * NS_PER_MS), min_size=1, max_size=80),
    copied=st.sampled_from([0.0, 0.5]),
    held=st.booleans(),
)
def test_one_look_after_a_long_time_sees_what_many_looks_see(gaps: list[int], copied: float, held: bool) -> None:
    """A flight of 32 packets is enough for a link that never has more than that on the air."""
    options = LinkOptions(queue_packets=100, flight_packets=32, copied=copied, ledger_events=1 << 10,
                          bucket=Bucket(800_000, 1500) if held else None)  # fmt: skip
    channel = Channel.constant(0, delay_ns=5 * NS_PER_MS, rate_bps=800_000)
    rare, often = (
        Link(channel, 1 << 50, seed=1, direction=0, options=replace(options, flight_packets=flight))
        for flight in (32, 1 << 10)
    )
    at, packets = 0, []
    for number, gap in enumerate(gaps):
        at += gap
        packets.append((at, packet(True, 1000, number)))
    offered(rare, packets)
    settle(rare.state, at + 100 * NS_PER_S)
    for when, data in packets:
        often.poll(when)
        often.offer(data, when)
    often.poll(at + 100 * NS_PER_S)
    assert ledger_of(rare) == ledger_of(often)
    assert Cause.MEMORY not in rare.counters().dropped


@pytest.mark.needs("compiled")
def test_what_a_gate_lets_out_at_once_may_be_more_than_a_ledger_usually_holds(tmp_path: Path) -> None:
    """70,000 packets, each twice, of which nothing is known until the hold ends; then the link is slow."""
    wanted = Scenario.model_validate(
        {"link": {"profile": "fixed", "delay_ms": 1, "rate_mbps": 5, "queue_packets": 100_000, "duplicate": 1.0},
         "overlay": [{"kind": "hold", "at_s": 0, "duration_s": 60}]}
    )  # fmt: skip
    packets = [(START_NS + n * 1000, packet(True, 60, n)) for n in range(70_000)]
    packets.append((START_NS + 3600 * NS_PER_S, packet(True, 60, 70_000)))
    write_pcap(tmp_path / "in.pcap", packets, RAW)
    target = io.BytesIO()
    counters = replay(wanted, windows_for(wanted, epoch_utc_ns=START_NS), tmp_path / "in.pcap", target)
    assert counters.uplink.dropped == {}
    assert counters.uplink.delivered_packets == 2 * 70_001
    assert target.getvalue().count(b"uplink, delivered") == 2 * 70_001
