"""What this machine lets a bench do, found out by doing it: in a child process, which takes everything with it.

Run as a program it tries, and prints what it found as JSON; `probe()` runs that.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.child import child_command
from emulator.errors import BentpipeError, EmulationError

if TYPE_CHECKING:
    from emulator.ports.namespace import Namespace

LONGEST_PROBE_S = 60.0  # a machine with no cache and a slow disk; usually it takes half a second
PROBED_QUEUE_PACKETS = 10_000
PROBED_PRIORITY = 10
USER_NAMESPACE_ONLY = "user-namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Each `…_fault` is empty where the thing works, else what was attempted and refused, in one line."""

    namespace_fault: str
    """Creating a network namespace, as this user or in a user namespace."""
    user_namespace_fault: str
    """Becoming root of a user namespace: what an ordinary user's bench does."""
    tun_fault: str
    """Creating a TUN device with segmentation offload in a new namespace."""
    udp_segmentation: bool
    """The TUN device takes UDP segments (USO: kernels from 6.2 on)."""
    stamps_fault: str
    """Having the kernel note when packets come to the device (BPF)."""
    transmit_queue_packets: int
    """txqueuelen that the device took, of the PROBED_QUEUE_PACKETS asked for."""
    ipv6: bool
    """The new namespace has IPv6."""
    nft_fault: str
    """Rules of nftables with address translation in the new namespace: what an access network needs."""
    tap_fault: str
    """Creating a TAP device with segmentation offload."""
    card_fault: str
    """Taking a network card inline, tried on a virtual one: packet socket with offload, VLAN tags and stamps."""
    realtime_fault: str
    """Real-time priority (SCHED_FIFO)."""


@functools.cache
def probe() -> Probe:
    """Try everything, in a child process, once per process. Raises EmulationError if the child itself fails."""
    child = subprocess.run(
        child_command("emulator.cli.probe"),
        capture_output=True,
        text=True,
        timeout=LONGEST_PROBE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if child.returncode != 0:
        raise EmulationError(f"probing this machine failed (status {child.returncode}): {child.stderr.strip()[-300:]}")
    return Probe(**json.loads(child.stdout))


def _fault(attempt: Callable[[], object]) -> str:
    """Empty if the attempt succeeds; else why it did not."""
    try:
        attempt()
    except (BentpipeError, OSError) as error:
        return _one_line(error)
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _be_realtime() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PROBED_PRIORITY))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _user_namespace_fault() -> str:
    """In a child of its own: who has entered a user namespace does not come out again."""
    command = child_command("emulator.cli.probe", USER_NAMESPACE_ONLY)
    child = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return child.stdout or child.stderr.strip().rpartition("\n")[2]


def _has_ipv6() -> bool:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        return False
    return Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").read_text().strip() == "0"


def _try_all() -> Probe:
    realtime_fault = _fault(_be_realtime)
    user_namespace_fault = _user_namespace_fault()
    namespace_fault = _namespace_fault()
    tun_fault, udp_segmentation, queue_packets, ipv6 = namespace_fault, False, 0, False
    nft_fault = tap_fault = card_fault = stamps_fault = namespace_fault
    if not namespace_fault:
        from emulator.ports.namespace import Namespace
        from emulator.ports.tap import TapPort
        from emulator.ports.tun import TunPort

        with Namespace.create() as namespace:
            ipv6 = namespace.run(_has_ipv6)
            nft_fault = _fault(lambda: _translate(namespace))
            tap_fault = _fault(lambda: TapPort(namespace, "probe1", mtu=1500, queue_packets=10).close())
            card_fault = _fault(lambda: _take_card(namespace))
            try:
                port = TunPort(namespace, "probe0", mtu=1500, queue_packets=PROBED_QUEUE_PACKETS)
            except (BentpipeError, OSError) as error:
                tun_fault = _one_line(error)
            else:
                udp_segmentation, stamps_fault = port.sees_udp_segments, port.stamps_fault
                queue_packets = namespace.run(lambda: _transmit_queue_packets(port.name))
                port.close()
    return Probe(
        namespace_fault=namespace_fault,
        user_namespace_fault=user_namespace_fault,
        tun_fault=tun_fault,
        udp_segmentation=udp_segmentation,
        stamps_fault=stamps_fault,
        transmit_queue_packets=queue_packets,
        ipv6=ipv6,
        nft_fault=nft_fault,
        tap_fault=tap_fault,
        card_fault=card_fault,
        realtime_fault=realtime_fault,
    )


def _take_card(namespace: Namespace) -> None:
    from emulator.ports.nic import NicPort

    def make() -> None:
        from pyroute2 import IPRoute

        with IPRoute() as netlink:
            netlink.link("add", ifname="probe2", kind="veth", peer={"ifname": "probe3"})

    namespace.run(make)
    NicPort(namespace, "probe2", queue_packets=10).close()


def _translate(namespace: Namespace) -> None:
    from emulator.ports.access import ruleset, translation
    from emulator.ports.nft import apply_rules
    from emulator.scenario.access import Access

    access = Access(max_mappings=10, mss_clamp=True)
    apply_rules(namespace, ruleset(access, access.public_network))
    apply_rules(namespace, translation(access.public_network[1]))


def _namespace_fault() -> str:
    """To be called before numpy is imported: only a process of one thread can enter a user namespace."""
    from emulator.ports.namespace import Namespace, become_root_of_own_namespace

    if os.geteuid() == 0 and not _fault(lambda: Namespace.create().close()):
        return ""
    return _fault(become_root_of_own_namespace)


def _transmit_queue_packets(interface: str) -> int:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        return int(netlink.link("get", ifname=interface)[0].get_attr("IFLA_TXQLEN"))


def main() -> None:
    """The child."""
    if sys.argv[1:] == [USER_NAMESPACE_ONLY]:
        from emulator.ports.namespace import become_root_of_own_namespace

        sys.stdout.write(_fault(become_root_of_own_namespace))
    else:
        json.dump(asdict(_try_all()), sys.stdout)


if __name__ == "__main__":
    main()
