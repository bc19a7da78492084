"""Laws of what a replay offers to its link: frames where the link carries frames, their ways, and what was cut."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EndpointError
from emulator.link.link import Link
from emulator.ports.assembly import link_options
from emulator.scenario.model import Scenario
from emulator.taps.arrivals import Arrivals
from emulator.taps.pcapng import ETHERNET, LAST_UTC_NS, RAW, PcapngWriter, bench_start, read_capture, section
from emulator.taps.replay import LAST_ARRIVAL_NS, LONGEST_NS, ReplayCounters, replay
from emulator.timeline.build import windows_for
from emulator.timeline.causes import Cause
from emulator.units import NS_PER_MS, NS_PER_S
from hil_tests.unit.taps.test_replay import START_NS, packet

HOST, FAR = b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2"
KINDS = st.sampled_from(["ip", "arp", "other", "broken"])


def frame(kind: str, up: bool, size: int, number: int) -> bytes:
    """An Ethernet frame of a host or of the far side, padded as a card pads."""
    macs = FAR + HOST if up else HOST + FAR
    match kind:
        case "ip":
            body = b"\x08\x00" + packet(up, size, number)
        case "arp":
            body = b"\x08\x06" + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + bytes(6 + 4 + 6 + 4)
        case "broken":
            body = b"\x08\x00" + packet(up, size + 40, number)[:24]
        case _:
            body = b"\x88\xb5" + bytes(size)
    return (macs + body).ljust(60, b"\0")


def write_pcap(path: Path, packets: list[tuple[int, bytes]], link_type: int, snap: int = 1 << 16) -> None:
    records = b"".join(
        struct.pack("<IIII", at // NS_PER_S, at % NS_PER_S, len(data[:snap]), len(data)) + data[:snap]
        for at, data in packets
    )
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, snap, link_type) + records)


def over(kind: str, **link: object) -> Scenario:
    return Scenario.model_validate({"link": {"profile": "fixed", **link}, "ports": {"kind": kind}})


def run(source: Path, wanted: Scenario, **how: Any) -> tuple[ReplayCounters, list[tuple[int, bytes, str]]]:
    """What the replay counts; and in the order of the file: stamps, all that was captured, comments."""
    target = io.BytesIO()
    counters = replay(wanted, windows_for(wanted, epoch_utc_ns=START_NS), source, target, **how)
    out = source.parent / "out.pcapng"
    out.write_bytes(target.getvalue())
    comments = re.findall(
        rb"(?:up|down)link, (?:(?:delivered|still held)[a-z ]*\d+\.\d{6} ms|dropped: \w+)", out.read_bytes()
    )
    frames = list(read_capture(out))
    assert len(comments) == len(frames)
    return counters, [
        (each.utc_ns, each.whole or each.packet or b"", told.decode())
        for each, told in zip(frames, comments, strict=True)
    ]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3 * NS_PER_MS), st.booleans(), st.integers(24, 1500), KINDS), min_size=1, max_size=60
    ),
    loss=st.sampled_from([0.0, 0.3]),
)
def test_over_tap_every_frame_fares_as_it_does_on_the_link(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, int, str]], loss: float
) -> None:
    """ARP and what is no IP at all take part: they have numbers, by which losses are drawn, and time on the air."""
    wanted = over("tap", delay_ms=7.5, loss=loss, rate_mbps=2, queue_packets=30)
    at, frames = START_NS, [(START_NS, True, frame("ip", True, 100, 0))]
    for number, (gap, up, size, kind) in enumerate(steps, 1):
        at += gap
        frames.append((at, up, frame(kind, up, size, number)))
    source = tmp_path_factory.mktemp("replay") / "in.pcap"
    write_pcap(source, [(when, data) for when, _, data in frames], ETHERNET)
    counters, fates = run(source, wanted)
    assert counters.skipped == 0
    timeline = windows_for(wanted, epoch_utc_ns=START_NS).window(START_NS, START_NS + 60 * NS_PER_S)
    for number, name in enumerate(("uplink", "downlink")):
        link = Link(getattr(timeline, name), timeline.end_ns, seed=wanted.seed, direction=number,
                    options=link_options(wanted, "uplink" if number == 0 else "downlink", 0))  # fmt: skip
        for when, up, data in frames:
            if up == (number == 0):
                link.offer(data, when)
        expected = list(link.poll(at + 60 * NS_PER_S))
        assert [(when, data) for when, data, told in fates if told.startswith(f"{name}, delivered")] == expected
        assert getattr(counters, name).dropped == link.counters().dropped


def test_arp_in_front_of_the_first_packet_goes_its_senders_way(tmp_path: Path) -> None:
    ask = frame("arp", True, 0, 0)
    write_pcap(tmp_path / "in.pcap", [(START_NS, ask), (START_NS + 1, frame("ip", True, 60, 1))], ETHERNET)
    counters, fates = run(tmp_path / "in.pcap", over("tap", delay_ms=1))
    assert counters.uplink.offered_packets == 2
    assert fates[0][1] == ask


def test_raw_ip_goes_over_tap_without_frames_and_says_so(tmp_path: Path) -> None:
    packets = [(START_NS + n * NS_PER_MS, packet(True, 100, n)) for n in range(50)]
    write_pcap(tmp_path / "in.pcap", packets, RAW)
    counters, fates = run(tmp_path / "in.pcap", over("tap", delay_ms=1, loss=0.3, rate_mbps=1))
    plain, same = run(tmp_path / "in.pcap", over("tun", delay_ms=1, loss=0.3, rate_mbps=1))
    assert fates == same
    assert (counters.uplink, plain.notes) == (plain.uplink, ())
    assert any("no Ethernet frames" in note for note in counters.notes)


def test_a_card_takes_no_packet_longer_than_its_mtu(tmp_path: Path) -> None:
    write_pcap(tmp_path / "in.pcap", [(START_NS, frame("ip", True, size, size)) for size in (1500, 1501)], ETHERNET)
    counters, _ = run(tmp_path / "in.pcap", over("nic", delay_ms=1))
    assert counters.uplink.dropped == {Cause.TOO_LONG: 1}


@given(snap=st.integers(34, 1600), framed=st.booleans())
def test_what_was_cut_fares_as_if_it_were_whole_and_is_told(
    tmp_path_factory: pytest.TempPathFactory, snap: int, framed: bool
) -> None:
    wanted, link_type = over("tap" if framed else "tun", delay_ms=1, rate_mbps=2), ETHERNET if framed else RAW
    sizes = (1500, 60, 400, 1500)
    packets = [
        (START_NS + n, frame("ip", True, size, n) if framed else packet(True, size, n)) for n, size in enumerate(sizes)
    ]
    folder = tmp_path_factory.mktemp("replay")
    write_pcap(folder / "whole.pcap", packets, link_type)
    write_pcap(folder / "in.pcap", packets, link_type, snap)
    counters, fates = run(folder / "in.pcap", wanted)
    whole, expected = run(folder / "whole.pcap", wanted)
    assert [(at, told) for at, _, told in fates] == [(at, told) for at, _, told in expected]
    assert [data for _, data, _ in fates] == [data[:snap] for _, data, _ in expected]
    assert counters.cut == sum(size + 14 * framed > snap for size in sizes)
    assert [f"in.pcap: {counters.cut} of its packets were cut" in note for note in counters.notes] == [True] * bool(
        counters.cut
    )
    assert whole.notes == ()


@given(kept=st.integers(0, 4 * 100), pcapng=st.booleans())
def test_a_capture_that_ends_in_the_middle_of_a_packet_says_so(
    tmp_path_factory: pytest.TempPathFactory, kept: int, pcapng: bool
) -> None:
    path = tmp_path_factory.mktemp("cut") / "in"
    packets = [(START_NS + number, packet(True, 60, number)) for number in range(4)]
    ends = []
    if pcapng:
        with path.open("wb") as file:
            writer = PcapngWriter(file, ("one",))
            for at, data in packets:
                writer.write(0, at, data, "")
                ends.append(file.tell())
    else:
        write_pcap(path, packets, RAW)
        ends = [24 + (16 + len(packets[0][1])) * (number + 1) for number in range(4)]
    length = min(ends[0] + kept, ends[-1])
    path.write_bytes(path.read_bytes()[:length])
    arrivals = Arrivals(path, terminals=(), ethernet=False)
    assert len(list(arrivals)) == sum(end <= length for end in ends)
    assert arrivals.ends_early == (length not in ends)


def test_where_even_headers_were_cut_the_error_says_so(tmp_path: Path) -> None:
    write_pcap(tmp_path / "in.pcap", [(START_NS, packet(True, 100, 1))], RAW, snap=16)
    with pytest.raises(EndpointError, match=r"in\.pcap.*1 that were cut"):
        run(tmp_path / "in.pcap", over("tun"))


def bench_capture(path: Path, began_ns: int | None, packets: list[tuple[int, int, bytes]]) -> None:
    """A capture as a bench writes it: (stamp, 0 up or 1 down, packet)."""
    with path.open("wb") as file:
        interfaces = ("uplink, before the link", "downlink, before the link")
        writer = PcapngWriter(file, interfaces)
        file.seek(0)
        file.write(section(interfaces, began_utc_ns=began_ns))
        for at, way, data in packets:
            writer.write(way, at, data, "")


def test_a_capture_of_a_bench_says_which_way_each_packet_went(tmp_path: Path) -> None:
    """Whatever their addresses, and what is malformed counts as it did there."""
    packets = [(START_NS + n, n % 2, packet(n % 3 == 0, 60, n)) for n in range(12)]
    bench_capture(tmp_path / "in.pcapng", None, [*packets, (START_NS + 20, 1, b"\0" * 40)])
    counters, fates = run(tmp_path / "in.pcapng", over("tun", delay_ms=1))
    assert (counters.uplink.offered_packets, counters.downlink.offered_packets) == (6, 7)
    assert counters.downlink.dropped == {Cause.MALFORMED: 1}
    assert {data for _, data, told in fates if told.startswith("uplink")} == {
        data for _, way, data in packets if way == 0
    }


@pytest.mark.parametrize("places", [("before",), ("after",), ("before", "after")])
def test_what_a_capture_has_on_both_sides_of_the_link_arrives_once(tmp_path: Path, places: tuple[str, ...]) -> None:
    """By the stamp of its arrival, where that is known."""
    delay_ns = {"before": 0, "after": 5 * NS_PER_MS}
    path = tmp_path / "in.pcapng"
    with path.open("wb") as file:
        interfaces = [(place, f"{way}link, {place} the link") for place in places for way in ("up", "down")]
        writer = PcapngWriter(file, tuple(name for _, name in interfaces))
        for n in range(12):
            for at, (place, _) in enumerate(interfaces):
                if at % 2 == n % 2:
                    writer.write(at, START_NS + n * NS_PER_MS + delay_ns[place], packet(n % 2 == 0, 60, n), "")
    counters, fates = run(path, over("tun", delay_ms=1))
    assert (counters.uplink.offered_packets, counters.downlink.offered_packets) == (6, 6)
    assert [at - NS_PER_MS for at, _, _ in fates] == [START_NS + n * NS_PER_MS + delay_ns[places[0]] for n in range(12)]


@given(began=st.integers(0, LAST_UTC_NS))
def test_when_a_bench_began_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, began: int) -> None:
    path = tmp_path_factory.mktemp("capture") / "file.pcapng"
    bench_capture(path, began, [])
    assert bench_start(path) == began
    bench_capture(path, None, [])
    assert bench_start(path) is None


@pytest.mark.parametrize("how", ["told", "asked", "moved"])
def test_overlay_and_script_count_from_the_beginning_of_the_bench(tmp_path: Path, how: str) -> None:
    """One that is told by the capture, or by who replays it; wherever the capture is moved to."""
    wanted = Scenario.model_validate(
        {
            "link": {"profile": "fixed", "delay_ms": 5},
            "overlay": [{"kind": "outage", "at_s": 7.1, "duration_s": 0.1}],
            "script": [
                {"at": "7.3s", "action": "outage", "duration_s": 0.05, "direction": "uplink"},
                {"at": "7.4s", "action": "obstruct", "duration_s": 0.05},
                {"at": "7.45s", "action": "mark"},
                {"when": {"counter": "uplink.offered_packets", "above": 3}, "action": "outage", "duration_s": 100},
                {"at": "7.46s", "action": "hold", "duration_s": 0.01},
            ],
        }
    )
    began = START_NS - 7 * NS_PER_S
    packets = [(START_NS + n * 10 * NS_PER_MS, 0, packet(True, 100, n)) for n in range(50)]
    bench_capture(tmp_path / "in.pcapng", None if how == "asked" else began, packets)
    options: dict[str, Any] = {
        "told": {},
        "asked": {"began_utc_ns": began},
        "moved": {"start_utc_ns": START_NS + 86_400 * NS_PER_S},
    }[how]
    counters, fates = run(tmp_path / "in.pcapng", wanted, **options)
    lost = [struct.unpack(">I", data[20:24])[0] for _, data, told in fates if told == "uplink, dropped: command"]
    assert lost == [*range(10, 20), *range(30, 35), *range(40, 45)]
    assert sum("delivered after 15." in told for _, _, told in fates) == 1, "the one that was held"
    assert [note.partition(":")[0] for note in counters.notes] == [
        "script[3] when counter uplink.offered_packets, above 3.0"
    ]


def test_a_step_at_a_mark_of_the_plan_comes_at_that_mark(tmp_path: Path) -> None:
    """Slots of Starlink are 15 s long, and begin 12 s, 27 s, 42 s and 57 s after the minute."""
    wanted = Scenario.model_validate(
        {
            **load_starlink(),
            "script": [
                {"at": "next-slot", "action": "outage", "duration_s": 2},
                {"at": "next-slot", "action": "outage", "duration_s": 1},
                {"at": "30s", "action": "move", "latitude_deg": 50, "longitude_deg": 1},
                {"at": "next-slot", "action": "outage", "duration_s": 1},
            ],
        }
    )
    packets = [(START_NS + n * 100 * NS_PER_MS, packet(True, 100, n)) for n in range(400)]
    write_pcap(tmp_path / "in.pcap", packets, RAW)
    counters, fates = run(tmp_path / "in.pcap", wanted, terminals=())
    lost = {struct.unpack(">I", data[20:24])[0] for _, data, told in fates if told == "uplink, dropped: command"}
    began_s = START_NS // NS_PER_S % 60
    first = next(slot - began_s for slot in (12, 27, 42, 57) if slot > began_s) * 10
    lost |= {first, first + 150}  # right at the handover, which may have dropped them itself
    assert lost == {*range(first, first + 20), *range(first + 150, first + 160)}
    assert [note.split(":")[-1].strip() for note in counters.notes] == [
        "the terminal does not move here",
        "it follows one whose outcome is not known here",
    ]


def load_starlink() -> dict[str, Any]:
    from emulator.scenario import load_scenario

    loaded = load_scenario("starlink_2025", [])
    return {**loaded.model_dump(exclude_unset=True), "source": loaded.source}


@pytest.mark.parametrize(("resolution", "ticks"), [(9, 2**64 - 1), (0, 2**40), (0, 2**63), (0x80, 2**34)])
def test_a_stamp_of_no_year_is_named_with_its_file(tmp_path: Path, resolution: int, ticks: int) -> None:
    def block(kind: int, body: bytes) -> bytes:
        size = len(body) + 12
        return struct.pack("<II", kind, size) + body + struct.pack("<I", size)

    data = packet(True, 100, 1)
    interface = struct.pack("<HHI", RAW, 0, 0) + struct.pack("<HHB3x", 9, 1, resolution) + bytes(4)
    body = struct.pack("<IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)) + data
    (tmp_path / "in.pcapng").write_bytes(section(()) + block(1, interface) + block(6, body))
    with pytest.raises(EndpointError, match=r"in\.pcapng: .*a stamp of \d+ ns since 1970"):
        run(tmp_path / "in.pcapng", over("tun"))


@given(start=st.sampled_from([0, START_NS, LAST_ARRIVAL_NS - NS_PER_S]), gap_s=st.integers(0, 136 * 366 * 86_400))
def test_however_far_stamps_are_from_each_other_they_are_replayed_or_named(
    tmp_path_factory: pytest.TempPathFactory, start: int, gap_s: int
) -> None:
    folder = tmp_path_factory.mktemp("replay")
    gap_s = min(gap_s, 0xFFFFFFFF)
    write_pcap(folder / "in.pcap", [(0, packet(True, 60, 0)), (gap_s * NS_PER_S, packet(True, 60, 1))], RAW)
    last_ns = start + gap_s * NS_PER_S
    if gap_s * NS_PER_S > LONGEST_NS or last_ns > LAST_ARRIVAL_NS:
        with pytest.raises(EndpointError, match=r"in\.pcap.*a century"):
            run(folder / "in.pcap", over("tun", delay_ms=1), start_utc_ns=start)
        return
    counters, fates = run(folder / "in.pcap", over("tun", delay_ms=1), start_utc_ns=start)
    assert counters.uplink.delivered_packets == 2
    assert [at for at, _, _ in fates] == [start + NS_PER_MS, last_ns + NS_PER_MS]
