"""What telemetry tells, topic by topic: the one source of docs/reference/telemetry.md.

A message has two frames: the topic as text, and one msgpack map {"version": 1, "topic": …, "sequence": …, "utc_ns": …,
"monotonic_ns": …, "author": …, "data": {…}}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

from emulator.control.messages import MAX_MESSAGE_BYTES, MessageError, plain

VERSION = 1
SOCKET_NAME = "telemetry.ipc"  # in the bench's runtime directory


class Topic(NamedTuple):
    """When it is told, and what is in its `data`."""

    when: str
    data: str
    logged: bool = True


TOPICS = {
    "snapshot": Topic(
        "to everybody when somebody subscribes, at most five times a second",
        "`state` now; `counters`, `lag` as last told; `sequences`: the next `sequence` of each topic; `pending`: the "
        "commands in force or still to come; `standing`: whether the Timeline stands still; `scenario`, `seed`",
        logged=False,
    ),
    "counters": Topic(
        "each second",
        "`uplink`, `downlink`: `offered_packets`, `offered_bytes`, `delivered_packets`, `delivered_bytes`, "
        "`queued_packets`, `flying_packets`, `held_packets`, `dropped_packets`, `dropped` by cause, `lanes`; since the "
        "start of the bench, a snapshot that adds up",
        logged=False,
    ),
    "lag": Topic(
        "each second",
        "by how many µs the packets of that second were written too late: `p50_us`, `p99_us`, `p999_us`, `worst_us` "
        "(10000 stands for more), null without packets; `ingress_wait_worst_us` since the start; `starved`: how often "
        "the plan had ended",
        logged=False,
    ),
    "ends": Topic(
        "each second, where the ends of the link are processes or machines of their own",
        "`terminal`, `gateway`: `connected`, `connections` so far; `clock`: `offset_ns` of the end's to the link's, "
        "`drift_ppm`, `error_ns`, `round_trip_ns`, `exchanges`, `steps`, `shared` if both are one clock; "
        "`lost_packets` for want of room or link, `died_packets` with an end or a connection; `late_packets` that came "
        "after they were due, `late_worst_ns`; `broken_messages`",
        logged=False,
    ),
    "state": Topic("at every change of the link", "as the verb [`state`](control.md#state)", logged=False),
    "slot": Topic("when a scheduling slot begins", "`slot`: its number since 1970; `satellite`, `gateway`"),
    "handover": Topic(
        "when satellite or gateway change", "`satellite`, `gateway`, `from_satellite`, `from_gateway`; empty for none"
    ),
    "outage": Topic(
        "when a gate shuts, but for handovers, and when it opens again",
        "`direction`, `cause`, `begins`; at its end `lasted_ns`",
    ),
    "drops": Topic(
        "when a burst of drops is over, or has lasted for some seconds",
        "`direction`, `cause`, `packets`, `from_monotonic_ns`, `until_monotonic_ns`: within these times, which are "
        "250 ms apart at least",
    ),
    "command": Topic(
        "when a command is accepted for later, when it is done, and when one is refused",
        "`number` (none if refused), `verb`, `phase` (accepted, done, failed, refused), `late_ns`, `values`; `error` "
        "if it failed or was refused; of refusals at most ten a second",
    ),
    "warning": Topic("when the bench has something to say", "`text`"),
    "start": Topic("when the bench carries packets: in the log only", "`scenario`, `seed`, `fabric`"),
    "end": Topic("when the bench ends", ""),
}


def encode_message(
    topic: str, sequence: int, utc_ns: int, monotonic_ns: int, data: Mapping[str, Any], author: str = ""
) -> list[bytes]:
    """The two frames of a message."""
    head = {"version": VERSION, "topic": topic, "sequence": sequence, "utc_ns": utc_ns, "monotonic_ns": monotonic_ns}
    packed: bytes = msgpack.packb({**head, "author": author, "data": plain(data)}, use_bin_type=True)
    return [topic.encode(), packed]


def decode_message(frames: list[bytes]) -> dict[str, Any]:
    """The map of a message. Raises MessageError, whatever the frames are."""
    if len(frames) != 2 or len(frames[1]) > MAX_MESSAGE_BYTES:
        raise MessageError("expected two frames, topic and map")
    try:
        message = msgpack.unpackb(frames[1], raw=False, strict_map_key=True)
    except Exception as error:
        raise MessageError("expected one msgpack map, got bytes that are not msgpack") from error
    if not isinstance(message, dict) or message.get("version") != VERSION or not isinstance(message.get("data"), dict):
        raise MessageError(f"expected a map of version {VERSION}")
    if not isinstance(message.get("sequence"), int) or message.get("topic") != frames[0].decode("utf-8", "replace"):
        raise MessageError("expected a sequence, and the topic of the first frame")
    return message
