"""A bench's answers in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from emulator.units import NS_PER_MS, format_utc


def state_lines(state: Mapping[str, Any]) -> Iterator[str]:
    """The link now, as `ctl state` and the telemetry have it."""
    if "utc_ns" in state:
        yield f"{'utc':9} {format_utc(state['utc_ns'])}"
    if state.get("satellite"):
        yield f"{'by':9} {_way(state)}"
    for direction in ("uplink", "downlink"):
        if direction in state:
            yield f"{direction:9} {_channel(state[direction])}"
    if state.get("next_handover_ns") is not None:
        yield f"{'handover':9} {format_utc(state['next_handover_ns'])}"
    if antenna := state.get("antenna"):
        locked = "locked" if antenna["locked"] else "not locked"
        off_deg = antenna["off_deg"]
        off = "where it points is not known" if off_deg is None else f"{off_deg:.2f}° off the satellite"
        yield f"{'antenna':9} {off}, {locked}"
    if state.get("dish"):
        yield f"{'dish':9} {state['dish']}"


def _way(state: Mapping[str, Any]) -> str:
    way = str(state["satellite"])
    if state.get("gateway"):
        way += f" and {state['gateway']}"
    if state.get("elevation_deg") is not None:
        way += f": azimuth {state['azimuth_deg']:.1f}°, elevation {state['elevation_deg']:.1f}°"
        way += f", {state['slant_range_m'] / 1000:.0f} km"
    return way


def _channel(channel: Mapping[str, Any]) -> str:
    words = [f"{channel['delay_ns'] / NS_PER_MS:.3f} ms one way"]
    if "rate_bps" in channel:
        words.append(f"{channel['rate_bps'] / 1e6:.6g} Mbit/s" if channel["rate_bps"] else "no limit of the rate")
    if "loss" in channel:
        words.append(f"loss {channel['loss']:.3%}")
    gate, cause = str(channel["gate"]).lower(), str(channel.get("cause", "none")).lower()
    words.append(f"gate {gate}" if cause == "none" else f"gate {gate} ({cause})")
    return ", ".join(words)
