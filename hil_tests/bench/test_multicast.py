"""Multicast as software on either side meets it: with the kernel's own membership, over the link and a carrier."""

from __future__ import annotations

import functools
import socket
import struct

import pytest

from emulator.bench.attach import link_interface
from emulator.bench.sides import Side
from hil_tests.bench.field import run, running

pytestmark = [pytest.mark.needs("netns", "tun", "root", "compiled", "nft"), pytest.mark.usefixtures("nothing_left")]

FAST = ("link.delay_ms=1", "link.rate_mbps=0")
GROUP, GROUP6 = "239.1.2.3", "ff08::123"


def say(side: Side, interface: str, group: str, text: bytes) -> None:
    """To the group, out of this interface."""
    index = side.namespace.run(lambda: socket.if_nametoindex(interface))
    six = ":" in group
    family = socket.AF_INET6 if six else socket.AF_INET
    with side.namespace.run(functools.partial(socket.socket, family, socket.SOCK_DGRAM)) as voice:
        if six:
            voice.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            voice.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
        else:
            voice.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("8xi", index))
            voice.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        voice.sendto(text, (group, 6000))


def member(side: Side, interface: str, group: str) -> socket.socket:
    """Has joined the group there."""
    index = side.namespace.run(lambda: socket.if_nametoindex(interface))
    six = ":" in group
    family = socket.AF_INET6 if six else socket.AF_INET
    ear = side.namespace.run(functools.partial(socket.socket, family, socket.SOCK_DGRAM))
    ear.bind((group, 6000))
    asked = struct.pack("16sI" if six else "4s4xi", socket.inet_pton(family, group), index)
    if six:
        ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, asked)
    else:
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, asked)
    ear.settimeout(30)
    return ear


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize(
    "access", [[], ["access.nat44=true", f"access.multicast_groups=['{GROUP}', '{GROUP6}']"]], ids=["plain", "nat"]
)
def test_a_group_is_heard_on_the_other_side(access: list[str]) -> None:
    with running("fixed", *FAST, *access) as bench:
        far = link_interface(bench)
        for speaker, by, listener, on in (
            (bench.datacenter, far, bench.terminal, "ut0"),
            (bench.terminal, "ut0", bench.datacenter, far),
        ):
            for group, own in ((GROUP, speaker.ipv4), (GROUP6, speaker.ipv6)):
                with member(listener, on, group) as ear:
                    say(speaker, by, group, b"to all")
                    data, (source, *_) = ear.recvfrom(100)
                    assert data == b"to all"
                    assert source == own, "a group is not answered: nothing is translated"


def test_a_group_that_is_not_named_does_not_cross() -> None:
    other = ("access.nat44=true", "access.multicast_groups=['239.9.9.9']")
    with running("fixed", *FAST, *other) as bench, member(bench.terminal, "ut0", GROUP) as ear:
        say(bench.datacenter, link_interface(bench), GROUP, b"to all")
        pinged = run(bench.terminal, "ping", "-c", "1", bench.datacenter.ipv4)  # whose answer goes the same way, later
        assert pinged.returncode == 0
        ear.setblocking(False)
        with pytest.raises(BlockingIOError):
            ear.recv(100)
