"""What `bentpipe doctor` looks at: one small function per question, each with the remedy beside the finding.

The order of `CHECKS` is the order of the table: what a bench cannot do without, what it does better with, and the
programs around it.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from emulator.cli.main import EXTRA_OF_MODULE
from emulator.cli.probe import PROBED_PRIORITY, PROBED_QUEUE_PACKETS, probe
from emulator.errors import BentpipeError, EndpointError

Verdict = Literal["ok", "limited", "missing"]

OLDEST_PYTHON = (3, 11)
KERNEL_WITH_USO = "6.2"  # TUNSETOFFLOAD takes TUN_F_USO4 and TUN_F_USO6 from there on
WAKE_UPS, NAP_S = 200, 0.001
LATE_WAKE_UP_US = 1_000.0  # p99 above this: a busy machine, or a virtual one that is not scheduled in time
GOOD_CLOCKS = {"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen"}  # read without a syscall
LOCKED_BYTES = 64 << 20  # what a long delay line may want to keep out of swap
CLIENTS = {"iperf3": "iperf3", "irtt": "irtt", "ping": "iputils-ping", "fping": "fping", "curl": "curl",
           "tcpdump": "tcpdump", "ip": "iproute2", "gpsd": "gpsd", "gpspipe": "gpsd-clients"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question. `essential`: `bentpipe shell` cannot work while this is missing."""

    name: str
    verdict: Verdict
    finding: str
    remedy: str = ""
    essential: bool = False


def check_python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Finding("Python", "ok", found, essential=True)
    return Finding("Python", "missing", found, "install Python 3.11 or later", essential=True)


def check_kernel() -> Finding:
    found = f"{platform.system()} {platform.release()}"
    if platform.system() == "Linux":
        return Finding("kernel", "ok", found, essential=True)
    return Finding("kernel", "missing", found, "Bentpipe runs on Linux", essential=True)


def check_tun_device() -> Finding:
    device = Path("/dev/net/tun")
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        remedy = "modprobe tun; in a container: --device /dev/net/tun"
        return Finding("/dev/net/tun", "missing", "does not exist", remedy, essential=True)
    except OSError as error:
        remedy = "chmod 0666 /dev/net/tun, or run as root"
        return Finding("/dev/net/tun", "missing", f"cannot be opened: {error.strerror}", remedy, essential=True)
    return Finding("/dev/net/tun", "ok", "can be opened", essential=True)


def check_namespaces() -> Finding:
    """Tried for real in a child process: as this user, else in a user namespace."""
    fault = probe().namespace_fault
    if fault:
        return Finding("network namespaces", "missing", fault, user_namespace_remedy(), essential=True)
    if os.geteuid() == 0:
        return Finding("network namespaces", "ok", "as root", essential=True)
    found = "as an ordinary user, in a user namespace: always isolated, no network card of the machine's"
    return Finding("network namespaces", "limited", found, "run as root for more", essential=True)


def user_namespace_remedy() -> str:
    """How to get user namespaces, or the rights to do without, by what this system says of itself."""
    switches = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    }
    for path, (off, remedy) in switches.items():
        if _read(path) == off:
            return f"as root: {remedy}"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "start the container with --cap-add NET_ADMIN --cap-add SYS_ADMIN --device /dev/net/tun"
    return "run as root"


def check_tun_creation() -> Finding:
    fault = probe().tun_fault
    if fault:
        remedy = "see the lines above" if probe().namespace_fault else "as root: modprobe tun"
        return Finding("TUN interface", "missing", fault, remedy, essential=True)
    return Finding("TUN interface", "ok", "created with TCP segmentation offload in a new namespace", essential=True)


def check_runtime_directory() -> Finding:
    from emulator.bench.runtime import runtime_root

    try:
        found = runtime_root()
    except EndpointError as error:
        remedy = "set BENTPIPE_RUNTIME_DIR to a directory that you may write"
        return Finding("runtime directory", "missing", str(error), remedy, essential=True)
    return Finding("runtime directory", "ok", str(found), essential=True)


