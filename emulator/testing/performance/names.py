"""The names of what can be measured; apart from the measures, so that the help text need not import NumPy."""

from __future__ import annotations

MEASURES = {
    "tcp": ("tcp/forwarding", "tcp/forwarding-off", "tcp/bare", "tcp/bench"),
    "flows": ("flows/forwarding", "flows/bench", "small-flows/bench"),
    "gigabit": ("gigabit/bench",),
    "all-stages": ("all-stages/bench", "gigabit/bench"),
    "stages": ("stages/memory",),
    "ten-gigabit": ("ten-gigabit/bench",),
    "lateness": ("paced/bare", "paced/bench"),
    "lateness-realtime": ("paced/bare-realtime", "paced/bench-realtime"),
    "udp": ("udp/forwarding", "udp/bench"),
    "udp-sizes": ("sizes/forwarding", "sizes/bench"),
    "udp-limit": ("limit/forwarding", "limit/bench"),
    "zmq-tcp": ("tcp/forwarding", "tcp/bench", "tcp/zmq"),
    "zmq-udp": ("udp/forwarding", "udp/zmq"),
    "zmq-limit": ("limit/bench", "limit/zmq"),
    "zmq-curve": ("tcp/zmq", "tcp/zmq-curve"),
    "zmq-delay": ("probed/bench-realtime", "probed/zmq-realtime"),
    "zmq-bare": ("batches/zmq-bare", "tcp/zmq"),
    "capture": ("gigabit/bench", "gigabit/capture"),
    "inject": ("inject/bench",),
    "stubs": ("gigabit/bench", "gigabit/stubs", "paced/bench", "paced/stubs"),
    "antenna": ("felt/antenna",),
    "delay": ("delay/forwarding", "delay/bench"),
    "start": ("start/python", "start/shell"),
    "tests": ("fixture/python", "report/python", "sweep/python"),
}
QUICK = ("tcp", "gigabit", "lateness", "udp", "zmq-tcp", "zmq-udp", "start")
"""What a quick run measures; the rest takes longer than its time."""
BY_NAME = ("stubs", "antenna", "tests")
"""What is measured where it is asked for alone: the terminal's hardware and tests, not the path of the packets."""
USUAL = tuple(name for name in MEASURES if name not in BY_NAME)

FLOWS = (1, 100, 1000)
SIZES = (64, 512, 1500)  # IP bytes of a UDP packet
PLAIN = "one class"  # the variant of a link beside which all others stand
SUPERS = "in super-packets, no rate limit"
STAGES = (
    PLAIN,
    SUPERS,
    "100 classes",
    "1,000 flows",
    "codel",
    "pie",
    "fq_codel, 1,000 flows",
    "frames and grants",
    "bursts, doubles, lateness",
    "token bucket",
    "opportunities",
    "correlated jitter",
    "egress rate",
    "ledger",
    "own stage",
    "all of them",
)

PLACES = {
    "forwarding": "by kernel forwarding",
    "forwarding-off": "by kernel forwarding, offloads off",
    "bare": "through the loop with no stage",
    "bare-realtime": "through the loop with no stage at real-time priority",
    "bench": "through the link",
    "bench-realtime": "through the link at real-time priority",
    "zmq": "through the link over ZeroMQ",
    "zmq-realtime": "through the link over ZeroMQ at real-time priority",
    "zmq-curve": "through the link over ZeroMQ by tcp:// with CURVE",
    "zmq-bare": "through bare ZeroMQ sockets of three processes",
    "capture": "through the link while all of it is captured",
    "memory": "in memory, without ports",
    "stubs": "through the link while its stubs are asked",
    "antenna": "by packets where the antenna points",
    "python": "without a bench",
    "shell": "through `bentpipe shell`",
}
