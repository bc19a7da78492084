"""Every figure of the table: what is read in which trial's record, over what, and what it must reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emulator.testing.performance.names import FLOWS, PLAIN, SIZES, STAGES
from emulator.testing.performance.statistics import Target

Record = Mapping[str, Any]
Judged = Literal["value", "ratio", "difference"]
"""What a target is of; `difference`: value less baseline, round by round."""


@dataclass(frozen=True)
class Reading:
    """What to read in the records of a trial; None where there is nothing to read."""

    trial: str
    read: Callable[[Record], float | None]


@dataclass(frozen=True)
class Figure:
    """A row to be: what is read, and over what. Without `divided` the baseline stands beside it, no ratio taken."""

    key: str
    what: str
    unit: str
    value: Reading
    against: str = ""
    baseline: Reading | None = None
    target: Target | None = None
    target_of: Judged = "ratio"
    divided: bool = True


def at(*path: str, scale: float = 1.0) -> Callable[[Record], float | None]:
    """Reads the number at a path of keys."""

    def read(record: Record) -> float | None:
        found: Any = record
        for key in path:
            found = found[key]
        return None if found is None else float(found) * scale

    return read


def arrived(record: Record) -> float:
    """Packets per second that reached the receiver's socket."""
    return float(record["sent"] - record["lost"]) / float(record["seconds"])


def growth(record: Record) -> float:
    """By how many MB the process grew while a link was up."""
    return float(record["memory"]["peak_bytes"] - record["memory"]["before_bytes"]) / 1e6


GOODPUT = at("goodput_bps", scale=1e-9)
CPU = at("link", "loop_cpu_ns_per_packet")
ON, OFF = "kernel forwarding, offloads on", "kernel forwarding, offloads off"
TCP, TCP_ON, TCP_OFF = (
    Reading("tcp/bench", GOODPUT),
    Reading("tcp/forwarding", GOODPUT),
    Reading("tcp/forwarding-off", GOODPUT),
)
BARE = "the loop with no stage"
TCP_BARE = Reading("tcp/bare", GOODPUT)
TEN = Reading("ten-gigabit/bench", at("link", "delivered_bps", scale=1e-9))
TEN_CONFIGURED = Reading("ten-gigabit/bench", lambda record: 10.0)
TCP_ZMQ = Reading("tcp/zmq", GOODPUT)
GIGABIT = Reading("gigabit/bench", at("link", "delivered_bps", scale=1e-9))
CONFIGURED = Reading("gigabit/bench", lambda record: 1.0)
CEILING = Reading("tcp/bench", at("memory", "ceiling_bytes", scale=1e-6))
UDP_ON = Reading("udp/forwarding", arrived)
UDP_ON_LOST = Reading("udp/forwarding", at("lost"))
LIMIT_ON = Reading("limit/forwarding", at("packets_per_s"))
PYTHON = Reading("start/python", at("seconds"))
NONE_LOST = Target("≤", 0, every_round=True)

BESIDE_LOOP = at("link", "other_cpu_share", scale=100)
LATENESS = "lateness at 500 Mbit/s"
STUBS: tuple[tuple[str, str, str, str, Callable[[Record], float | None], Target | None, Judged, bool], ...] = (
    ("share", "TCP at 1 Gbit/s, IP bytes", "Gbit/s", "gigabit", GIGABIT.read, Target("≥", 0.99), "ratio", True),
    ("cpu", "CPU of the packet loop at 1 Gbit/s", "ns/packet", "gigabit", CPU, None, "ratio", True),
    ("process", "CPU of the bench beside its loop", "% of a core", "gigabit", BESIDE_LOOP, None, "value", False),
    ("lost", "UDP at 500 Mbit/s: lost", "packets", "paced", at("lost"), Target("≤", 0), "difference", False),
    ("lateness_p50", f"{LATENESS}, p50", "µs", "paced", at("lateness_us", "p50"), None, "difference", False),
    ("lateness_p99", f"{LATENESS}, p99", "µs", "paced", at("lateness_us", "p99"), None, "difference", False),
)

