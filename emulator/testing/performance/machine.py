"""What machine this is, and whether it has time for us: figures without that mean nothing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from emulator import __version__
from emulator.bench.privilege import has_machine_network
from emulator.testing.performance.statistics import Spread

PACKAGES = ("numpy", "numba", "llvmlite", "pyzmq", "pyroute2")
BUSY_CPUS = 0.25  # more than that taken by others before we start, and the figures are theirs as much as ours
SAMPLE_S = 0.5
KTHREADD = 2  # the parent of all kernel threads


def machine_facts() -> dict[str, Any]:
    """Kernel, CPUs, memory, versions, user; as JSON takes them. Names neither the machine nor its owner."""
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "cpus_for_us": len(os.sched_getaffinity(0)),
        "cpu_model": _field("/proc/cpuinfo", "model name"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "clock_source": _line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "user": "root" if has_machine_network() else "ordinary user, in a user namespace",
        "bentpipe": __version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "iperf3": iperf3_version(),
    }


def load() -> dict[str, Any]:
    """How busy the machine is at this moment: the load averages, and how many CPUs are at work just now."""
    before = _cpu_times()
    time.sleep(SAMPLE_S)
    spent = [later - earlier for earlier, later in zip(before, _cpu_times(), strict=True)]
    total = sum(spent) or 1
    idle, stolen = spent[3] + spent[4], spent[7] if len(spent) > 7 else 0
    cpus = os.cpu_count() or 1
    return {
        "load_average": list(os.getloadavg()),
        "busy_cpus": round(cpus * (total - idle) / total, 3),
        "stolen_share": round(stolen / total, 4),
    }


def complaint(found: dict[str, Any]) -> str | None:
    """A warning if the machine is not idle before the first trial."""
    if found["busy_cpus"] <= BUSY_CPUS:
        return None
    return f"the machine is busy: {found['busy_cpus']:.2f} CPUs at work before the first measurement"


def disturbance(others: Spread | None) -> str | None:
    """A warning if other programs had a part of the machine during the trials."""
    if others is None or others.high <= BUSY_CPUS:
        return None
    return (
        f"other programs had {others.median:.2f} CPUs during the median trial, and {others.high:.2f} in the worst: "
        "a ratio to a baseline bears that better than a figure, but not well"
    )


class Others:
    """What the other programs of this machine take meanwhile; the kernel's own threads are not among them."""

    def __init__(self) -> None:
        self._before, self._begun = _ticks_of_others(), time.monotonic()

    def cpus(self) -> float:
        """How many CPUs they had, on the average, since this was made."""
        ticks = _ticks_of_others() - self._before
        return max(0.0, ticks / os.sysconf("SC_CLK_TCK") / (time.monotonic() - self._begun))


def _ticks_of_others() -> int:
    """CPU time of all that does not descend from us. Who ends is still counted: in the parent that waited for it."""
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            columns = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(columns[1])
            ticks[int(entry.name)] = sum(int(spent) for spent in columns[11:15])
    return sum(spent for pid, spent in ticks.items() if not {os.getpid(), KTHREADD} & set(_line_of(pid, parents)))


def _line_of(pid: int, parents: dict[int, int]) -> list[int]:
    """A process and all it descends from."""
    line = []
    while pid and pid not in line:
        line.append(pid)
        pid = parents.get(pid, 0)
    return line


def iperf3_version() -> str:
    """Empty if there is no iperf3."""
    program = shutil.which("iperf3")
    if program is None:
        return ""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return told[1] if len(told) > 1 else "unknown"


def thread_cpu_ns(thread_id: int) -> int:
    """CPU time of a thread of this process. Where the scheduler keeps no statistics, to a tick (10 ms)."""
    task = Path(f"/proc/self/task/{thread_id}")
    with suppress(FileNotFoundError):
        return int((task / "schedstat").read_text().split()[0])
    ticks = (task / "stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(int(tick) for tick in ticks) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def resident_bytes() -> tuple[int, int]:
    """(now, highest since `forget_peak`) of this process."""
    return _kilobytes("VmRSS"), _kilobytes("VmHWM")


def forget_peak() -> None:
    """Lets the highest resident size begin anew; a kernel that refuses keeps the old one, which is never lower."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _kilobytes(field: str) -> int:
    return int((_field("/proc/self/status", field) or "0").split()[0]) * 1024


def _cpu_times() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal, … in ticks of all CPUs."""
    return [int(ticks) for ticks in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]


def _field(path: str, name: str) -> str:
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _line(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text().strip()
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
