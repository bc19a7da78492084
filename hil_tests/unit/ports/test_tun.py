"""TUN devices: real ones, in namespaces of their own."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import select
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.errors import InterfaceError
from emulator.ports.namespace import Namespace
from emulator.ports.tap import TapPort
from emulator.ports.tun import TUNSETOFFLOAD, UDP_OFFLOADS, TunPort

pytestmark = pytest.mark.needs("netns", "tun", "root")
ADDRESS = ipaddress.ip_interface("198.18.0.2/30")
PEER = ("198.18.0.1", 9)
MAC = "02:00:00:00:00:01"


@pytest.fixture
def space() -> Iterator[Namespace]:
    with Namespace.create() as new:
        yield new


def interfaces(space: Namespace) -> list[str]:
    return space.run(lambda: sorted(name for _, name in socket.if_nameindex()))


def test_it_is_there_while_it_is_open_and_gone_when_it_is_closed(space: Namespace) -> None:
    port = TunPort(space, "ut0", mtu=1400, queue_packets=77)
    assert interfaces(space) == ["lo", "ut0"]
    port.close()
    port.close()
    assert interfaces(space) == ["lo"]


def test_mtu_and_queue_length_are_those_that_were_asked_for(space: Namespace) -> None:
    from pyroute2 import IPRoute

    def look() -> tuple[int, int]:
        with IPRoute() as netlink:
            link = netlink.link("get", ifname="ut0")[0]
            return link.get_attr("IFLA_MTU"), link.get_attr("IFLA_TXQLEN")

    port = TunPort(space, "ut0", mtu=1400, queue_packets=77)
    assert space.run(look) == (1400, 77)
    port.close()


def test_a_name_with_a_place_for_a_number_gets_the_first_free_one(space: Namespace) -> None:
    ports = [TunPort(space, name, mtu=1500, queue_packets=10) for name in ("bp0", "bp%d", "bp2", "bp%d", "bp%d")]
    assert [port.name for port in ports] == ["bp0", "bp1", "bp2", "bp3", "bp4"]
    ports[1].close()
    again = TunPort(space, "bp%d", mtu=1500, queue_packets=10)
    assert again.name == "bp1"
    for port in (again, *ports):
        port.close()


@pytest.mark.parametrize("name", ["lo", "ut0"])
def test_a_busy_name_is_told_and_leaves_nothing(space: Namespace, name: str) -> None:
    first = TunPort(space, "ut0", mtu=1500, queue_packets=10)
    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InterfaceError, match=f"interface {name}: expected a free name"):
        TunPort(space, name, mtu=1500, queue_packets=10)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert interfaces(space) == ["lo", "ut0"]
    first.close()


def test_a_name_that_the_kernel_refuses_is_told(space: Namespace) -> None:
    with pytest.raises(InterfaceError, match=r"a/b"):
        TunPort(space, "a/b", mtu=1500, queue_packets=10)


def test_it_says_nothing_of_its_own(space: Namespace) -> None:
    """No router solicitation, no duplicate address detection, no multicast report: a packet that nobody sent."""
    port = TunPort(space, "ut0", mtu=1500, queue_packets=10)
    port.add_address(ADDRESS, default_route=True)
    port.add_address(ipaddress.ip_interface("2001:2::2/64"), default_route=True)
    readable, _, _ = select.select([port.descriptor], [], [], 0.3)
    found = os.read(port.descriptor, 2000).hex() if readable else ""
    assert found == ""
    port.close()


def test_an_address_serves_at_once(space: Namespace) -> None:
    port = TunPort(space, "ut0", mtu=1500, queue_packets=10)
    port.add_address(ipaddress.ip_interface("2001:2::2/64"), default_route=True)

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            one.bind(("2001:2::2", 0))
            one.sendto(b"hello", ("2001:db8::1", 9))

    space.run(send)
    assert os.read(port.descriptor, 2000).endswith(b"hello")
    port.close()


def test_an_address_that_cannot_be_is_told(space: Namespace) -> None:
    port = TunPort(space, "ut0", mtu=1500, queue_packets=10)
    port.add_address(ADDRESS)
    with pytest.raises(InterfaceError, match=r"ut0: address 198\.18\.0\.2/30"):
        port.add_address(ADDRESS)
    port.close()


def test_what_the_kernel_drops_before_we_read_is_counted(space: Namespace) -> None:
    port = TunPort(space, "ut0", mtu=1500, queue_packets=5)
    port.add_address(ADDRESS, default_route=True)
    assert port.kernel_drops().transmit == 0

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            for _ in range(50):
                one.sendto(b"x", PEER)

    space.run(send)
    kept = 0
    while select.select([port.descriptor], [], [], 0)[0]:
        os.read(port.descriptor, 2000)
        kept += 1
    assert kept >= 5
    assert port.kernel_drops().transmit == 50 - kept
    port.close()


@pytest.mark.needs("ip")
def test_one_that_is_removed_from_outside_shows_as_an_error_to_poll(space: Namespace) -> None:
    port = TunPort(space, "ut0", mtu=1500, queue_packets=5)
    poll = select.poll()
    poll.register(port.descriptor, select.POLLIN)
    assert poll.poll(0) == []
    space.run(lambda: subprocess.run(["ip", "link", "del", "ut0"], check=True))
    assert poll.poll(1000)[0][1] & select.POLLERR
    port.close()


def test_segmentation_offload_brings_super_packets(space: Namespace) -> None:
    """One send of 20 segments is one read, with the segment length in its virtio_net_hdr: there the speed lies."""
    port = TunPort(space, "ut0", mtu=1500, queue_packets=50)
    if not port.sees_udp_segments:
        port.close()
        pytest.skip("capability uso: needs a kernel from 6.2 on")
    port.add_address(ADDRESS, default_route=True)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT (linux/udp.h)
            one.sendto(b"x" * 20_000, PEER)

    space.run(send)
    frame = os.read(port.descriptor, 1 << 17)
    assert (len(frame), frame[1], int.from_bytes(frame[4:6], "little")) == (10 + 28 + 20_000, 5, 1000)
    port.close()


@pytest.mark.parametrize("device", [TunPort, TapPort])
def test_where_the_kernel_refuses_udp_segmentation_datagrams_come_one_by_one(
    space: Namespace, device: type[TunPort], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kernels before 6.2 do, whose refusal is all that is made up here: what follows is this kernel's."""
    ioctl = fcntl.ioctl

    def refusing(descriptor: int, request: int, argument: int | bytes) -> int | bytes:
        if request == TUNSETOFFLOAD and isinstance(argument, int) and argument & UDP_OFFLOADS:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        answer: int | bytes = ioctl(descriptor, request, argument)
        return answer

    monkeypatch.setattr(fcntl, "ioctl", refusing)
    port = device(space, "ut0", mtu=1500, queue_packets=50)
    assert not port.sees_udp_segments
    port.add_address(ADDRESS, default_route=True)
    ethernet = 14 if device is TapPort else 0
    if ethernet:
        space.run(lambda: subprocess.run(["ip", "neigh", "add", PEER[0], "lladdr", MAC, "dev", "ut0"], check=True))

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setsockopt(socket.IPPROTO_UDP, 103, 1000)  # UDP_SEGMENT (linux/udp.h)
            one.sendto(b"".join(bytes([number]) * 1000 for number in range(20)), PEER)

    space.run(send)
    for number in range(20):
        frame = os.read(port.descriptor, 1 << 17)
        assert (len(frame), frame[1]) == (10 + ethernet + 28 + 1000, 0), "a whole datagram, no super-packet"
        assert frame[-1000:] == bytes([number]) * 1000
    port.close()


def test_the_proc_file_of_drops_is_the_namespaces_own(space: Namespace) -> None:
    port = TunPort(space, "ut0", mtu=1500, queue_packets=5)
    assert "ut0" not in Path("/proc/net/dev").read_text()
    assert port.kernel_drops().transmit == 0
    port.close()
    assert port.kernel_drops().transmit == 0, "a closed port has dropped nothing more"
