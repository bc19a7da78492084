"""Ready-made packets: each can be built both ways, and says what it is."""

from __future__ import annotations

import ipaddress
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import EndpointError, ExpressionError
from emulator.taps.cases import CASES, case_parameters
from emulator.taps.inject import Addresses, BuiltPacket, build, corrupted, read_packets
from emulator.taps.pcapng import PcapngWriter

ENDS = Addresses("198.18.0.2", "198.18.0.1", "fd00::2", "fd00::1")


def built_together() -> dict[str, list[BuiltPacket]]:
    """All cases at their defaults from one child: importing scapy is what takes long."""
    expression = "[" + ", ".join(f"*list({CASES[name].expression})" for name in CASES) + "]"
    sizes = "[" + ", ".join(f"len(list({CASES[name].expression}))" for name in CASES) + "]"
    values = {key: value for case in CASES.values() for key, value in case.parameters.items()}
    counts = build(f"IP()/bytes(str({sizes}), 'ascii')", "uplink", ENDS, parameters=values)[0].data[20:]
    packets = iter(build(expression, "uplink", ENDS, parameters=values))
    lengths = [int(text) for text in counts.decode().strip("[]").split(",")]
    return {name: [next(packets) for _ in range(length)] for name, length in zip(CASES, lengths, strict=True)}


def test_every_case_builds_packets_between_the_ends() -> None:
    built = built_together()
    for name, packets in built.items():
        assert packets, name
        for packet in packets:
            six = packet.data[0] >> 4 == 6
            far = packet.data[24:40] if six else packet.data[16:20]
            assert far == ipaddress.ip_address(ENDS.datacenter6 if six else ENDS.datacenter).packed, name
    assert len(built["duplicate-acks"]) == 3
    assert len({packet.data for packet in built["duplicate-acks"]}) == 1
    assert len(built["syn-flood"]) == 500
    assert len(built["tiny-fragments"]) == 9
    assert len(built["oversized"][0].data) == 9000


def test_a_parameter_is_set_by_name_and_in_its_own_kind() -> None:
    _, values = case_parameters("dns-lie", ["id=0x10", "name=a.example"])
    assert (values["id"], values["name"], values["dport"]) == (16, "a.example", 40000)


@pytest.mark.parametrize(
    ("name", "settings", "fault"),
    [
        ("nope", [], "--case nope: expected one of icmp-unreachable"),
        ("tcp-reset", ["ack=1"], "--with ack=1: expected NAME=VALUE with one of sport, dport, seq"),
        ("tcp-reset", ["seq"], "--with seq: expected NAME=VALUE"),
        ("tcp-reset", ["seq=x"], "--with seq=x: expected a number"),
    ],
)
def test_what_a_case_does_not_know_is_named(name: str, settings: list[str], fault: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        case_parameters(name, settings)
    assert str(refused.value).startswith(fault)


@given(payload=st.binary(min_size=1, max_size=60), bits=st.integers(1, 600), seed=st.integers(0, 9))
def test_corruption_flips_just_so_many_bits_and_leaves_the_header(payload: bytes, bits: int, seed: int) -> None:
    packet = bytes([0x45, *bytes(19)]) + payload
    broken = corrupted(packet, bits, random.Random(seed))
    assert broken[:20] == packet[:20]
    flipped = sum((one ^ other).bit_count() for one, other in zip(packet, broken, strict=True))
    assert flipped == min(bits, 8 * len(payload))
    assert broken == corrupted(packet, bits, random.Random(seed))


def test_a_capture_gives_its_packets_with_their_times(tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    packet = bytes([0x45, 0, 0, 20, *bytes(16)])
    with path.open("wb") as file:
        writer = PcapngWriter(file, ("one",))
        for at in (1000, 5000, 4000):
            writer.write(0, at, packet, "")
    packets, offsets_ns = read_packets(path)
    assert [one.data for one in packets] == [packet] * 3
    assert offsets_ns == [0, 4000, 4000]
    with pytest.raises(EndpointError, match="frame 1: expected at most 19 bytes, got 20"):
        read_packets(path, max_bytes=19)
