"""The names of what can be measured; apart from the measures, so that the help text need not import NumPy."""

from __future__ import annotations

MEASURES = {
    "tcp": ("tcp/forwarding", "tcp/forwarding-off", "tcp/bench"),
    "gigabit": ("gigabit/bench",),
    "udp": ("udp/forwarding", "udp/bench"),
    "udp-limit": ("limit/forwarding", "limit/bench"),
    "zmq-tcp": ("tcp/forwarding", "tcp/bench", "tcp/zmq"),
    "zmq-udp": ("udp/forwarding", "udp/zmq"),
    "delay": ("delay/forwarding", "delay/bench"),
    "start": ("start/python", "start/shell"),
}
QUICK = ("tcp", "gigabit", "udp", "zmq-tcp", "zmq-udp", "start")
"""What a quick run measures; the rest takes longer than its time."""

PLACES = {
    "forwarding": "by kernel forwarding",
    "forwarding-off": "by kernel forwarding, offloads off",
    "bench": "through the link",
    "zmq": "through the link over ZeroMQ",
    "python": "without a bench",
    "shell": "through `bentpipe shell`",
}
