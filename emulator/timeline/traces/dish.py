"""The history of a Starlink dish as JSON: 900 samples of a second each, of the pings to the point of presence.

As `grpcurl -d '{"get_history":{}}' 192.168.100.1:9200 SpaceX.API.Device.Device/Handle` prints it, and as the tools
for this interface keep it. Throughput in it is what was used and not what could be had: no rate is read from it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from emulator.errors import TraceError
from emulator.timeline.causes import Cause, Gate
from emulator.timeline.model import LOSS_ONE, Timeline
from emulator.timeline.table import delay_at, rows_at
from emulator.timeline.traces.rows import (
    LONGEST_DELAY_NS,
    ReadOptions,
    carried,
    channel,
    fault,
    timeline,
)
from emulator.units import NS_PER_MS, NS_PER_S

DROPS, LATENCIES = ("popPingDropRate", "pop_ping_drop_rate"), ("popPingLatencyMs", "pop_ping_latency_ms")


def history_of(document: Any) -> Any:
    """The history in a document: itself, or below `dishGetHistory`; None if there is none."""
    if not isinstance(document, dict):
        return None
    inner = next((document[key] for key in ("dishGetHistory", "dish_get_history") if key in document), document)
    return inner if isinstance(inner, dict) and any(key in inner for key in LATENCIES) else None


def read(name: str, document: Any, options: ReadOptions) -> Timeline:
    """Seconds since an unknown time, 1970; half of a round trip for each direction. Raises TraceError.

    A second in which all pings were lost is one in which nothing gets through. The ring is unrolled by `current`, the
    samples since boot; without it, the arrays are taken to begin with the oldest.
    """
    history = history_of(document)
    drops, latencies = (_array(name, history, keys) for keys in (DROPS, LATENCIES))
    if len(drops) != len(latencies):
        raise fault(name, LATENCIES[0], f"{len(drops)} samples, as many as of {DROPS[0]}", str(len(latencies)))
    place = list(range(len(drops)))
    if "current" in history:
        current = int(str(history["current"])) if str(history["current"]).isdecimal() else -1
        if current < 0:
            raise fault(name, "current", "a whole number of samples", repr(history["current"]))
        first = max(0, current - len(drops))
        place = [sample % len(drops) for sample in range(first, current)]
    if not place:
        raise TraceError(f"{name}: expected at least one sample, got none")
    losses, delays = [], []
    for index in place:
        drop, latency_ms = drops[index], latencies[index]
        if not 0 <= drop <= 1:
            raise fault(name, f"{DROPS[0]}[{index}]", "a share from 0 to 1", str(drop))
        if latency_ms < 0 or latency_ms * NS_PER_MS > LONGEST_DELAY_NS:
            raise fault(name, f"{LATENCIES[0]}[{index}]", "0 to 600,000 ms", str(latency_ms))
        if latency_ms == 0 and drop < 1:
            raise fault(name, f"{LATENCIES[0]}[{index}]", "a latency, as not all pings were lost", "a hole")
        losses.append(drop)
        delays.append(round(latency_ms * NS_PER_MS / 2) if drop < 1 else None)
    starts = np.arange(len(place), dtype=np.int64) * NS_PER_S
    share = np.array(losses)
    # A ping is lost if it is in either direction: 1 − (1 − p)² is the share of the round trip.
    loss = np.where(share < 1, np.rint((1 - np.sqrt(1 - share)) * LOSS_ONE), 0).astype(np.int64)
    one = channel(
        starts,
        carried(delays, name),
        loss=loss,
        gate=np.where(share < 1, Gate.PASS, Gate.DROP),
        cause=np.where(share < 1, Cause.NONE, Cause.NO_PINGS),
    )
    return timeline(one, one, len(place) * NS_PER_S)


def _array(name: str, history: dict[str, Any], keys: tuple[str, ...]) -> list[float]:
    values = next((history[key] for key in keys if key in history), None)
    if not isinstance(values, list) or not values:
        raise fault(name, keys[0], "an array of numbers", repr(values))
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise fault(name, f"{keys[0]}[{index}]", "a number", "a hole" if value is None else repr(value))
    return [float(value) for value in values]


def write(line: Timeline) -> str:
    """Seconds of a Timeline as such a history, in order of time."""
    seconds = np.arange(line.start_ns, line.end_ns, NS_PER_S, dtype=np.int64)
    up, down = rows_at(line.uplink.start_ns, seconds), rows_at(line.downlink.start_ns, seconds)
    through = (1 - line.uplink.loss[up] / LOSS_ONE) * (1 - line.downlink.loss[down] / LOSS_ONE)
    shut = (line.uplink.gate[up] == Gate.DROP) | (line.downlink.gate[down] == Gate.DROP)
    rtt_ns = delay_at(line.uplink, seconds) + delay_at(line.downlink, seconds)
    if np.any((rtt_ns == 0) & ~shut):
        raise TraceError("dish: expected delays above 0, for a latency of 0 is a sample that is missing")
    history = {
        "current": str(len(seconds)),  # 64 bits are text in JSON of protobuf
        DROPS[0]: np.where(shut, 1.0, 1 - through).tolist(),
        LATENCIES[0]: np.where(shut, 0.0, rtt_ns / NS_PER_MS).tolist(),
    }
    return json.dumps({"apiVersion": "42", "dishGetHistory": history}, indent=1) + "\n"