def check_udp_segmentation() -> Finding:
    name = "UDP segmentation offload"
    if probe().tun_fault:
        return Finding(name, "missing", "unknown: no TUN interface to ask")
    if probe().udp_segmentation:
        return Finding(name, "ok", "accepted by the TUN interface")
    return Finding(
        name,
        "limited",
        "refused by TUN and TAP: UDP comes one datagram at a time",
        f"a kernel from {KERNEL_WITH_USO} on",
    )


def check_tap() -> Finding:
    if probe().tap_fault:
        return Finding("TAP interface", "limited", probe().tap_fault, "as root: modprobe tun")
    return Finding("TAP interface", "ok", "created, with segmentation offload")


def check_network_cards() -> Finding:
    """Tried on a virtual card; whose cards there are is another question."""
    name = "network cards inline"
    if probe().card_fault:
        return Finding(name, "limited", probe().card_fault, "as root: modprobe veth af_packet")
    if os.geteuid() != 0:
        return Finding(name, "limited", "not as an ordinary user", "run as root")
    return Finding(name, "ok", "read and written with offload, VLAN tags and the kernel's arrival stamps")


def check_arrival_stamps() -> Finding:
    name = "arrival stamps at TUN and TAP"
    if probe().tun_fault:
        return Finding(name, "missing", "unknown: no TUN interface to ask")
    if not probe().stamps_fault:
        return Finding(name, "ok", "by the kernel")
    found = f"refused ({probe().stamps_fault}): a packet has come when the loop reads it"
    remedy = "root of the machine with CAP_BPF, and a kernel from 5.12 on (arm64: 5.18); nothing else needs it"
    return Finding(name, "limited", found, remedy)


def check_transmit_queue() -> Finding:
    if probe().tun_fault:
        return Finding("txqueuelen", "missing", "unknown: no TUN interface to ask")
    taken = probe().transmit_queue_packets
    if taken == PROBED_QUEUE_PACKETS:
        return Finding("txqueuelen", "ok", f"{taken} packets, as asked for")
    return Finding("txqueuelen", "limited", f"{taken} packets, {PROBED_QUEUE_PACKETS} asked for")


def check_ipv6() -> Finding:
    if probe().namespace_fault:
        return Finding("IPv6", "missing", "unknown: no network namespace to ask")
    if probe().ipv6:
        return Finding("IPv6", "ok", "on")
    return Finding("IPv6", "limited", "off: benches carry IPv4 only", "sysctl net.ipv6.conf.all.disable_ipv6=0")


def check_realtime() -> Finding:
    if not probe().realtime_fault:
        return Finding("real-time priority", "ok", f"SCHED_FIFO {PROBED_PRIORITY} granted")
    found = f"SCHED_FIFO refused ({probe().realtime_fault.partition('] ')[2]}): packets leave later on a busy machine"
    remedy = f"run as root, or add `{_user()} - rtprio {PROBED_PRIORITY}` to /etc/security/limits.conf"
    return Finding("real-time priority", "limited", found, remedy)


def check_cores() -> Finding:
    cores = len(os.sched_getaffinity(0))
    if cores >= 2:
        return Finding("cores", "ok", str(cores))
    return Finding("cores", "limited", "1: the packet loop and the traffic share it", "give this machine another core")


def check_clock_source() -> Finding:
    folder = Path("/sys/devices/system/clocksource/clocksource0")
    source = _read(folder / "current_clocksource")
    if source is None:
        return Finding("clock source", "limited", "unknown: the kernel does not say")
    if source in GOOD_CLOCKS:
        return Finding("clock source", "ok", source)
    available = set((_read(folder / "available_clocksource") or "").split())
    better = sorted(GOOD_CLOCKS & available)
    remedy = f"as root: echo {better[0]} > {folder}/current_clocksource" if better else ""
    return Finding("clock source", "limited", f"{source}: slow to read", remedy)


