"""What the two processes of the ZeroMQ fabric tell each other of a link: the mirrored link, and how it is packed.

Arrivals and departures are `batch`'s; here is what goes over the control socket, as plain msgpack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from emulator.link.link import Change, Link, LinkOptions, pack_options
from emulator.timeline.model import Channel


class MirroredLink(Link):
    """The far end of a direction: the delay line of what has crossed, and a mirror of the channel for who asks.

    What changes the channel goes to the link process too, once `connect` has given a way to it.
    """

    def __init__(
        self,
        beginning: Channel,
        end_ns: int,
        *,
        seed: int,
        direction: int,
        options: LinkOptions | None = None,
        utc_offset_ns: int = 0,
    ) -> None:
        self._tell: Any = None
        self.setup = {
            "verb": "setup",
            "direction": direction,
            "seed": seed,
            "utc_offset_ns": utc_offset_ns,
            "end_ns": end_ns,
            "options": pack_options(options or LinkOptions()),
            "rows": pack_channel(beginning),
        }
        super().__init__(
            beginning, end_ns, seed=seed, direction=direction, options=options, utc_offset_ns=utc_offset_ns
        )
        self.direction = direction

    def connect(self, tell: Any) -> None:
        """From now on `tell(message)` takes each change to the link process."""
        self._tell = tell
        tell(self.setup)

    def extend(self, window: Channel, end_ns: int, now_ns: int | None = None) -> bool:
        if not super().extend(window, end_ns, now_ns):
            return False
        if self._tell:
            rows = pack_channel(window)
            self._tell(
                {"verb": "extend", "direction": self.direction, "end_ns": end_ns, "now_ns": now_ns, "rows": rows}
            )
        return True

    def replan(self, window: Channel, end_ns: int, utc_offset_ns: int) -> None:
        super().replan(window, end_ns, utc_offset_ns)
        if self._tell:
            plan = {"end_ns": end_ns, "utc_offset_ns": utc_offset_ns, "rows": pack_channel(window)}
            self._tell({"verb": "replan", "direction": self.direction, **plan})

    def set_limit(self, lane: int, packets: int | None = None, queue_bytes: int | None = None) -> None:
        super().set_limit(lane, packets, queue_bytes)
        if self._tell:
            limits = {"lane": lane, "packets": packets, "queue_bytes": queue_bytes}
            self._tell({"verb": "limit", "direction": self.direction, **limits})

    def overlay(self, changes: Sequence[Change]) -> None:
        super().overlay(changes)
        if self._tell:
            self._tell(
                {"verb": "overlay", "direction": self.direction, "changes": [asdict(change) for change in changes]}
            )

    def set_utc_offset(self, utc_minus_monotonic_ns: int) -> None:
        super().set_utc_offset(utc_minus_monotonic_ns)
        if self._tell:
            self._tell({"verb": "offset", "direction": self.direction, "utc_offset_ns": utc_minus_monotonic_ns})


def pack_channel(channel: Channel) -> bytes:
    return np.stack([getattr(channel, field.name) for field in fields(channel)]).tobytes()


def unpack_channel(packed: bytes) -> Channel:
    columns = np.frombuffer(packed, np.int64).reshape(len(fields(Channel)), -1)
    return Channel(*(column.copy() for column in columns))
