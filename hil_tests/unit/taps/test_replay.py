"""Laws of the replay: every packet of the capture has one fate, the same every time, and that of the link itself."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import re
import signal
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import emulator.taps.replay as replay_module
from emulator.cli.replay import replay as replay_command
from emulator.errors import EndpointError
from emulator.link.link import Link
from emulator.ports.assembly import link_options
from emulator.scenario.model import Scenario
from emulator.taps.pcapng import Frame, PcapngWriter, read_capture
from emulator.taps.replay import replay
from emulator.timeline.build import windows_for
from emulator.units import NS_PER_MS, NS_PER_S

START_NS = 1_767_225_613 * NS_PER_S
TERMINAL, DATACENTER = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 1])


def packet(up: bool, size: int, number: int) -> bytes:
    """An IPv4 packet of `size` bytes that carries its number."""
    ends = TERMINAL + DATACENTER if up else DATACENTER + TERMINAL
    head = struct.pack(">BBHHHBBH", 0x45, 0, size, number & 0xFFFF, 0, 64, 17, 0) + ends
    return head + struct.pack(">I", number) + bytes(size - 24)


def write_pcap(path: Path, packets: list[tuple[int, bytes]]) -> None:
    """A classic pcap file with nanosecond stamps, by hand: the independent writer of these tests."""
    records = b"".join(
        struct.pack("<IIII", at // NS_PER_S, at % NS_PER_S, len(data), len(data)) + data for at, data in packets
    )
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65_535, 101) + records)


def scenario(**link: object) -> Scenario:
    return Scenario.model_validate({"link": {"profile": "fixed", **link}})


def run(source: Path, wanted: Scenario) -> tuple[bytes, list[tuple[int, bytes, str]]]:
    """The file that the replay writes, and its packets with their comments."""
    target = io.BytesIO()
    replay(wanted, windows_for(wanted, epoch_utc_ns=START_NS), source, target)
    written = target.getvalue()
    (source.parent / "out.pcapng").write_bytes(written)
    frames = list(read_capture(source.parent / "out.pcapng"))
    comments = re.findall(rb"(?:up|down)link, (?:delivered after \d+\.\d{6} ms|dropped: \w+)", written)
    assert len(comments) == len(frames)
    return written, [
        (frame.utc_ns, frame.packet or b"", comment.decode()) for frame, comment in zip(frames, comments, strict=True)
    ]


traffic = st.lists(
    st.tuples(st.integers(0, 3 * NS_PER_MS), st.booleans(), st.integers(24, 1500)), min_size=1, max_size=60
)


@given(steps=traffic, loss=st.sampled_from([0.0, 0.3]), queue=st.integers(1, 20), rate=st.sampled_from([0, 1, 8]))
def test_every_packet_has_one_fate_and_it_is_that_of_the_link(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, int]], loss: float, queue: int, rate: int
) -> None:
    wanted = scenario(delay_ms=7.5, loss=loss, queue_packets=queue, rate_mbps=rate)
    at, packets = START_NS, []
    for number, (gap, up, size) in enumerate(steps):
        at += gap
        packets.append((at, packet(up or number == 0, size, number)))
    source = tmp_path_factory.mktemp("replay") / "in.pcap"
    write_pcap(source, packets)
    written, fates = run(source, wanted)
    assert sorted(data for _, data, _ in fates) == sorted(data for _, data in packets)
    assert [time for time, _, _ in fates] == sorted(time for time, _, _ in fates)
    assert run(source, wanted)[0] == written

    timeline = windows_for(wanted, epoch_utc_ns=START_NS).window(START_NS, START_NS + 60 * NS_PER_S)
    for number, name in enumerate(("uplink", "downlink")):
        link = Link(getattr(timeline, name), timeline.end_ns, seed=wanted.seed, direction=number,
                    options=link_options(wanted, "uplink" if number == 0 else "downlink", 0))  # fmt: skip
        for when, data in packets:
            if (data[12:16] == TERMINAL) == (number == 0):
                link.offer(data, when)
        expected = [(due, data) for due, data in link.poll(at + 60 * NS_PER_S)]
        delivered = [(time, data) for time, data, fate in fates if fate.startswith(f"{name}, delivered")]
        assert delivered == expected
        for time, data, fate in fates:
            if fate.startswith(f"{name}, delivered"):
                sent = next(when for when, original in packets if original == data)
                assert (
                    fate == f"{name}, delivered after {(time - sent) // NS_PER_MS}.{(time - sent) % NS_PER_MS:06d} ms"
                )


def test_an_outage_of_the_scenario_counts_from_the_first_packet(tmp_path: Path) -> None:
    wanted = Scenario.model_validate(
        {"link": {"profile": "fixed", "delay_ms": 5}, "overlay": [{"kind": "outage", "at_s": 0.1, "duration_s": 0.2}]}
    )
    write_pcap(tmp_path / "in.pcap", [(START_NS + n * 10 * NS_PER_MS, packet(True, 100, n)) for n in range(50)])
    _, fates = run(tmp_path / "in.pcap", wanted)
    lost = [struct.unpack(">I", data[20:24])[0] for _, data, fate in fates if fate == "uplink, dropped: command"]
    assert lost == list(range(10, 30))


@given(frames=st.lists(st.tuples(st.integers(0, 2**62), st.binary(max_size=200), st.text(max_size=30)), max_size=10))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, bytes, str]]
) -> None:
    path = tmp_path_factory.mktemp("capture") / "file.pcapng"
    with path.open("wb") as file:
        writer = PcapngWriter(file, ("one", "two"))
        for at, data, comment in frames:
            writer.write(0, at, packet(True, 24 + len(data), 1)[:24] + data, comment)
    assert list(read_capture(path)) == [
        Frame(at, packet(True, 24 + len(data), 1)[:24] + data, "one", beside=("one", "two")) for at, data, _ in frames
    ]


@given(damage=st.binary(min_size=1, max_size=300), keep=st.integers(0, 200))
def test_a_damaged_capture_is_named_or_ends_early(
    tmp_path_factory: pytest.TempPathFactory, damage: bytes, keep: int
) -> None:
    path = tmp_path_factory.mktemp("capture") / "file.pcap"
    write_pcap(path, [(START_NS, packet(True, 100, 1))])
    path.write_bytes(path.read_bytes()[:keep] + damage)
    read, frames = 0, read_capture(path)
    with contextlib.suppress(EndpointError, StopIteration):
        while True:
            next(frames)
            read += 1
    assert read <= 1 + len(damage) // 16  # it ends, and makes up nothing


def test_scapy_and_we_read_the_same(tmp_path: Path) -> None:
    scapy = pytest.importorskip("scapy.all")
    inside = scapy.IP(src="10.0.0.2", dst="10.0.0.1") / scapy.UDP() / b"hello"
    six = scapy.IPv6(src="2001:2::2", dst="2001:2::1") / scapy.UDP() / b"hello"
    ether = scapy.Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    layers = [ether / inside, ether / scapy.Dot1Q(vlan=5) / inside, ether / six, ether / scapy.ARP()]
    for name, write in (("a.pcap", scapy.wrpcap), ("b.pcapng", scapy.wrpcapng)):
        path = tmp_path / name
        write(str(path), layers)
        found = [frame.packet for frame in read_capture(path)]
        assert found == [bytes(inside), bytes(inside), bytes(six), None]


def test_a_file_that_is_no_capture_is_named(tmp_path: Path) -> None:
    for name, content in (("empty", b""), ("text", b"no capture at all, but long enough for a header")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EndpointError, match=name):
            run(tmp_path / name, scenario())
    with pytest.raises(EndpointError, match="absent"):
        run(tmp_path / "absent", scenario())


def test_ctrl_c_ends_a_compilation_that_swallows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def swallows(*_: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(replay_module, "settle", swallows)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            replay_module.warm_up()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_command_says_that_it_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiled: bool) -> None:
    monkeypatch.setattr(replay_module, "is_compiled", lambda: compiled)
    write_pcap(tmp_path / "in.pcap", [(START_NS, packet(True, 100, 1))])
    words = ["fixed", str(tmp_path / "in.pcap"), "-o", str(tmp_path / "out.pcapng")]
    done = CliRunner().invoke(replay_command, words, catch_exceptions=False)
    assert (done.exit_code, "compiling" in done.stderr) == (0, not compiled)


def test_a_terminal_from_which_nothing_comes_is_told(tmp_path: Path) -> None:
    write_pcap(tmp_path / "in.pcap", [(START_NS, packet(True, 100, 1)), (START_NS + 1, packet(False, 100, 2))])
    wanted = scenario()
    for address, told in (("10.0.0.2", False), ("10.0.0.3", True)):
        terminals = [ipaddress.ip_address(address)]
        windows = windows_for(wanted, epoch_utc_ns=START_NS)
        counters = replay(wanted, windows, tmp_path / "in.pcap", io.BytesIO(), terminals=terminals)
        assert [f"no packet from {address}" in note for note in counters.notes] == [True] * told


def test_a_capture_is_not_overwritten_by_its_replay(tmp_path: Path) -> None:
    source = tmp_path / "in.pcap"
    write_pcap(source, [(START_NS, packet(True, 100, 1))])
    before = source.read_bytes()
    done = CliRunner().invoke(replay_command, ["fixed", str(source), "-o", f"{tmp_path}/../{tmp_path.name}/in.pcap"])
    assert (done.exit_code, source.read_bytes()) == (2, before)
    assert "expected another file than the capture itself" in done.stderr
