"""Packets from scapy expressions: built elsewhere, checked here by hand."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from pathlib import Path

import pytest

from emulator.errors import ExpressionError
from emulator.taps.inject import MAX_PACKETS, Addresses, Direction, build

ADDRESSES = Addresses("198.18.0.2", "198.18.0.1", "2001:2::2", "2001:2::1")


def internet_sum(data: bytes) -> int:
    """RFC 1071: 0xFFFF over data that contains its right checksum."""
    total = sum(int.from_bytes(data[place : place + 2].ljust(2, b"\0"), "big") for place in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ends(data: bytes) -> tuple[str, str]:
    if data[0] >> 4 == 4:
        return str(ipaddress.IPv4Address(data[12:16])), str(ipaddress.IPv4Address(data[16:20]))
    return str(ipaddress.IPv6Address(data[8:24])), str(ipaddress.IPv6Address(data[24:40]))


@pytest.mark.parametrize(
    ("direction", "expected"), [("uplink", ("198.18.0.2", "198.18.0.1")), ("downlink", ("198.18.0.1", "198.18.0.2"))]
)
def test_open_addresses_are_those_of_the_links_ends(direction: Direction, expected: tuple[str, str]) -> None:
    """Also with checksums that cover them, and with scapy's own process gone without a trace in ours."""
    before = set(sys.modules)  # other tests may have imported scapy as their oracle
    built = build("[IP()/UDP(sport=5, dport=9)/b'abc', IPv6()/UDP(sport=5, dport=9)/b'abc']", direction, ADDRESSES)
    assert ends(built[0].data) == expected
    assert internet_sum(built[0].data[:20]) == 0xFFFF
    pseudo = built[0].data[12:20] + bytes([0, 17]) + (11).to_bytes(2, "big")
    assert internet_sum(pseudo + built[0].data[20:]) == 0xFFFF
    assert ends(built[1].data) == tuple("2001:2::" + address[-1] for address in expected)
    assert not [name for name in set(sys.modules) - before if name.partition(".")[0] == "scapy"]


def test_addresses_that_are_given_stay_and_have_names() -> None:
    built = build("IP(src='192.0.2.1', dst=terminal)/ICMP()", "uplink", ADDRESSES)
    assert ends(built[0].data) == ("192.0.2.1", "198.18.0.2")
    assert built[0].summary == "IP / ICMP 192.0.2.1 > 198.18.0.2 echo-request 0"
    assert ends(build("IPv6(dst=datacenter6)", "downlink", ADDRESSES)[0].data) == ("2001:2::1", "2001:2::1")


def test_a_set_of_values_is_as_many_packets_in_order() -> None:
    built = build("IP(ttl=(1, 3))/UDP(dport=[9, 10])", "uplink", ADDRESSES)
    assert [(packet.data[8], int.from_bytes(packet.data[22:24], "big")) for packet in built] == [
        (ttl, port) for ttl in (1, 2, 3) for port in (9, 10)
    ]


def test_what_the_expression_prints_does_not_reach_us() -> None:
    assert len(build("print('{}') or IP()", "uplink", ADDRESSES)) == 1


def test_a_broken_packet_may_be_what_is_wanted() -> None:
    data = build("IP(len=1000, chksum=0)/b'x'", "uplink", ADDRESSES)[0].data
    assert (len(data), data[2:4], data[10:12]) == (21, (1000).to_bytes(2, "big"), b"\0\0")


REFUSED = [
    ("IP(dst=datacentr)", "NameError: name 'datacentr' is not defined"),
    ("IP(", "not a Python expression: "),
    ("import os", "not a Python expression: "),
    ("", "not a Python expression: "),
    ("Ether()/IP()", "expected an IP or IPv6 packet, got Ether: the link carries IP, leave the link layer out"),
    ("Raw('x')", "expected an IP or IPv6 packet, got Raw"),
    ("42", "expected an IP or IPv6 packet, got int"),
    ("b'E' * 20", "expected an IP or IPv6 packet, got bytes"),
    ("IP", "expected an IP or IPv6 packet, got Packet_metaclass"),
    ("[]", "expected a packet, got an empty list"),
    ("IP()/('x' * 1481)", "expected at most 1500 bytes, got 1501"),
    ("IP()/('x' * 70000)", "a field cannot hold its value "),
    ("IP(version=5)", "expected an IP or IPv6 header"),
    ("IP(ttl=(1, 64))/UDP(dport=(1, 64))", f"expected at most {MAX_PACKETS} packets"),
    ("IP() / 0", "AttributeError: "),
    ("exit('gone')", "SystemExit: gone"),
    ("[IP(), 7]", "expected an IP or IPv6 packet, got int"),
    ("(IP() for _ in iter(int, 1))", f"expected at most {MAX_PACKETS} packets"),
    ("raise_\n", "NameError: name 'raise_' is not defined"),
]


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    """What the child says of each expression, asked one after the other in one child: scapy is slow to import."""
    code = (
        "import json, sys; from emulator.taps.inject import _answer\n"
        "print(json.dumps([_answer(request) for request in json.load(sys.stdin)]))"
    )
    requests = [
        {"expression": expression, "direction": "uplink", "names": ADDRESSES.names(), "max_bytes": 1500}
        for expression, _ in REFUSED
    ]
    child = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(requests),
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answers = json.loads(child.stdout)
    return {expression: answer["refused"] for (expression, _), answer in zip(REFUSED, answers, strict=True)}


@pytest.mark.parametrize(("expression", "fault"), REFUSED)
def test_what_cannot_be_sent_is_refused_with_the_reason(refusals: dict[str, str], expression: str, fault: str) -> None:
    assert refusals[expression].startswith(fault)
    assert "\n" not in refusals[expression]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("IP(dst=\n  nowhere)", "IP(dst= nowhere): NameError: name 'nowhere' is not defined"),
        ("__import__('os')._exit(4)", "__import__('os')._exit(4): its process ended with status 4: no message"),
    ],
)
def test_a_refusal_names_the_expression_on_one_line(expression: str, text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        build(expression, "uplink", ADDRESSES)
    assert str(caught.value) == text


def test_an_expression_that_does_not_end_is_given_up() -> None:
    with pytest.raises(ExpressionError, match="took longer than 1 s to build"):
        build("__import__('time').sleep(60)", "uplink", ADDRESSES, time_limit_s=1.0)


def test_a_bench_without_ipv6_refuses_to_make_addresses_up() -> None:
    only_ipv4 = Addresses("198.18.0.2", "198.18.0.1", "", "")
    with pytest.raises(ExpressionError, match="src: expected an address, as this bench has no IPv6"):
        build("IPv6()", "uplink", only_ipv4)
    with pytest.raises(ExpressionError, match="name 'terminal6' is not defined"):
        build("IPv6(dst=terminal6)", "uplink", only_ipv4)
    assert len(build("IPv6(src='2001:db8::1', dst='2001:db8::2')", "uplink", only_ipv4)) == 1


def test_a_bench_between_cards_knows_no_address_and_takes_packets_that_have_theirs() -> None:
    nobody = Addresses("", "", "", "")
    with pytest.raises(ExpressionError, match="name 'far' is not defined: this bench knows no such address"):
        build("IP(src='10.9.0.1', dst=far)", "uplink", nobody)
    with pytest.raises(ExpressionError, match="dst: expected an address, as this bench has no IPv4 of its own"):
        build("IP(src='10.9.0.1')", "downlink", nobody)
    (built,) = build("IP(src='10.9.0.2', dst='10.9.0.1')", "downlink", nobody)
    assert ends(built.data) == ("10.9.0.2", "10.9.0.1")
