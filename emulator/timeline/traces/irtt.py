"""JSON of `irtt client -o FILE`: each round trip with its one-way delays, and in which direction it was lost."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from emulator.errors import TraceError
from emulator.timeline.model import LOSS_ONE, Timeline
from emulator.timeline.traces.rows import (
    LONGEST_DELAY_NS,
    Probes,
    ReadOptions,
    carried,
    channel,
    end_after,
    fault,
    require_rising,
    timeline,
)

LOST = {  # irtt's word → lost on the way up, on the way down; "true": it does not know
    "false": (False, False), "true": (True, True), "true_up": (True, False), "true_down": (False, True),
}  # fmt: skip


def read(name: str, document: Any, options: ReadOptions) -> Timeline:
    """Uplink is from the client to the server. Raises TraceError.

    One-way delays of two machines are as good as their clocks: a negative one is refused unless `halve_rtt` is asked.
    """
    trips = document.get("round_trips")
    if not isinstance(trips, list) or not trips:
        raise fault(name, "round_trips", "an array of round trips (`irtt client -o FILE`)", repr(trips))
    sent: list[int] = []
    places: list[int | str] = []
    delays: dict[str, list[int | None]] = {"up": [], "down": []}
    losses: dict[str, list[bool]] = {"up": [], "down": []}
    for number, trip in enumerate(trips):
        place = f"round_trips[{number}]"
        if not isinstance(trip, dict) or trip.get("lost") not in LOST:
            raise fault(name, place, f"an object with lost as one of {', '.join(LOST)}", repr(trip))
        sent.append(_whole(name, f"{place}.timestamps.client.send.wall", trip))
        places.append(place)
        up_lost, down_lost = LOST[trip["lost"]]
        losses["up"].append(up_lost)
        losses["down"].append(down_lost)
        up, down = None, None
        if not (up_lost or down_lost):
            if options.halve_rtt:
                up = down = _delay(name, f"{place}.delay.rtt", trip) // 2
            else:
                up, down = (_delay(name, f"{place}.delay.{way}", trip) for way in ("send", "receive"))
        delays["up"].append(up)
        delays["down"].append(down)
    require_rising(name, sent, places, options.gap_ns)
    starts = np.array(sent, np.int64)
    ways = [
        channel(starts, carried(delays[way], name), loss=np.array(losses[way]) * LOSS_ONE) for way in ("up", "down")
    ]
    return timeline(ways[0], ways[1], end_after(sent))


def _whole(name: str, place: str, trip: dict[str, Any]) -> int:
    value: Any = trip
    for key in place.split(".")[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise fault(name, place, "a whole number of ns", "a hole" if value is None else repr(value))
    return value


def _delay(name: str, place: str, trip: dict[str, Any]) -> int:
    value = _whole(name, place, trip)
    if value < 0:
        raise fault(name, place, "a delay of 0 or more (two clocks disagree: halve the round trip)", f"{value} ns")
    if value > LONGEST_DELAY_NS:
        raise fault(name, place, f"a delay of at most {LONGEST_DELAY_NS} ns", f"{value} ns")
    return value


def write(seen: Probes) -> str:
    """A document with what is read of it: round trips, delays, stamps of the client."""
    trips = []
    rows = zip(*(getattr(seen, name).tolist() for name in seen.__dataclass_fields__), strict=True)
    for number, (sent_ns, up_ns, down_ns, up_lost, down_lost) in enumerate(rows):
        trip: dict[str, Any] = {
            "seqno": number,
            "lost": next(word for word, ways in LOST.items() if ways == (bool(up_lost), bool(down_lost))),
            "timestamps": {"client": {"send": {"wall": sent_ns}}},
            "delay": {},
        }
        if not (up_lost or down_lost):
            trip["timestamps"]["client"]["receive"] = {"wall": sent_ns + up_ns + down_ns}
            trip["delay"] = {"send": up_ns, "receive": down_ns, "rtt": up_ns + down_ns}
        trips.append(trip)
    if not trips:
        raise TraceError("irtt: expected at least one round trip, got none")
    lines = ",\n".join(map(json.dumps, trips))  # a line each: json's own indentation takes four times as long
    return f'{{"version": {{"protocol": 1, "json_format": 1}}, "round_trips": [\n{lines}\n]}}\n'