FIGURES = (
    Figure("tcp.of_offloads_on", "TCP, no rate limit", "Gbit/s", TCP, ON, TCP_ON, Target("≥", 0.55)),
    Figure("tcp.of_offloads_off", "TCP, no rate limit", "Gbit/s", TCP, OFF, TCP_OFF, Target("≥", 4)),
    Figure("tcp.of_bare_loop", "TCP, no rate limit", "Gbit/s", TCP, BARE, TCP_BARE, Target("≥", 0.9)),
    Figure("tcp.bare_loop", "TCP, the loop with no stage", "Gbit/s", TCP_BARE, ON, TCP_ON),
    *(
        Figure(
            f"flows.{kind}_{flows}",
            f"TCP, {flows:,} flows: one carries{words}",
            "× as much",
            Reading(f"{trial}/bench", at("cost", str(flows))),
            ON,
            Reading("flows/forwarding", at("cost", str(flows))),
            Target("≤", 1.5) if target else None,
        )
        for trial, kind, words, target in (
            ("flows", "cost", "", True),
            ("small-flows", "small_cost", ", super-packets as Linux cuts them at 20 ms", False),
        )
        for flows in FLOWS[1:]
    ),
    *(
        Figure(
            f"flows.carried_{flows}",
            f"TCP, {flows:,} flow{'s' if flows > 1 else ''} of our own sender",
            "Gbit/s",
            Reading("flows/bench", at("flows", str(flows), "goodput_bps", scale=1e-9)),
            ON,
            Reading("flows/forwarding", at("flows", str(flows), "goodput_bps", scale=1e-9)),
        )
        for flows in FLOWS
    ),
    Figure("tcp.zmq_of_offloads_on", "TCP over ZeroMQ", "Gbit/s", TCP_ZMQ, ON, TCP_ON),
    Figure(
        "tcp.zmq_of_bare",
        "TCP over ZeroMQ",
        "Gbit/s",
        TCP_ZMQ,
        "the same batches, bare sockets of three processes",
        Reading("batches/zmq-bare", GOODPUT),
    ),
    Figure(
        "tcp.curve_of_ipc",
        "TCP over ZeroMQ, tcp:// with CURVE",
        "Gbit/s",
        Reading("tcp/zmq-curve", GOODPUT),
        "by ipc://",
        TCP_ZMQ,
        Target("≥", 1),
        "value",
    ),
    Figure(
        "capture.share",
        "TCP at 1 Gbit/s, all captured",
        "Gbit/s",
        Reading("gigabit/capture", at("link", "delivered_bps", scale=1e-9)),
        "nothing captured",
        GIGABIT,
    ),
    Figure(
        "capture.missed",
        "lost to a capture at 1 Gbit/s",
        "%",
        Reading("gigabit/capture", at("lost_share", scale=100)),
        target=Target("≤", 0.1),
        target_of="value",
    ),
    Figure(
        "capture.dropped",
        "lost by the link then, full queues apart",
        "packets",
        Reading("gigabit/capture", at("link_lost")),
        target=Target("≤", 0),
        target_of="value",
    ),
    Figure(
        "inject.rate",
        "injected, prepared packets",
        "packets/s",
        Reading("inject/bench", at("packets_per_s")),
        target=Target("≥", 50_000),
        target_of="value",
    ),
    Figure(
        "udp.zmq_limit",
        "UDP over ZeroMQ: highest rate without loss",
        "packets/s",
        Reading("limit/zmq", at("packets_per_s")),
        "the link in one process",
        Reading("limit/bench", at("packets_per_s")),
        Target("≥", 80_000),
        "value",
    ),
    Figure(
        "tcp.zmq_of_direct",
        "TCP over ZeroMQ",
        "Gbit/s",
        TCP_ZMQ,
        "the link in one process",
        TCP,
        Target("≥", 4),
        "value",
    ),
    *(
        Figure(
            f"zmq_delay.{name}",
            f"delay error over ZeroMQ at 500 Mbit/s, {name}, real-time",
            "µs",
            Reading("probed/zmq-realtime", at("error_us", name)),
            "the link in one process",
            Reading("probed/bench-realtime", at("error_us", name)),
            Target("≤", 200) if name == "p99" else None,
            "difference",
            divided=False,
        )
        for name in ("p50", "p99")
    ),
    Figure(
        "gigabit.share", "TCP at 1 Gbit/s, IP bytes", "Gbit/s", GIGABIT, "as configured", CONFIGURED, Target("≥", 0.95)
    ),
    Figure(
        "all_stages.share",
        "TCP at 1 Gbit/s, every stage on, IP bytes",
        "Gbit/s",
        Reading("all-stages/bench", at("link", "delivered_bps", scale=1e-9)),
        "as configured",
        Reading("all-stages/bench", lambda record: 1.0),
        Target("≥", 0.95),
    ),
    Figure(
        "all_stages.cpu",
        "CPU of the packet loop, every stage on",
        "ns/packet",
        Reading("all-stages/bench", at("link", "loop_cpu_ns_per_packet")),
        "a plain link at 1 Gbit/s",
        Reading("gigabit/bench", at("link", "loop_cpu_ns_per_packet")),
    ),
    *(
        Figure(
            f"stages.{name}",
            f"a packet in the path, {name}",
            "ns",
            Reading("stages/memory", at("ns", name)),
            PLAIN,
            Reading("stages/memory", at("ns", PLAIN)),
            Target("≤", 1.2) if name == "100 classes" else None,
        )
        for name in STAGES
    ),
    *(
        Figure(
            f"gigabit.lateness_{name}",
            f"lateness at 1 Gbit/s, {name}",
            "µs",
            Reading("gigabit/bench", at("link", "lateness_us", name)),
            target=Target("≤", 20) if name == "p50" else None,
            target_of="value",
        )
        for name in ("p50", "p99", "p99.9")
    ),
    Figure(
        "ten_gigabit.share",
        "TCP at 10 Gbit/s, IP bytes",
        "Gbit/s",
        TEN,
        "as configured",
        TEN_CONFIGURED,
        Target("≥", 0.9),
    ),
    *(
        Figure(
            f"paced{place.replace('-', '_')}.lateness_{name}",
            f"lateness at 500 Mbit/s, {name}{', real-time' if place else ''}",
            "µs",
            Reading(f"paced/bench{place}", at("lateness_us", name)),
            BARE,
            Reading(f"paced/bare{place}", at("lateness_us", name)),
            Target("≤", limit) if place else None,
            "value",
            divided=False,
        )
        for place in ("", "-realtime")
        for name, limit in (("p50", 5), ("p99", 50), ("p99.9", 500))
    ),
    *(
        Figure(
            f"stubs.{name}",
            f"{what}, stubs asked",
            unit,
            Reading(f"{load}/stubs", read),
            "nobody asked",
            Reading(f"{load}/bench", read),
            target,
            target_of,
            divided,
        )
        for name, what, unit, load, read, target, target_of, divided in STUBS
    ),
    *(
        Figure(
            f"antenna.felt_{name}",
            f"from an antenna's report to the packets, {words}",
            "ms",
            Reading("felt/antenna", at("reaction_ms", name)),
            target=Target("≤", 50) if name == "longest" else None,
            target_of="value",
        )
        for name, words in (("p50", "p50"), ("p99", "p99"), ("longest", "the longest"))
    ),
    Figure("udp.arrived", "UDP, 64 bytes: arrived", "packets/s", Reading("udp/bench", arrived), ON, UDP_ON),
    Figure(
        "udp.lost",
        "UDP, 64 bytes: lost",
        "packets",
        Reading("udp/bench", at("lost")),
        ON,
        UDP_ON_LOST,
        NONE_LOST,
        "value",
    ),
    *(
        Figure(
            f"sizes.{kind}_{size}",
            f"UDP, {size:,} IP bytes: {kind}",
            unit,
            Reading("sizes/bench", read(size)),
            ON,
            Reading("sizes/forwarding", read(size)),
            NONE_LOST if kind == "lost" else None,
            "value",
        )
        for size in SIZES
        for kind, unit, read in (
            ("arrived", "packets/s", lambda size: lambda record: arrived(record["sizes"][str(size)])),
            ("lost", "packets", lambda size: at("sizes", str(size), "lost")),
        )
    ),
    Figure("udp.zmq_arrived", "UDP over ZeroMQ: arrived", "packets/s", Reading("udp/zmq", arrived), ON, UDP_ON),
    Figure("udp.zmq_lost", "UDP over ZeroMQ: lost", "packets", Reading("udp/zmq", at("lost")), ON, UDP_ON_LOST),
    Figure(
        "udp.limit",
        "UDP: highest rate without loss",
        "packets/s",
        Reading("limit/bench", at("packets_per_s")),
        ON,
        LIMIT_ON,
        Target("≥", 150_000),
        "value",
    ),
    *(
        Figure(
            f"delay.{name}",
            f"one-way delay over the commanded, {name}",
            "µs",
            Reading("delay/bench", at("error_us", name)),
            ON,
            Reading("delay/forwarding", at("error_us", name)),
            Target("≤", 20) if name == "p50" else None,
            "difference",
            divided=False,
        )
        for name in ("p50", "p99")
    ),
    Figure(
        "start.first_packet",
        "from command to first packet back",
        "s",
        Reading("start/shell", at("seconds")),
        "Python importing NumPy and Numba",
        PYTHON,
        Target("≤", 3),
        "value",
    ),
    *(
        Figure(
            f"tests.{key}",
            what,
            unit,
            Reading(f"{trial}/python", at(name, scale=scale)),
            target=target,
            target_of="value",
        )
        for key, what, unit, trial, name, scale, target in (
            ("fixture", "a test's bench, up and down", "ms", "fixture", "ms", 1.0, Target("≤", 300)),
            ("fixture_longest", "the same, the longest of ten", "ms", "fixture", "longest_ms", 1.0, None),
            ("report", "report of a run of ten minutes", "s", "report", "seconds", 1.0, Target("≤", 5)),
            ("report_cores", "the same, time of cores", "s", "report", "cores_s", 1.0, None),
            ("page", "the same, its page", "MB", "report", "page_bytes", 1e-6, Target("≤", 5)),
            ("sweep", "200 runs of ten minutes in virtual time", "s", "sweep", "seconds", 1.0, Target("≤", 60)),
            ("sweep_cores", "the same, time of cores", "s", "sweep", "cores_s", 1.0, None),
        )
    ),
    Figure("cpu.tcp", "CPU of the packet loop, TCP", "ns/packet", Reading("tcp/bench", CPU)),
    Figure("cpu.udp", "CPU of the packet loop, UDP", "ns/packet", Reading("udp/bench", CPU)),
    Figure(
        "memory.growth",
        "memory of the link, TCP",
        "MB",
        Reading("tcp/bench", growth),
        "stated ceiling",
        CEILING,
        Target("≤", 1),
    ),
    Figure(
        "memory.process",
        "memory of the process, TCP",
        "MB",
        Reading("tcp/bench", at("memory", "peak_bytes", scale=1e-6)),
    ),
)
