"""What is planned ahead, in a form that any language reads."""

from __future__ import annotations

from typing import Any

from emulator.timeline.causes import Cause, Gate
from emulator.timeline.marks import MARKS, changes
from emulator.timeline.model import LOSS_ONE, Channel, Timeline, Windows
from emulator.timeline.splice import cut_timeline
from emulator.units import NS_PER_S


def plan_of(windows: Windows, start_ns: int, duration_s: float) -> dict[str, Any]:
    """The plan from UTC `start_ns` on; rows hold from their `utc_ns` to the next row's."""
    end_ns = start_ns + round(duration_s * NS_PER_S)
    floor_ns = start_ns - start_ns % NS_PER_S
    whole = windows.window(floor_ns, floor_ns + -(-(end_ns - floor_ns) // NS_PER_S) * NS_PER_S)
    timeline = cut_timeline(whole, start_ns, end_ns)
    marks: dict[str, list[int]] = {
        mark: [at for at in changes(whole, mark) if start_ns < at < end_ns] for mark in MARKS
    }
    if not windows.slotted:
        marks["slot"] = []
    return {
        "start_ns": start_ns,
        "end_ns": end_ns,
        **marks,
        "path": _path(timeline),
        "uplink": _channel(timeline.uplink),
        "downlink": _channel(timeline.downlink),
    }


def _path(timeline: Timeline) -> list[dict[str, Any]]:
    path, rows = timeline.path, []
    for row in range(len(path)):
        satellite, gateway = int(path.satellite[row]), int(path.gateway[row])
        rows.append(
            {
                "utc_ns": int(path.start_ns[row]),
                "satellite": timeline.satellites[satellite] if satellite >= 0 else "",
                "gateway": timeline.gateways[gateway] if gateway >= 0 else "",
                "elevation_deg": float(path.elevation_deg[row]) if satellite >= 0 else None,
                "slot": int(path.slot[row]),
            }
        )
    return rows


def _channel(channel: Channel) -> list[dict[str, Any]]:
    columns = (channel.start_ns, channel.delay_ns, channel.rate_bps, channel.loss, channel.gate, channel.cause)
    return [
        {
            "utc_ns": at,
            "delay_ns": delay,
            "rate_bps": rate,
            "loss": loss / LOSS_ONE,
            "gate": Gate(gate).name,
            "cause": Cause(cause).name,
        }
        for at, delay, rate, loss, gate, cause in zip(*(column.tolist() for column in columns), strict=True)
    ]