def check_wake_ups() -> Finding:
    """How late a thread wakes that slept for a millisecond: what the bench must make up for by spinning."""
    late_us = []
    for _ in range(WAKE_UPS):
        due_ns = time.monotonic_ns() + round(NAP_S * 1e9)
        time.sleep(NAP_S)
        late_us.append((time.monotonic_ns() - due_ns) / 1e3)
    late_us.sort()
    median, p99 = late_us[WAKE_UPS // 2], late_us[WAKE_UPS * 99 // 100]
    found = f"late by {median:.0f} µs (p50), {p99:.0f} µs (p99)"
    if p99 <= LATE_WAKE_UP_US:
        return Finding("waking up", "ok", found)
    return Finding("waking up", "limited", found, "a quieter machine, or real-time priority (--realtime)")


def check_compiled_cache() -> Finding:
    from emulator.link.compiled import cache_directory, interpreted

    if interpreted:
        return Finding(
            "compiled code", "limited", "NUMBA_DISABLE_JIT is set: interpreted, slow", "unset NUMBA_DISABLE_JIT"
        )
    if cache_directory is None:
        remedy = "set BENTPIPE_CACHE_DIR to a directory that you may write"
        return Finding("compiled code", "limited", "no writable cache: compiled anew at every start", remedy)
    if cache_directory.is_relative_to(tempfile.gettempdir()) and "BENTPIPE_CACHE_DIR" not in os.environ:
        remedy = "set BENTPIPE_CACHE_DIR to a directory that lasts"
        return Finding("compiled code", "limited", f"cached in {cache_directory}, which a restart may empty", remedy)
    return Finding("compiled code", "ok", f"cached in {cache_directory}")


def check_locked_memory() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or os.geteuid() == 0:
        return Finding("locked memory", "ok", "no limit")
    found = f"at most {limit >> 20} MiB"
    if limit >= LOCKED_BYTES:
        return Finding("locked memory", "ok", found)
    remedy = f"add `{_user()} - memlock unlimited` to /etc/security/limits.conf"
    return Finding("locked memory", "limited", f"{found}: buffers may be swapped out", remedy)


def check_nft() -> Finding:
    """Tried for real: a table with translation, in a namespace that goes at once."""
    from emulator.ports.nft import INSTALL

    name = "address translation"
    if probe().namespace_fault:
        return Finding(name, "missing", "unknown: no network namespace to ask")
    if fault := probe().nft_fault:
        found, install, _ = fault.partition(f": {INSTALL}")
        return Finding(name, "limited", found, INSTALL if install else "a kernel with nf_tables and NAT")
    return Finding(name, "ok", "nft takes the rules of [access] and [pep]")


def check_packages() -> Iterator[Finding]:
    for package, extra in EXTRA_OF_MODULE.items():
        if find_spec(package):
            yield Finding(f"package {package}", "ok", "installed")
        else:
            yield Finding(f"package {package}", "missing", "not installed", f"pip install 'bentpipe[{extra}]'")


def check_clients() -> Iterator[Finding]:
    for program, package in CLIENTS.items():
        path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
        if path:
            yield Finding(f"client {program}", "ok", path)
        else:
            yield Finding(f"client {program}", "missing", "not installed", f"apt-get install {package}")


CHECKS: tuple[Callable[[], Finding | Iterator[Finding]], ...] = (
    check_python,
    check_kernel,
    check_tun_device,
    check_namespaces,
    check_tun_creation,
    check_runtime_directory,
    check_udp_segmentation,
    check_arrival_stamps,
    check_tap,
    check_network_cards,
    check_transmit_queue,
    check_ipv6,
    check_realtime,
    check_cores,
    check_clock_source,
    check_wake_ups,
    check_compiled_cache,
    check_locked_memory,
    check_nft,
    check_packages,
    check_clients,
)


def examine() -> Iterator[Finding]:
    """Every finding, in order, as it is found. Takes about a second."""
    for check in CHECKS:
        try:
            answer = check()
            yield from (answer,) if isinstance(answer, Finding) else answer
        except (BentpipeError, OSError) as error:  # a machine so ill that not even the question can be asked
            name = check.__name__.removeprefix("check_").replace("_", " ")
            yield Finding(name, "missing", " ".join(str(error).split()), essential=True)


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _user() -> str:
    return os.environ.get("USER") or str(os.getuid())
